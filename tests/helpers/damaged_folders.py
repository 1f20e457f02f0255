"""
Folders of models that were damaged, or made to do harm: each kind is a function that changes a copy of a good one.

`DAMAGES[kind](folder, random)`: a URM's folder, and a seeded generator that chooses where. `CANARY` is a file that any
code of a folder writes when it runs, `OUTSIDE` one that nobody may change.
"""

import json
import os
import pickle
import random
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

CANARY, OUTSIDE = "canary", "outside"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
Damage = Callable[[Path, random.Random], None]
DAMAGES: dict[str, Damage] = {}


def damage(function: Damage) -> Damage:
    DAMAGES[function.__name__.replace("_", " ")] = function
    return function


def edit_json(path: Path, **changes):
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({k: v for k, v in (content | changes).items() if v is not ...}))


def edit_backbone(folder: Path, **changes):
    backbone = json.loads((folder / "config.json").read_text())["backbone_config"]
    edit_json(folder / "config.json", backbone_config={k: v for k, v in (backbone | changes).items() if v is not ...})


class Evil:
    """Unpickled, it writes the canary."""

    def __init__(self, folder: Path):
        self.canary = str(folder.parent / CANARY)

    def __reduce__(self):
        return (open, (self.canary, "w"))


# Weights


@damage
def weights_cut(folder, generator):
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[: generator.randrange(len(content))])


@damage
def weights_empty(folder, generator):
    (folder / WEIGHTS).write_bytes(b"")


@damage
def weights_with_a_gigantic_header(folder, generator):
    size = generator.choice([2**40, 2**63, 2**64 - 1])
    (folder / WEIGHTS).write_bytes(size.to_bytes(8, "little") + b"{}")


@damage
def weights_with_garbage_in_the_header(folder, generator):
    content = bytearray((folder / WEIGHTS).read_bytes())
    for _ in range(20):
        content[generator.randrange(8, 2000)] = generator.randrange(256)
    (folder / WEIGHTS).write_bytes(bytes(content))


@damage
def a_tensor_missing(folder, generator):
    tensors = load_file(folder / WEIGHTS)
    del tensors[generator.choice(sorted(tensors))]
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


@damage
def a_tensor_too_many(folder, generator):
    tensors = load_file(folder / WEIGHTS) | {"score.more": torch.zeros(3)}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


@damage
def a_tensor_of_another_shape(folder, generator):
    tensors = load_file(folder / WEIGHTS)
    key = generator.choice(sorted(tensors))
    tensors[key] = torch.zeros(7, 3)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


@damage
def no_weights(folder, generator):
    (folder / WEIGHTS).unlink()


@damage
def pickled_weights_alone(folder, generator):
    (folder / WEIGHTS).unlink()
    for name in ("pytorch_model.bin", "model.pt", "adapter_model.bin"):
        (folder / name).write_bytes(pickle.dumps(Evil(folder)))


@damage
def an_index_that_names_what_is_not_there(folder, generator):
    keys = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    (folder / INDEX).write_text(json.dumps({"weight_map": dict.fromkeys(keys, "model-00001-of-00002.safetensors")}))


@damage
def an_index_that_names_files_outside(folder, generator):
    keys = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).replace(folder.parent / "elsewhere.safetensors")
    there = generator.choice(["../elsewhere.safetensors", str(folder.parent / "elsewhere.safetensors")])
    (folder / INDEX).write_text(json.dumps({"weight_map": dict.fromkeys(keys, there)}))


@damage
def an_index_that_names_a_pickle(folder, generator):
    keys = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Evil(folder)))
    (folder / INDEX).write_text(json.dumps({"weight_map": dict.fromkeys(keys, "pytorch_model.bin")}))


@damage
def an_index_that_is_garbage(folder, generator):
    (folder / WEIGHTS).unlink()
    content = generator.choice(["[]", "{}", '{"weight_map": []}', '{"weight_map": {"a": 3}}', "{", "\udcff", ""])
    (folder / INDEX).write_bytes(content.encode(errors="surrogateescape"))


# config.json


@damage
def config_that_is_no_object(folder, generator):
    content = generator.choice(["[1, 2]", "3", '"urm"', "null", "true", "", "{", "NaN", "[" * 100_000])
    (folder / "config.json").write_text(content)


@damage
def config_that_is_not_text(folder, generator):
    (folder / "config.json").write_bytes(bytes(generator.randrange(128, 256) for _ in range(50)))


@damage
def config_without_a_key(folder, generator):
    edit_json(folder / "config.json", **{generator.choice(["model_type", "backbone_config", "attributes"]): ...})


@damage
def config_with_a_value_of_another_type(folder, generator):
    config = json.loads((folder / "config.json").read_text())
    key = generator.choice(["attributes", "label_means", "label_stds", "log_std_bounds", "gating_hidden_size"])
    wrong = generator.choice([3, "three", [], {"a": 1}, [[1]], [None], ["a", "b", "c"], -1, 0.5, True])
    edit_json(folder / "config.json", **{key: wrong if wrong != config[key] else "other"})


@damage
def backbone_with_a_value_of_another_type(folder, generator):
    keys = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size", "intermediate_size", "model_type")
    edit_backbone(folder, **{generator.choice(keys): generator.choice(["three", [], {}, None, -1, 0.5, "urm"])})


@damage
def backbone_without_a_key(folder, generator):
    keys = ("model_type", "hidden_size", "num_hidden_layers", "vocab_size", "intermediate_size")
    edit_backbone(folder, **{generator.choice(keys): ...})


@damage
def gigantic_sizes(folder, generator):
    keys = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size", "intermediate_size", "head_dim")
    edit_backbone(folder, **{generator.choice(keys): generator.choice([10**7, 2**40, 10**30])})


@damage
def a_gigantic_gate(folder, generator):
    edit_json(folder / "config.json", gating_hidden_size=generator.choice([10**6, 10**9, 10**20]))


@damage
def many_attributes(folder, generator):
    edit_json(folder / "config.json", attributes=[f"a{i}" for i in range(10**5)], label_means=..., label_stds=...)


@damage
def another_number_of_attributes(folder, generator):
    edit_json(folder / "config.json", attributes=["a", "b", "c"], label_means=[0.0] * 3, label_stds=[1.0] * 3)


@damage
def label_stds_that_are_none(folder, generator):
    n = len(json.loads((folder / "config.json").read_text())["attributes"])
    edit_json(folder / "config.json", label_stds=[generator.choice([-1.0, 0.0, float("nan"), float("inf")])] * n)


@damage
def a_kernel_of_another_repository(folder, generator):
    key = generator.choice(["_attn_implementation", "attn_implementation", "experts_implementation"])
    if generator.random() < 0.5:
        edit_json(folder / "config.json", **{key: "org/kernel"})
    else:
        edit_backbone(folder, **{key: "org/kernel"})


@damage
def a_foreign_model_with_code(folder, generator):
    """Its config is not a URM's, and points to code in the folder."""
    (folder / "evil.py").write_text(f"open({str(folder.parent / CANARY)!r}, 'w')\n")
    places = {f"Auto{kind}": f"evil.{kind}" for kind in ("Config", "Model", "ModelForSequenceClassification")}
    edit_json(folder / "config.json", model_type="evil", auto_map=places)


# Adapters


def make_adapter(folder: Path, **changes):
    tensors = {"base_model.model.score.value.weight": torch.zeros(10, 64)}
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    (folder / WEIGHTS).unlink(missing_ok=True)
    adapter = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["q_proj"], "task_type": None}
    adapter |= {"base_model_name_or_path": str(folder.parent / "good")} | changes
    (folder / "adapter_config.json").write_text(json.dumps(adapter))


@damage
def an_adapter_that_is_its_own_base(folder, generator):
    make_adapter(folder, base_model_name_or_path=str(folder))


@damage
def a_circle_of_adapters(folder, generator):
    other = folder.parent / "other"
    other.mkdir()
    for file in folder.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    make_adapter(folder, base_model_name_or_path=str(other))
    make_adapter(other, base_model_name_or_path=str(folder))


@damage
def an_adapter_of_nothing(folder, generator):
    make_adapter(folder, base_model_name_or_path=generator.choice([None, "", 3, "/nowhere/at/all", ["a"]]))


@damage
def an_adapter_that_does_not_fit(folder, generator):
    make_adapter(folder)


@damage
def an_adapter_with_a_pattern_that_explodes(folder, generator):
    make_adapter(folder, target_modules=generator.choice(["(a+)+$", "(.*.*)*x", "(l|la|lay)*z", "(([a-z._0-9]+)*)*!"]))


@damage
def an_adapter_with_code(folder, generator):
    (folder / "evil.py").write_text(f"open({str(folder.parent / CANARY)!r}, 'w')\n")
    make_adapter(folder, megatron_core="evil", megatron_config={"a": 1})


@damage
def an_adapter_config_that_is_garbage(folder, generator):
    make_adapter(folder)
    content = generator.choice(["[]", "3", "{", "", '{"r": "two"}', '{"peft_type": "NONE"}', "null"])
    (folder / "adapter_config.json").write_text(content)


@damage
def an_adapter_of_gigantic_rank(folder, generator):
    make_adapter(folder, r=10**12)


@damage
def an_adapter_of_another_base(folder, generator):
    make_adapter(folder)
    record = {"name": "org/base", "commit": "0" * 40, "fingerprint": "0" * 64}
    edit_json(folder / "config.json", adapter_base=generator.choice([record, 3, [], {"fingerprint": 3}, "org/base"]))


# What is only for people


@damage
def a_record_of_training_that_is_no_object(folder, generator):
    evil = "<script>alert(1)</script>"
    training = generator.choice([evil, [evil], {"merged_from": evil}, {"merged_from": [{"weight": evil}]}, 3])
    edit_json(folder / "config.json", training=training)


@damage
def results_that_are_no_numbers(folder, generator):
    evil = "<script>alert(1)</script>"
    contents = [
        {"eval_pearson": 0.5, "eval_samples": evil},
        {"attributes": {"pearson": evil}},
        {"attributes": {"pearson": 0.5}, "attribute_intervals": {"pearson": evil}},
        {"attributes": {"pearson": 0.5}, "attribute_intervals": evil},
        {"pairs": evil},
        {"pairs": {"gated": evil}},
        {"schema": evil},
    ]
    (folder / "results.json").write_text(json.dumps(generator.choice(contents)))


# Tokenizers


@damage
def tokenizer_that_is_garbage(folder, generator):
    contents = ["", "[]", "{}", "3", "{", '{"model": {"type": "BPE"}}', '{"version": "1.0", "model": 3}']
    (folder / "tokenizer.json").write_text(generator.choice(contents))


@damage
def tokenizer_config_that_is_garbage(folder, generator):
    contents = ["", "[]", "3", "{", '{"tokenizer_class": "Nobody"}', '{"tokenizer_class": 3}', '{"bos_token": [1]}']
    (folder / "tokenizer_config.json").write_text(generator.choice(contents))


@damage
def a_tokenizer_with_code(folder, generator):
    (folder / "evil.py").write_text(f"open({str(folder.parent / CANARY)!r}, 'w')\n")
    edit_json(
        folder / "tokenizer_config.json",
        tokenizer_class="EvilTokenizer",
        auto_map={"AutoTokenizer": ["evil.EvilTokenizer", "evil.EvilTokenizer"]},
    )


@damage
def a_template_that_runs_for_ever(folder, generator):
    loops = "{% for a in range(90000) %}" * 4 + "x" + "{% endfor %}" * 4
    macro = "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(90) }}"
    product = "{{ 'a' * 99999 * 99999 * 99999 }}"
    power = "{{ 9 ** 9 ** 9 ** 9 }}"
    (folder / "chat_template.jinja").write_text(generator.choice([loops, macro, product, power]))


@damage
def a_template_that_is_broken(folder, generator):
    contents = ["{% for %}", "{{ messages[99].content }}", "{{ raise_exception('no') }}", "{{ ''.__class__.__mro__ }}"]
    (folder / "chat_template.jinja").write_text(generator.choice(contents))


@damage
def no_tokenizer(folder, generator):
    for path in folder.glob("*token*"):
        path.unlink()


# Entries that are not files


@damage
def a_pipe(folder, generator):
    names = [WEIGHTS, "config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "README.md"]
    path = folder / generator.choice(names)
    path.unlink(missing_ok=True)
    os.mkfifo(path)


@damage
def a_folder_in_a_files_place(folder, generator):
    path = folder / generator.choice([WEIGHTS, "config.json", "tokenizer.json", "tokenizer_config.json"])
    path.unlink(missing_ok=True)
    path.mkdir()


@damage
def a_link_to_itself(folder, generator):
    path = folder / generator.choice([WEIGHTS, "config.json", "tokenizer.json"])
    path.unlink()
    path.symlink_to(path.name)


# Ensembles


def make_ensemble(folder: Path, members: list):
    (folder / WEIGHTS).unlink()
    config = {"model_type": "urm_ensemble", "members": members, "revisions": None, "strategy": "resident"}
    (folder / "config.json").write_text(json.dumps(config))


@damage
def an_ensemble_of_itself(folder, generator):
    make_ensemble(folder, [".", "."])


@damage
def an_ensemble_of_thousands(folder, generator):
    make_ensemble(folder, [str(folder.parent / "good")] * 5000)


@damage
def an_ensemble_of_nothing(folder, generator):
    make_ensemble(folder, generator.choice([[], [3, 4], ["/nowhere/a", "/nowhere/b"], "ab", {"a": 1}, [None, None]]))

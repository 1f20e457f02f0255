"""A saved folder in a process that cannot import urm_hf: its own files must be enough, and only with consent."""

import ast
import json
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoModelForSequenceClassification

from tests.helpers.programs import run_stranger
from tests.helpers.tiny import WITHOUT_PACKAGE, pad_rows, random_rows, save_with_tokenizer, tiny_tokenizer, tiny_urm
from tests.helpers.tolerances import close
from urm_hf.modeling import URMForRewardModeling

ROWS = random_rows([5, 12, 3, 8])
TEXTS = ["<|im_start|>user\nhi<|im_end|>", "<|im_start|>user\na longer one<|im_end|>"]
SHIPPED = [
    *("backbone_urm.py", "base_urm.py", "card_urm.py", "checks_urm.py", "configuration_urm.py"),
    *("distributions_urm.py", "fingerprint_urm.py", "head_urm.py", "hub_place_urm.py", "modeling_urm.py"),
]

SESSION = (
    WITHOUT_PACKAGE
    + """
import json
import torch
from transformers import AutoModel, AutoModelForSequenceClassification, pipeline

folder, again, rows, texts = json.load(sys.stdin)
result = {}

def refusal(auto, **kwargs):
    try:
        auto.from_pretrained(folder, **kwargs)
    except ValueError as error:
        return str(error)

def rewards(auto, folder, **kwargs):
    model = auto.from_pretrained(folder, trust_remote_code=True, **kwargs)
    with torch.no_grad():
        logits = [model(input_ids=torch.tensor([row]), attention_mask=torch.ones(1, len(row))).logits for row in rows]
    return model, torch.cat(logits)[:, 0].tolist()

result["refusals"] = [refusal(AutoModel), refusal(AutoModelForSequenceClassification, trust_remote_code=False)]
model, result["AutoModel"] = rewards(AutoModel, folder)
_, result["AutoModelForSequenceClassification"] = rewards(AutoModelForSequenceClassification, folder)
_, result["num_labels=1"] = rewards(AutoModelForSequenceClassification, folder, num_labels=1)
half, result["bfloat16"] = rewards(AutoModelForSequenceClassification, folder, dtype=torch.bfloat16)
result["head dtypes"] = sorted({str(tensor.dtype) for tensor in half.score.state_dict().values()})
result["module"] = type(model).__module__
result["pipeline"] = pipeline("text-classification", model=folder, trust_remote_code=True)(texts)
model.save_pretrained(again)
result["saved again"] = rewards(AutoModel, again)[1]
result["imported"] = sorted(name for name in sys.modules if name.split(".")[0] == "urm_hf")
json.dump(result, open(again + "/result.json", "w"))
"""
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    return save_with_tokenizer(tiny_urm(), tmp_path_factory.mktemp("remote") / "urm")


@pytest.fixture(scope="module")
def again(tmp_path_factory) -> Path:
    """The folder that the session saves into."""
    return tmp_path_factory.mktemp("again")


@pytest.fixture(scope="module")
def session(folder, again, tmp_path_factory) -> dict:
    """What one session without urm_hf, without the network and with caches of its own made of the folder."""
    home = tmp_path_factory.mktemp("home")
    run_stranger(SESSION, [folder, str(again), ROWS, TEXTS], home)
    return json.loads((again / "result.json").read_text())


@torch.no_grad()
def rewards(model: URMForRewardModeling, rows: list[list[int]] = ROWS) -> list[float]:
    return torch.cat([model(**pad_rows([row])).logits for row in rows])[:, 0].tolist()


def test_the_session_ran_the_folder_s_code_and_not_the_package(session):
    assert session["imported"] == []
    assert session["module"].startswith("transformers_modules.")


def test_without_consent_no_code_runs(session):
    assert ["trust_remote_code=True" in str(refusal) for refusal in session["refusals"]] == [True, True]


@pytest.mark.parametrize("way", ["AutoModel", "AutoModelForSequenceClassification", "num_labels=1", "saved again"])
def test_remote_code_gives_the_rewards_of_the_saved_model(session, way):
    assert session[way] == close(rewards(tiny_urm()))


def test_remote_code_in_bfloat16_gives_the_rewards_of_the_package_in_bfloat16(session, folder):
    model = URMForRewardModeling.from_pretrained(folder, dtype=torch.bfloat16)
    assert session["bfloat16"] == close(rewards(model))
    assert session["head dtypes"] == ["torch.float32"]


def test_the_pipeline_gives_the_reward_without_a_sigmoid(session):
    rows = tiny_tokenizer()(TEXTS)["input_ids"]
    assert [answer["label"] for answer in session["pipeline"]] == ["reward", "reward"]
    assert [answer["score"] for answer in session["pipeline"]] == close(rewards(tiny_urm(), rows))


@pytest.mark.parametrize("name", SHIPPED)
def test_a_folder_saved_by_remote_code_ships_the_same_files(session, folder, again, name):
    assert (again / name).read_bytes() == (Path(folder) / name).read_bytes()


def test_a_folder_saved_by_remote_code_still_points_to_its_own_files(session, folder, again):
    first, second = (json.loads((Path(path) / "config.json").read_text()) for path in (folder, again))
    assert second["auto_map"] == first["auto_map"]


def test_a_folder_saved_by_remote_code_loads_with_the_package(session, again):
    assert rewards(URMForRewardModeling.from_pretrained(again)) == close(rewards(tiny_urm()))


def test_a_saved_folder_ships_flat_files_that_need_torch_and_transformers_only(folder):
    paths = sorted(Path(folder).rglob("*.py"))
    assert [path.relative_to(folder).as_posix() for path in paths] == SHIPPED
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                assert node.level in (0, 1)
                names = [node.module if node.level == 0 else f"{node.module}.py"]
            for name in names:
                package = name.split(".")[0]
                known = {"torch", "transformers", "safetensors", *sys.stdlib_module_names}  # the third comes with them
                assert name in SHIPPED or package in known, name


def test_no_pickle_is_saved(folder):
    assert {path.suffix for path in Path(folder).iterdir()} <= {".py", ".json", ".safetensors", ".jinja"}


@pytest.mark.parametrize("auto", [AutoModel, AutoModelForSequenceClassification])
@pytest.mark.parametrize("kwargs", [{}, {"num_labels": 1}, {"trust_remote_code": False}])
def test_with_the_package_no_consent_is_needed_and_its_class_is_loaded(folder, auto, kwargs):
    assert type(auto.from_pretrained(folder, **kwargs)) is URMForRewardModeling


def test_with_the_package_consent_changes_no_reward(folder):
    model = AutoModel.from_pretrained(folder, trust_remote_code=True)
    assert rewards(model) == close(rewards(tiny_urm()))


@pytest.mark.parametrize(
    "entry", ["modeling_urm", "modeling_urm_ensemble", "configuration_urm", "configuration_urm_ensemble"]
)
def test_an_entry_file_imports_all_that_it_needs_itself(entry):
    """transformers 4.57 copies the files that an entry file imports, and not those that these import in turn."""
    folder = Path(__file__).parents[2] / "modeling"

    def imported(name: str) -> set[str]:
        tree = ast.parse((folder / f"{name}.py").read_text())
        return {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level == 1}

    needed, open_ones = set(), {entry}
    while open_ones:
        needed |= open_ones
        open_ones = set().union(*map(imported, open_ones)) - needed
    assert imported(entry) == needed - {entry}

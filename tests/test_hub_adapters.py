"""LoRA adapters over the wire: pushed with their base pinned, loaded alone and as an ensemble, verified, refused."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import HfApi, ModelCard
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from tests.conftest import WITHOUT_PACKAGE, save_with_tokenizer, tiny_backbone_config, tiny_tokenizer
from tests.hub_repositories import READER
from tests.hub_server import FakeHub, module_hub  # noqa: F401  (a fixture)
from urm_hf import RewardScorer, URMEnsemble, URMForRewardModeling
from urm_hf.cli import main
from urm_hf.hub import push
from urm_hf.hub_errors import HubError
from urm_hf.reference import CONVERSATIONS
from urm_hf.trainers.adapters import complete_adapter, load_merged
from urm_hf.verify import verify

ADAPTERS = ["org/adapter-0", "org/adapter-1"]
FILES = {
    *("README.md", "adapter_config.json", "adapter_model.safetensors", "chat_template.jinja", "config.json"),
    *("configuration_urm.py", "tokenizer.json", "tokenizer_config.json"),
    *("urm_reference_scores.json", "urm_reference_scores.png"),
}
STRANGER_S_SESSION = (
    WITHOUT_PACKAGE
    + """
import json, os
import torch
from transformers import AutoModel, AutoTokenizer

asked = json.load(sys.stdin)
tokenizer = AutoTokenizer.from_pretrained("org/urme")
model = AutoModel.from_pretrained("org/urme", revision=asked["revision"], trust_remote_code=True)
with torch.no_grad():
    rewards = [
        model(**tokenizer.apply_chat_template([c], return_tensors="pt", return_dict=True)).rewards[:, 0].tolist()
        for c in asked["conversations"]
    ]
print("RESULT" + json.dumps([model.strategy, len(model.members), rewards]))
"""
)


def save_adapter(model: URMForRewardModeling, folder: Path, seed: int) -> Path:
    """An adapter with random weights on a URM's backbone, and a random head."""
    torch.manual_seed(seed)
    for parameter in model.score.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    adapted = get_peft_model(model, LoraConfig(target_modules=["q_proj"], modules_to_save=["score"], r=2))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    adapted.save_pretrained(folder)
    complete_adapter(folder, model.config)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def language_model(seed: int) -> AutoModelForCausalLM:
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(tiny_backbone_config())


@pytest.fixture(scope="module")
def server(module_hub: FakeHub, tmp_path_factory):  # noqa: F811
    """A Hub with the language model org/base, which has moved on since the adapters were trained."""
    with pytest.MonkeyPatch.context() as patch:
        module_hub.attach(patch, tmp_path_factory.mktemp("home"))
        language_model(0).push_to_hub("org/base", private=True)
        yield module_hub


@pytest.fixture(scope="module")
def folders(server, tmp_path_factory) -> dict[str, Path]:
    """Adapters as training writes them on a base that was named by its repository."""
    folder = tmp_path_factory.mktemp("adapters")
    made = {}
    for seed, name in enumerate(ADAPTERS):
        model = URMForRewardModeling.from_backbone("org/base", attributes=["help", "depth"])
        made[name] = save_adapter(model, folder / f"adapter-{seed}", seed)
    return made


@pytest.fixture(scope="module")
def pushed(server, folders) -> dict[str, str]:
    """Commits of the adapters and of their base at that time."""
    found = {"base": server.repositories["org/base"].branches["main"]}
    found |= {name: push(folder, name, license="mit").commit for name, folder in folders.items()}
    language_model(1).push_to_hub("org/base")  # what is pinned is not what is newest
    return found


@pytest.fixture
def folder(folders, tmp_path) -> Path:
    return Path(shutil.copytree(folders[ADAPTERS[0]], tmp_path / "adapter"))


def edit(folder: Path, **changes):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def rewards(model, **kwargs) -> list[float]:
    return [score.reward for score in RewardScorer(model, **kwargs).score(list(CONVERSATIONS.values()))]


@pytest.fixture(scope="module")
def expected(server, pushed, folders) -> list[list[float]]:
    """Rewards of each adapter on the base of that time, computed in the wrapped form that training has."""
    found = []
    for folder in folders.values():
        model = URMForRewardModeling.from_backbone("org/base", attributes=["help", "depth"], revision=pushed["base"])
        adapted = get_peft_model(model, LoraConfig(target_modules=["q_proj"], modules_to_save=["score"], r=2))
        saved = load_file(folder / "adapter_model.safetensors")
        state = adapted.state_dict()
        for key, tensor in saved.items():
            with_name = key.replace("lora_A.", "lora_A.default.").replace("lora_B.", "lora_B.default.")
            with_name = with_name.replace(".score.", ".score.modules_to_save.default.")
            state[with_name].copy_(tensor)
        found.append(rewards(adapted.get_base_model().eval(), tokenizer=tiny_tokenizer()))
    return found


def test_what_arrives_is_the_adapter_with_its_base_at_a_commit(server, pushed):
    files = server.files(ADAPTERS[0], pushed[ADAPTERS[0]])
    assert set(files) >= FILES and "modeling_urm.py" not in files and "model.safetensors" not in files
    adapter = json.loads(files["adapter_config.json"])
    assert (adapter["base_model_name_or_path"], adapter["revision"]) == ("org/base", pushed["base"])
    card = ModelCard(files["README.md"].decode())
    assert card.data.base_model == "org/base" and card.data.license == "mit" and pushed["base"] in card.text
    assert "More Information" not in card.text and "load_merged" in card.text
    assert AutoConfig.from_pretrained(ADAPTERS[0]).attributes == ["help", "depth"]


@pytest.mark.parametrize("number", [0, 1])
def test_a_scorer_and_load_merged_give_the_rewards_of_training_by_repository(pushed, expected, number):
    name = ADAPTERS[number]
    assert rewards(name, revision=pushed[name]) == pytest.approx(expected[number], rel=1e-5, abs=1e-5)
    merged = load_merged(name, revision=pushed[name])
    assert rewards(merged) == pytest.approx(expected[number], rel=1e-5, abs=1e-5)  # with the adapter's tokenizer


@pytest.mark.parametrize("strategy", ["shared", "resident", "sequential"])
def test_an_ensemble_of_repositories_gives_the_members_rewards(pushed, expected, strategy):
    ensemble = URMEnsemble.from_pretrained(ADAPTERS, strategy=strategy)
    assert ensemble.config.revisions == [pushed[name] for name in ADAPTERS]
    scores = RewardScorer(ensemble).score(list(CONVERSATIONS.values()))
    found = torch.tensor([score.member_rewards for score in scores]).T
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-5, atol=1e-5)
    assert min(score.reward_gap for score in scores) > 0.01


@pytest.mark.slow
def test_a_stranger_loads_a_pushed_ensemble_of_adapters_without_this_package(server, pushed, expected, tmp_path):
    URMEnsemble.from_pretrained(ADAPTERS, strategy="shared").save_pretrained(tmp_path / "urme")
    commit = push(tmp_path / "urme", "org/urme").commit
    finished = subprocess.run(
        [sys.executable, "-I", "-c", STRANGER_S_SESSION],
        input=json.dumps({"revision": commit, "conversations": list(CONVERSATIONS.values())}),
        env=server.environment(tmp_path, READER),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    strategy, members, found = json.loads(finished.stdout.rpartition("RESULT")[2])
    assert (strategy, members) == ("shared", 1)
    torch.testing.assert_close(torch.tensor(found).T, torch.tensor(expected), rtol=1e-5, atol=1e-5)
    assert {check.name for check in verify("org/urme", commit) if check.ok} >= {"files", "code", "load", "scores"}


def test_verify_takes_an_adapter(pushed, capsys):
    assert main(["verify", ADAPTERS[0], "--revision", pushed[ADAPTERS[0]]]) == 0
    out = capsys.readouterr().out
    assert "an adapter of org/base" in out and "6 conversations as stored" in out


def test_verify_names_what_is_wrong_with_an_adapter(pushed, folder):
    def failed() -> dict[str, str]:
        return {check.name: check.detail for check in verify(folder) if check.ok is False}

    assert failed() == {}
    edit(folder, revision=None)  # on the newer base it scores otherwise
    assert "org/base is not pinned" in failed()["files"] and "differs by" in failed()["scores"]
    edit(folder, revision=pushed["base"])
    tensors = load_file(folder / "adapter_model.safetensors")
    value, lora = "base_model.model.score.value.weight", next(key for key in tensors if "lora_B" in key)
    save_file(tensors | {value: tensors[value] * 1.5}, folder / "adapter_model.safetensors")
    assert "written for other weights" in failed()["scores"]
    for lost in (value, lora):
        kept = {key: tensor for key, tensor in tensors.items() if key != lost}
        save_file(kept, folder / "adapter_model.safetensors")
        assert lost in failed()["load"]
    save_file(tensors | {value: tensors[value] * float("nan")}, folder / "adapter_model.safetensors")
    assert value in failed()["finite"]
    save_file(tensors | {value: tensors[value].half()}, folder / "adapter_model.safetensors")
    assert "head must be float32" in failed()["dtypes"]


def test_a_line_to_load_it_is_printed(server, pushed, folder, capsys):
    assert main(["push", str(folder), "org/other"]) == 0
    commit = server.repositories["org/other"].branches["main"]
    assert f'load_merged("org/other", revision="{commit}")' in capsys.readouterr().out


def no_weights(folder: Path):
    (folder / "adapter_model.safetensors").unlink()


def pickled(folder: Path):
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")


def form(folder: Path):
    (folder / "README.md").write_text("# Model Card\n[More Information Needed]\n")


REFUSED = {
    "a local base": (
        lambda folder: edit(folder, base_model_name_or_path=str(folder)),
        "its base .* is a local folder.*push the base first",
    ),
    "no base": (lambda folder: edit(folder, base_model_name_or_path=""), "names no base"),
    "no weights": (no_weights, "adapter_model.safetensors is missing"),
    "pickled": (pickled, "pickled files.*adapter_model.bin"),
    "no config": (lambda folder: (folder / "config.json").unlink(), "no config.json of its URM.*complete_adapter"),
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), "no tokenizer"),
    "a form as a card": (form, "form with blanks.*--new-card"),
    "weights besides": (
        lambda folder: (folder / "model.safetensors").write_bytes(b""),
        "adapter_config.json: transformers would put",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_adapter_that_others_could_not_load_is_refused(server, pushed, folder, name):
    spoil, message = REFUSED[name]
    spoil(folder)
    before = len(server.requests)
    with pytest.raises(ValueError, match=message):
        push(folder, "org/refused")
    assert not any(method != "GET" and method != "HEAD" for method, *_ in server.requests[before:])
    assert "org/refused" not in server.repositories


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"base_model_name_or_path": "org/nothing", "revision": None}, "org/nothing does not exist, or is private"),
        ({"revision": "v9"}, "org/base has no revision v9"),
    ],
)
def test_a_base_that_is_not_there_is_told(pushed, folder, change, message):
    edit(folder, **change)
    with pytest.raises(HubError, match=f"the base of .* cannot be looked up: {message}"):
        push(folder, "org/refused")


def test_a_branch_of_the_base_becomes_its_commit(server, pushed, folder):
    HfApi().create_branch("org/base", branch="old", revision=pushed["base"], exist_ok=True)
    server.repositories["org/base"].branches["old"] = pushed["base"]
    edit(folder, revision="old")
    result = push(folder, "org/branch", dry_run=True)
    assert json.loads((folder / "adapter_config.json").read_text())["revision"] == pushed["base"]
    assert f"adapter_config.json: the base org/base is pinned to commit {pushed['base']}" in result.notes


def test_adapters_of_unlike_commits_of_their_base_are_not_shared(server, pushed, folder):
    edit(folder, revision=server.repositories["org/base"].branches["main"])
    with pytest.raises(ValueError, match=f"do not share a base: .*adapter-1 on org/base at {pushed['base']}"):
        URMEnsemble.from_pretrained([str(folder), ADAPTERS[1]], strategy="shared")


def test_training_with_push_to_hub_publishes_the_adapter_and_the_gate(server, pushed, tmp_path):
    tiny_tokenizer().push_to_hub("org/base")
    rated = [{"prompt": "q", "response": f"a{n}", "help": n % 3, "depth": n % 2} for n in range(4)]
    pairs = [{"prompt": "q", "chosen": f"c{n}", "rejected": f"r{n}"} for n in range(2)]
    for name, rows in (("ratings", rated), ("pairs", pairs)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    common = ["--max_steps", "1", "--use_cpu", "true", "--report_to", "none", "--save_strategy", "no"]
    common += ["--push_to_hub", "true"]
    lora = ["--use_peft", "true", "--save_adapter", "true", "--lora_target_modules", "q_proj", "v_proj"]
    argv = ["attributes", "--model_name_or_path", "org/base", "--dataset_name", str(tmp_path / "ratings.jsonl")]
    argv += ["--attributes", "help", "depth", "--output_dir", str(tmp_path / "a"), "--hub_model_id", "org/a"]
    assert main(["train", *argv, *common, *lora]) == 0
    argv = ["gating", "--model_name_or_path", "org/a", "--dataset_name", str(tmp_path / "pairs.jsonl")]
    argv += ["--output_dir", str(tmp_path / "g"), "--hub_model_id", "org/g", "--learning_rate", "0.1"]
    assert main(["train", *argv, *common]) == 0
    for name in ("org/a", "org/g"):
        files = server.files(name)
        assert set(files) >= FILES and "model.safetensors" not in files
        assert json.loads(files["adapter_config.json"])["base_model_name_or_path"] == "org/base"
        assert [check.name for check in verify(name) if check.ok is not True] == []
    assert rewards("org/a") != pytest.approx(rewards("org/g"), abs=1e-4)


@pytest.mark.parametrize("stage", ["attributes", "gating"])
def test_training_an_adapter_of_a_local_base_is_not_begun_if_it_is_to_be_pushed(tmp_path, capsys, stage):
    base = save_with_tokenizer(language_model(0), tmp_path / "base")
    start = base
    if stage == "gating":
        model = URMForRewardModeling.from_backbone(base, attributes=["help"])
        start = str(save_adapter(model, tmp_path / "adapter", 0))
    (tmp_path / "rows.jsonl").write_text(
        '{"prompt": "a", "response": "b", "chosen": "b", "rejected": "c", "help": 1}\n'
    )
    argv = [stage, "--model_name_or_path", start, "--dataset_name", str(tmp_path / "rows.jsonl"), "--use_cpu", "true"]
    argv += ["--push_to_hub", "true", "--output_dir", str(tmp_path / "out"), "--report_to", "none"]
    argv += ["--use_peft", "true", "--save_adapter", "true"] if stage == "attributes" else []
    assert main(["train", *argv]) == 2
    assert f"its base {base} is a local folder" in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("*"))


def test_the_form_that_peft_writes_as_a_card_is_removed_and_a_card_of_one_s_own_is_not(folder):
    config = AutoConfig.from_pretrained(folder)
    form(folder)
    complete_adapter(folder, config)
    assert not (folder / "README.md").exists()
    (folder / "README.md").write_text("# Mine\n")
    complete_adapter(folder, config)
    assert (folder / "README.md").read_text() == "# Mine\n"

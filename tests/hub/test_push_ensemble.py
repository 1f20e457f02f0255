"""An ensemble of local members pushed in one command, by the real client against a Hub on loopback."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import hf_hub_download
from transformers import AutoModel

from tests.helpers.adapters import language_model
from tests.helpers.hub_repositories import WRITER
from tests.helpers.tiny import WITHOUT_PACKAGE, pad_rows, random_rows, save_members, tiny_tokenizer, tiny_urm
from tests.helpers.tolerances import close
from urm_hf import RewardScorer, URMEnsemble, push, verify
from urm_hf.checkpoints.files import read_json, write_json
from urm_hf.cli import main
from urm_hf.data.conversations import read_conversation
from urm_hf.data.seen import DIGESTS, mark_conversation, summarize_seen
from urm_hf.modeling import URMForRewardModeling
from urm_hf.modeling.base_urm import describe_base
from urm_hf.modeling.hub_place_urm import HubPlace

INPUTS = pad_rows(random_rows([5, 9, 3]))
ROWS = [{"prompt": "Name a river.", "response": "The Po."}, {"prompt": "Name a river.", "response": "A dog."}]


def train(base: str, folder: Path, members: int = 2) -> Path:
    """What `urm train ensemble` leaves on a frozen backbone: heads of their own, and the ensemble beside them."""
    paths = []
    for seed in range(members):
        torch.manual_seed(seed)
        model = URMForRewardModeling.from_backbone(base, attributes=["help", "depth"])
        model.score.value.weight.data.normal_(std=0.2)
        model.refer_to_base(describe_base(base, HubPlace()))
        path = folder / f"member-{seed}"
        model.save_pretrained(path)
        tiny_tokenizer().save_pretrained(path)
        paths.append(str(path))
    URMEnsemble.from_pretrained(paths, strategy="shared").save_pretrained(folder / "ensemble")
    return folder


@torch.no_grad()
def rewards(model) -> list:
    return model(**INPUTS).rewards.flatten().tolist()


@pytest.fixture
def based(server) -> str:
    """The commit of a backbone on the Hub, which moves on after the training."""
    language_model(0).push_to_hub("org/base", private=True)
    return server.repositories["org/base"].branches["main"]


def test_heads_on_one_backbone_become_one_small_repository(server, based, tmp_path, capfd):
    folder = train("org/base", tmp_path / "first", 3)
    expected = rewards(URMEnsemble.from_pretrained(str(folder / "ensemble")))
    language_model(1).push_to_hub("org/base")  # what is pinned is not what is newest
    assert main(["push", str(folder), "org/urme", "--license", "mit"]) == 0
    assert "files are on the Hub (private)" in capfd.readouterr().out
    assert set(server.repositories) == {"org/base", "org/urme"}
    files = server.files("org/urme")
    config = json.loads(files["config.json"])
    assert config["members"] == ["./member-0", "./member-1", "./member-2"]
    assert sorted(name for name in files if "/" in name) == [
        f"member-{number}/{name}" for number in range(3) for name in ("config.json", "model.safetensors")
    ]
    for number in range(3):
        base = json.loads(files[f"member-{number}/config.json"])["base_weights"]
        assert (base["name"], base["commit"]) == ("org/base", based)
    assert str(tmp_path).encode() not in b"".join(content for name, content in files.items() if "safe" not in name)
    assert "base_model: org/base" in files["README.md"].decode()
    whole = len(server.repositories["org/base"].commits[based]["model.safetensors"])
    assert sum(len(files[f"member-{number}/model.safetensors"]) for number in range(3)) < whole
    before = len(server.requests)
    loaded = AutoModel.from_pretrained("org/urme")
    assert rewards(loaded) == close(expected) and loaded.shares_backbone
    weights = [path for _, path, status in server.requests[before:] if "/org/base/" in path and "safetensors" in path]
    assert len({path for path in weights}) <= 1  # the backbone is fetched once
    assert RewardScorer("org/urme").score(ROWS)[0].reward == close(
        RewardScorer(str(folder / "ensemble")).score(ROWS)[0].reward
    )
    assert all(check.ok for check in verify("org/urme"))


def test_a_process_without_the_package_loads_the_repository(server, based, tmp_path):
    folder = train("org/base", tmp_path / "first")
    push(folder, "org/urme")
    program = (
        WITHOUT_PACKAGE
        + f"""
import json, torch
from transformers import AutoModel
model = AutoModel.from_pretrained("org/urme", trust_remote_code=True)
ids = torch.tensor({INPUTS["input_ids"].tolist()})
mask = torch.tensor({INPUTS["attention_mask"].tolist()})
with torch.no_grad():
    print(json.dumps(model(input_ids=ids, attention_mask=mask).rewards.flatten().tolist()))
"""
    )
    environment = server.environment(tmp_path / "other home", WRITER)
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, env=environment, check=False
    )
    assert result.returncode == 0, result.stderr
    expected = rewards(URMEnsemble.from_pretrained(str(folder / "ensemble")))
    assert json.loads(result.stdout.splitlines()[-1]) == close(expected)


def test_a_saved_copy_of_the_repository_names_members_inside_it(server, based, tmp_path):
    push(train("org/base", tmp_path / "first"), "org/urme")
    loaded = AutoModel.from_pretrained("org/urme")
    loaded.save_pretrained(tmp_path / "copy")
    config = json.loads((tmp_path / "copy" / "config.json").read_text())
    commit = server.repositories["org/urme"].branches["main"]
    assert config["members"] == ["org/urme/member-0", "org/urme/member-1"] and config["revisions"] == [commit] * 2
    assert rewards(AutoModel.from_pretrained(tmp_path / "copy")) == close(rewards(loaded))
    assert RewardScorer(str(tmp_path / "copy")).score(ROWS)[0].reward == close(
        RewardScorer("org/urme").score(ROWS)[0].reward
    )


def test_a_local_backbone_is_refused_until_it_is_on_the_hub(server, tmp_path, capsys):
    language_model(0).save_pretrained(tmp_path / "base")
    folder = train(str(tmp_path / "base"), tmp_path / "first")
    assert main(["push", str(folder), "org/urme"]) == 2
    told = capsys.readouterr().err
    assert "base is a local folder" in told and "--base-model org/base" in told and "--save_backbone" in told
    assert not server.repositories
    language_model(1).push_to_hub("org/base")
    assert main(["push", str(folder), "org/urme", "--base-model", "org/base"]) == 2
    assert "which now has other weights" in capsys.readouterr().err and "org/urme" not in server.repositories
    language_model(0).push_to_hub("org/base")
    assert main(["push", str(folder), "org/urme", "--base-model", "org/base"]) == 0
    shutil.rmtree(tmp_path / "base")
    assert URMEnsemble.from_pretrained("org/urme").shares_backbone


def test_one_member_alone_can_be_pushed(server, based, tmp_path):
    member = train("org/base", tmp_path / "first") / "member-1"
    result = push(member, "org/urm")
    assert "member-0" not in str(server.files("org/urm").keys()) and result.commit
    assert json.loads(server.files("org/urm")["config.json"])["base_weights"]["commit"] == based
    with torch.no_grad():
        found = AutoModel.from_pretrained("org/urm")(**INPUTS).logits
        expected = URMForRewardModeling.from_pretrained(member)(**INPUTS).logits
    torch.testing.assert_close(found, expected)
    assert all(check.ok for check in verify("org/urm"))


def test_whole_members_get_a_repository_each(server, tmp_path, capfd):
    members = save_members(tmp_path, [tiny_urm(seed=seed) for seed in range(2)])
    URMEnsemble.from_pretrained(members).save_pretrained(tmp_path / "ensemble")
    assert main(["push", str(tmp_path), "org/urme", "--dry-run"]) == 0
    told = capfd.readouterr().out
    assert not server.repositories and "org/urme-member-1" in told and "None" not in told
    # the cards that are there; the ensemble's names commits, of which there are none yet
    cards = [line.removeprefix("the card: ") for line in told.splitlines() if line.startswith("the card: ")]
    assert cards == [f"{member}/README.md" for member in members] and all(Path(card).is_file() for card in cards)
    assert not (tmp_path / "ensemble" / "README.md").exists()
    dry = push(tmp_path, "org/urme", dry_run=True)
    assert "None" not in dry.load_line
    assert main(["push", str(tmp_path), "org/urme"]) == 0
    assert set(server.repositories) == {"org/urme", "org/urme-member-0", "org/urme-member-1"}
    config = json.loads(server.files("org/urme")["config.json"])
    assert config["members"] == ["org/urme-member-0", "org/urme-member-1"]
    heads = [server.repositories[name].branches["main"] for name in config["members"]]
    assert config["revisions"] == heads
    assert rewards(AutoModel.from_pretrained("org/urme")) == close(rewards(URMEnsemble.from_pretrained(members)))
    assert (tmp_path / "ensemble" / "README.md").is_file()  # what was written for the push is there to be read


def test_verify_passes_on_a_local_ensemble(tmp_path, capsys):
    members = save_members(tmp_path, [tiny_urm(seed=seed) for seed in range(2)])
    URMEnsemble.from_pretrained(members).save_pretrained(tmp_path / "ensemble")
    assert main(["verify", str(tmp_path / "ensemble")]) == 0
    assert "on this machine only: member ../member-0" in capsys.readouterr().out
    shutil.rmtree(members[0])
    assert main(["verify", str(tmp_path / "ensemble")]) == 1


def test_a_dry_run_on_a_local_backbone_lists_what_would_be_uploaded_and_what_is_to_be_done(tmp_path, capfd):
    language_model(0).save_pretrained(tmp_path / "base")
    folder = train(str(tmp_path / "base"), tmp_path / "run")
    for name, card in (("run", "run/ensemble"), ("run/member-0", "run/member-0")):
        assert main(["push", str(tmp_path / name), "org/urme", "--dry-run"]) == 2
        told = capfd.readouterr()
        assert "files would be uploaded: config.json" in told.out and f"{tmp_path / card}/README.md" in told.out
        assert "cannot be uploaded yet" in told.err and "`hf upload org/base DIR`" in told.err
        assert (tmp_path / card / "README.md").is_file()
    result = push(folder / "member-0", "org/urm", dry_run=True)
    assert result.commit_info is None and len(result.missing) == 1 and "is a local folder" in result.missing[0]


def test_digests_of_training_rows_stay_on_this_machine(server, based, tmp_path):
    folder = train("org/base", tmp_path / "first")
    record = {"seed": 1, **summarize_seen(mark_conversation(read_conversation(row)) for row in ROWS)}
    for path in (folder / "member-0", folder / "member-1"):
        config = read_json(path / "config.json")
        write_json(path / "config.json", config | {"training": {"attribute_stage": record}})
    push(folder / "member-0", "org/urm")
    push(folder, "org/urme")
    kept = {name: value for name, value in record.items() if name != DIGESTS}
    for name, file in (("org/urm", "config.json"), ("org/urme", "member-1/config.json")):
        pushed = json.loads(Path(hf_hub_download(name, file)).read_text())
        assert pushed["training"]["attribute_stage"] == kept
    assert DIGESTS not in Path(hf_hub_download("org/urm", "README.md")).read_text()
    assert read_json(folder / "member-0" / "config.json")["training"]["attribute_stage"] == record

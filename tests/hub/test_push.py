"""What arrives of a push, over the wire: the real client against a Hub on loopback."""

import json
import shutil

import pytest
import torch
from huggingface_hub import HfApi, ModelCard
from transformers import AutoTokenizer

from tests.helpers.hub_folders import PLACEHOLDERS, TWO, WHOLE, edit_config
from tests.helpers.tiny import save_with_tokenizer, tiny_tokenizer, tiny_urm
from tests.helpers.tolerances import close
from urm_hf import RewardScorer, URMEnsemble
from urm_hf.hub.publish import push


def config_of(files: dict[str, bytes]) -> dict:
    return json.loads(files["config.json"])


# What arrives


def test_a_push_is_one_private_commit_of_the_whole_folder(server, folder):
    result = push(folder, "org/urm")
    repository = server.repositories["org/urm"]
    assert repository.private and result.private
    assert repository.branches == {"main": result.commit} and len(repository.commits) == 2  # an empty one before it
    files = server.files("org/urm", result.commit)
    assert set(files) == WHOLE == set(result.files)
    assert [name for name in files if (folder / name).read_bytes() != files[name]] == ["tokenizer_config.json"]
    assert f'revision="{result.commit}"' in result.load_line


def test_checkpoints_logs_and_the_trainer_s_pickle_stay_at_home_and_are_named(server, folder):
    for name in ("checkpoint-3/optimizer.pt", "runs/events", "training_args.bin", "trainer_state.json", "notes.txt"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"secret")
    result = push(folder, "org/urm")
    assert set(server.files("org/urm")) == WHOLE
    assert result.left_out == ["checkpoint-3/", "notes.txt", "runs/", "trainer_state.json", "training_args.bin"]
    assert b"secret" not in b"".join(server.blobs.values())


def test_local_paths_that_are_only_for_people_are_reduced_to_names(server, folder):
    config = json.loads((folder / "config.json").read_text())
    config["backbone_config"]["_name_or_path"] = "/home/ann/models/base"
    config["training"] = {"attribute_stage": {"dataset": "/data/private/ratings.jsonl", "seed": 1, "hub": "org/data"}}
    edit_config(folder, **config)
    result = push(folder, "org/urm")
    pushed = config_of(server.files("org/urm"))
    assert pushed["backbone_config"]["_name_or_path"] == "base"
    assert pushed["training"]["attribute_stage"] == {"dataset": "ratings.jsonl", "seed": 1, "hub": "org/data"}
    assert any("backbone_config._name_or_path" in note for note in result.notes)
    texts = b"".join(content for name, content in server.files("org/urm").items() if not name.endswith(".png"))
    assert b"/home/ann" not in texts and b"/data/private" not in texts


def test_the_tokenizer_is_pushed_in_words_that_transformers_4_has_too(server, folder, tmp_path):
    result = push(folder, "org/urm")
    config = json.loads(server.files("org/urm")["tokenizer_config.json"])
    assert config["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert config["additional_special_tokens"] == ["<|im_start|>"] and "extra_special_tokens" not in config
    assert any(note.startswith("tokenizer_config.json") for note in result.notes)
    there, ours = AutoTokenizer.from_pretrained("org/urm"), tiny_tokenizer()
    text = "<|im_start|>user\nÄ<|im_end|>"
    assert there(text)["input_ids"] == ours(text)["input_ids"] and there.all_special_ids == ours.all_special_ids


def test_branch_tag_message_and_public(server, folder):
    result = push(folder, "org/urm", private=False, revision="dev/2", tag="v1", commit_message="Better gate")
    repository = server.repositories["org/urm"]
    assert not repository.private and result.private is False
    assert repository.branches["dev/2"] == repository.tags["v1"] == result.commit != repository.branches["main"]
    assert repository.messages[result.commit] == "Better gate"
    assert server.files("org/urm", "main") == {}
    assert 'revision = "v1"' in server.files("org/urm", "v1")["README.md"].decode()


def test_weights_code_and_pickles_of_an_earlier_push_are_removed_and_other_files_stay(server, folder):
    model = tiny_urm(**TWO)
    shutil.rmtree(folder)
    model.save_pretrained(folder, max_shard_size="100KB")
    tiny_tokenizer().save_pretrained(folder)
    push(folder, "org/urm")
    shards = {name for name in server.files("org/urm") if "safetensors" in name}
    assert len(shards) > 2
    api = HfApi()
    for name in ("training_args.bin", "old_urm.py", "figure.webp"):
        api.upload_file(path_or_fileobj=b"old", path_in_repo=name, repo_id="org/urm")
    shutil.rmtree(folder)
    save_with_tokenizer(model, folder)
    result = push(folder, "org/urm")
    assert set(result.removed) == {*shards, "training_args.bin", "old_urm.py"}
    assert set(server.files("org/urm")) == WHOLE | {"figure.webp"}


def test_pushing_the_same_twice_makes_no_second_commit(server, folder):
    assert push(folder, "org/urm").commit == push(folder, "org/urm").commit


def test_a_model_in_memory_needs_its_tokenizer(server):
    with pytest.raises(ValueError, match="`tokenizer` is missing"):
        push(tiny_urm(**TWO), "org/urm")
    push(tiny_urm(**TWO), "org/urm", tokenizer=tiny_tokenizer())
    assert set(server.files("org/urm")) == WHOLE


def test_the_stored_scores_are_those_of_the_model(server, folder):
    push(folder, "org/urm")
    stored = json.loads(server.files("org/urm")["urm_reference_scores.json"])
    scores = RewardScorer(tiny_urm(**TWO), tiny_tokenizer()).score([r["messages"] for r in stored["conversations"]])
    assert len(scores) == 6
    assert [row["reward"] for row in stored["conversations"]] == close([s.reward for s in scores])
    assert stored["dtype"] == "float32"


def test_a_dry_run_writes_the_card_and_asks_the_hub_for_nothing(server, folder):
    result = push(folder, "org/urm", dry_run=True)
    assert set(result.files) == WHOLE and (folder / "README.md").is_file()
    assert server.requests == [] and result.commit is None


# Ensembles


@pytest.fixture
def members(server, tmp_path) -> list[str]:
    """Two repositories with a member each, whose folders are `member-0` and `member-1`."""
    for seed in range(2):
        folder = save_with_tokenizer(tiny_urm(seed=seed, **TWO), tmp_path / f"member-{seed}")
        push(folder, f"org/member-{seed}")
    return [f"org/member-{seed}" for seed in range(2)]


def test_an_ensemble_of_repositories_is_small_and_pinned(server, members, tmp_path):
    pinned = [server.repositories[name].branches["main"] for name in members]
    URMEnsemble.from_pretrained(members).save_pretrained(tmp_path / "urme")
    result = push(tmp_path / "urme", "org/urme", license="apache-2.0")
    files = server.files("org/urme", result.commit)
    assert config_of(files)["members"] == members and config_of(files)["revisions"] == pinned
    assert not any(name.endswith(".safetensors") for name in files)
    assert {"modeling_urm_ensemble.py", "members_urm.py", "modeling_urm.py", "README.md", "tokenizer.json"} <= set(
        files
    )
    stored = json.loads(files["urm_reference_scores.json"])["conversations"]
    gap = abs(
        torch.tensor([s.reward for s in RewardScorer(tmp_path / "member-0").score([r["messages"] for r in stored])])
        - torch.tensor([s.reward for s in RewardScorer(tmp_path / "member-1").score([r["messages"] for r in stored])])
    )
    assert [row["reward_gap"] for row in stored] == close(gap.tolist())
    card = ModelCard(files["README.md"].decode())
    assert card.data.base_model == members and pinned[1] in card.text


def test_an_ensemble_whose_members_are_not_pinned_is_refused(server, members, tmp_path):
    URMEnsemble.from_pretrained(members).save_pretrained(tmp_path / "urme")
    edit_config(tmp_path / "urme", revisions=[None, "main"])
    with pytest.raises(ValueError, match="org/member-0 is not pinned.*org/member-1 is not pinned"):
        push(tmp_path / "urme", "org/urme")


def test_ensemble_push_to_hub_has_a_card_without_blanks(server, members):
    URMEnsemble.from_pretrained(members).push_to_hub("org/urme")
    card = server.files("org/urme")["README.md"].decode()
    assert "help, depth" in card and [blank for blank in PLACEHOLDERS if blank in card] == []

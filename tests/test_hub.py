"""Publishing over the wire: the real client against a Hub on loopback, also one that fails half way."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub import HfApi, ModelCard, snapshot_download
from safetensors.torch import save_file
from transformers import AutoTokenizer

import urm_hf.plots
from tests.conftest import save_with_tokenizer, tiny_tokenizer, tiny_urm
from tests.hub_repositories import INITIAL, READER, STRANGER, WRITER
from tests.hub_server import hub  # noqa: F401  (a fixture)
from tests.trainers.conftest import attribute_trainer, gating_trainer, pair_rows, rated_rows
from urm_hf import RewardScorer, URMEnsemble
from urm_hf.cli import main
from urm_hf.hub import push
from urm_hf.hub_errors import HubError, one_line
from urm_hf.modeling.modeling_urm import CARD_MARKER

TWO = {"attributes": ["help", "depth"]}
WHOLE = {
    *("README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"),
    *("chat_template.jinja", "urm_reference_scores.json", "urm_reference_scores.png", "modeling_urm.py"),
    *("configuration_urm.py", "backbone_urm.py", "distributions_urm.py", "head_urm.py"),
}
PLACEHOLDERS = ["More Information Needed", "[optional]", "{{", "None", "nan", "TODO"]


@pytest.fixture
def server(hub, monkeypatch, tmp_path):  # noqa: F811
    hub.attach(monkeypatch, tmp_path / "home")
    return hub


@pytest.fixture(scope="module", autouse=True)
def one_plot(tmp_path_factory):
    """Plots are drawn once and then copied: drawing takes most of a push's time."""
    draw, path = urm_hf.plots.plot_reference, tmp_path_factory.mktemp("plot") / "plot.png"

    def copy(rows, to):
        return Path(shutil.copyfile(path if path.is_file() else draw(rows, path), to))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(urm_hf.plots, "plot_reference", copy)
        yield


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """A complete folder; tests copy it."""
    return Path(save_with_tokenizer(tiny_urm(**TWO), tmp_path_factory.mktemp("saved") / "urm"))


@pytest.fixture
def folder(saved, tmp_path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "urm"))


def config_of(files: dict[str, bytes]) -> dict:
    return json.loads(files["config.json"])


def edit_config(folder: Path, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


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
    assert [row["reward"] for row in stored["conversations"]] == pytest.approx([s.reward for s in scores], abs=1e-5)
    assert stored["dtype"] == "float32"


def test_a_dry_run_writes_the_card_and_asks_the_hub_for_nothing(server, folder):
    result = push(folder, "org/urm", dry_run=True)
    assert set(result.files) == WHOLE and (folder / "README.md").is_file()
    assert server.requests == [] and result.commit is None


# What is refused before anything is uploaded


def without(*names):
    return lambda folder: [(folder / name).unlink() for name in names]


def local_path(folder):
    edit_config(folder, quantization_config={"modules_file": "/home/ann/modules.json"})


REFUSED = {
    "no tokenizer": (without("tokenizer.json", "tokenizer_config.json"), "no tokenizer"),
    "no vocabulary": (without("tokenizer.json"), "no tokenizer"),
    "no chat template": (without("chat_template.jinja"), "no chat template"),
    "no weights": (without("model.safetensors"), "no weights"),
    "no config": (without("config.json"), "no config.json"),
    "one code file short": (without("head_urm.py"), "code is missing: head_urm.py"),
    "no code": (without("modeling_urm.py", "head_urm.py"), "code is missing: head_urm.py, modeling_urm.py"),
    "a pickle": (lambda folder: (folder / "pytorch_model.bin").write_bytes(b""), "pickled .*: pytorch_model.bin"),
    "an adapter": (lambda folder: (folder / "adapter_config.json").write_text("{}"), "adapter_config.json"),
    "a local path": (local_path, "quantization_config.modules_file is /home/ann"),
    "another auto_map": (lambda folder: edit_config(folder, auto_map={}), "auto_map"),
    "another model": (lambda folder: edit_config(folder, model_type="llama"), "'llama'"),
    "a broken config": (lambda folder: (folder / "config.json").write_text("{"), "not JSON"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_incomplete_folder_is_refused_by_name_before_any_request(server, folder, name):
    spoil, message = REFUSED[name]
    spoil(folder)
    with pytest.raises(ValueError, match=message):
        push(folder, "org/urm")
    assert server.requests == []


def test_all_that_is_wrong_is_named_at_once(folder):
    without("tokenizer.json", "model.safetensors", "head_urm.py")(folder)
    with pytest.raises(ValueError, match="code is missing.*no weights.*no tokenizer"):
        push(folder, "org/urm")


def test_a_shard_that_the_index_names_must_be_there(server, folder):
    shutil.rmtree(folder)
    tiny_urm(**TWO).save_pretrained(folder, max_shard_size="100KB")
    tiny_tokenizer().save_pretrained(folder)
    next(folder.glob("model-00002*")).unlink()
    with pytest.raises(ValueError, match="model-00002"):
        push(folder, "org/urm")


def test_weights_that_are_not_finite_are_not_published(server, folder):
    model = tiny_urm(**TWO)
    model.score.value.weight.data[0, 0] = float("nan")
    model.save_pretrained(folder)
    with pytest.raises(ValueError, match="reference conversations.*reward nan"):
        push(folder, "org/urm")
    assert server.requests == []


def test_an_existing_public_repository_is_not_pushed_to_by_mistake(server, folder):
    push(folder, "org/urm", private=False)
    before = server.repositories["org/urm"].branches["main"]
    with pytest.raises(ValueError, match="org/urm exists and is public"):
        push(folder, "org/urm", commit_message="x")
    assert server.repositories["org/urm"].branches["main"] == before


@pytest.mark.parametrize(
    "repo_id", ["urm", "a/b/c", "org/", "org/a b", "/urm", "org/.urm", "org/urm..x", "org/urm.git"]
)
def test_a_name_that_no_repository_can_have_is_refused_before_anything_is_scored(server, folder, repo_id):
    with pytest.raises(ValueError, match="org/name|repo_id|Repo_id"):
        push(folder, repo_id)
    assert server.requests == [] and not (folder / "README.md").exists()


def test_a_missing_token_is_told_before_anything_is_scored(server, folder, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "")
    with pytest.raises(HubError, match="pushing to org/urm needs a token"):
        push(folder, "org/urm")
    assert not (folder / "README.md").exists()
    assert push(folder, "org/urm", dry_run=True).commit is None  # needs none


def test_a_private_repository_stays_private_and_it_is_said(server, folder):
    push(folder, "org/urm")
    result = push(folder, "org/urm", private=False)
    assert result.private and server.repositories["org/urm"].private
    assert "org/urm existed and stays private: its settings on the Hub can make it public" in result.notes


# A Hub that fails


@pytest.mark.parametrize("kind", ["500", "drop"])
@pytest.mark.parametrize("at", [1, 2])
def test_an_upload_that_fails_publishes_nothing_and_says_so(server, folder, kind, at):
    server.fail_upload, server.fail_upload_at = kind, at
    with pytest.raises(HubError, match="Nothing was published: org/urm was created and holds no model"):
        push(folder, "org/urm")
    assert server.files("org/urm") == {}
    assert not any("/commit/" in path for _, path, _ in server.requests)


def test_after_a_failure_the_former_commit_stands_and_a_second_try_succeeds(server, folder, tmp_path):
    before = push(folder, "org/urm").commit
    other = Path(save_with_tokenizer(tiny_urm(seed=1, **TWO), tmp_path / "other"))
    server.fail_commit = 500
    with pytest.raises(HubError, match=f"Nothing was published: org/urm is as before, at commit {before}"):
        push(other, "org/urm")
    assert server.repositories["org/urm"].branches["main"] == before
    server.fail_commit = None
    after = push(other, "org/urm").commit
    assert after != before and set(server.files("org/urm")) == WHOLE


@pytest.mark.parametrize("lost", ["model.safetensors", "head_urm.py"])
def test_a_commit_that_lacks_a_file_is_not_reported_as_done(server, folder, lost):
    server.lose = {lost}
    with pytest.raises(HubError, match=f"is not what was pushed, do not use it: {lost} is missing"):
        push(folder, "org/urm")


def test_a_commit_with_another_content_is_not_reported_as_done(server, folder, monkeypatch):
    honest = type(server).entry
    monkeypatch.setattr(
        type(server),
        "entry",
        lambda self, path, content: honest(self, path, content[::-1] if path[-2:] == "py" else content),
    )
    with pytest.raises(HubError, match="head_urm.py has another content"):
        push(folder, "org/urm")


@pytest.mark.parametrize(
    ("token", "message"),
    [
        (READER, "refused access"),
        (STRANGER, "refused access"),
        ("hf_unknown", "Invalid credentials"),
        (None, "needs a token"),
    ],
)
def test_a_token_without_the_right_is_told_in_one_line(server, folder, monkeypatch, capfd, token, message):
    monkeypatch.setenv("HF_TOKEN", token or "")
    assert main(["push", str(folder), "org/urm"]) == 2
    printed = capfd.readouterr().err.splitlines()[-1]
    assert printed.startswith("urm push: error: pushing to org/urm") and message in printed
    assert server.repositories == {}


def test_a_hub_that_cannot_be_reached(server, folder, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubError, match="pushing to org/urm failed before anything was uploaded"):
        push(folder, "org/urm")


# The command


def test_the_command_prints_where_the_model_is_and_never_the_token(server, folder, capfd):
    assert main(["push", str(folder), "org/urm", "--license", "apache-2.0", "--tag", "v1"]) == 0
    out, err = capfd.readouterr()
    commit = server.repositories["org/urm"].branches["main"]
    assert f"{len(WHOLE)} files are on the Hub (private): {server.url}/org/urm" in out
    assert f"commit {commit}, tag v1" in out and f'revision="{commit}"' in out
    assert server.authorizations == {WRITER} and WRITER not in out + err
    assert WRITER.encode() not in b"".join(server.files("org/urm").values())


def test_a_failing_command_prints_one_line_and_never_the_token(server, folder, capfd):
    server.fail_upload = "500"
    assert main(["push", str(folder), "org/urm"]) == 2
    out, err = capfd.readouterr()
    assert WRITER not in out + err and "Traceback" not in err
    assert "Nothing was published" in err.splitlines()[-1]


def test_a_dry_run_of_the_command_lists_the_files(server, folder, capfd):
    (folder / "notes.txt").write_text("x")
    assert main(["push", str(folder), "org/urm", "--dry-run"]) == 0
    out = capfd.readouterr().out
    assert "not uploaded: notes.txt" in out and "13 files would be uploaded" in out
    assert server.requests == []


# The card that is pushed


def test_a_card_that_was_edited_by_hand_is_kept(server, folder):
    push(folder, "org/urm")
    edited = (folder / "README.md").read_text().replace(CARD_MARKER, "") + "\nMy words.\n"
    (folder / "README.md").write_text(edited)
    result = push(folder, "org/urm")
    assert server.files("org/urm")["README.md"].decode() == edited
    assert "README.md was edited by hand and is kept" in result.notes
    with pytest.raises(ValueError, match="license: .* edited by hand"):
        push(folder, "org/urm", license="mit")
    push(folder, "org/urm", license="mit", new_card=True)
    assert ModelCard(server.files("org/urm")["README.md"].decode()).data.license == "mit"


def test_a_generated_card_is_written_anew(server, folder):
    push(folder, "org/urm", license="mit")
    push(folder, "org/urm", license="apache-2.0")
    assert ModelCard(server.files("org/urm")["README.md"].decode()).data.license == "apache-2.0"


def test_licence_and_datasets_of_an_earlier_push_are_kept_unless_a_new_card_is_asked_for(server, folder):
    push(folder, "org/urm", license="mit", datasets=["org/ratings"])
    result = push(folder, "org/urm", license="apache-2.0")
    data = ModelCard(server.files("org/urm")["README.md"].decode()).data
    assert (data.license, data.datasets) == ("apache-2.0", ["org/ratings"])
    assert not any("licence" in note for note in result.notes)
    result = push(folder, "org/urm", new_card=True)
    data = ModelCard(server.files("org/urm")["README.md"].decode()).data
    assert (data.license, data.datasets) == (None, None) and any("names no licence" in note for note in result.notes)


def test_a_form_with_blanks_is_no_card(server, folder):
    (folder / "README.md").write_text("# Model Card\n\n[More Information Needed]\n")
    with pytest.raises(ValueError, match="README.md is a form with blanks"):
        push(folder, "org/urm")
    assert server.requests == []
    push(folder, "org/urm", new_card=True)
    assert "More Information" not in server.files("org/urm")["README.md"].decode()


def test_results_that_cannot_be_read_are_an_error(folder, tmp_path):
    (tmp_path / "empty.json").write_text("{}")
    with pytest.raises(ValueError, match="empty.json has no results"):
        push(folder, "org/urm", results=tmp_path / "empty.json", dry_run=True)


# transformers' and TRL's own ways


def test_model_push_to_hub_uploads_weights_code_and_a_card_without_blanks(server):
    tiny_urm(**TWO).push_to_hub("org/urm")
    files = server.files("org/urm")
    assert set(files) == {
        name for name in WHOLE if "token" not in name and "template" not in name and "urm_ref" not in name
    }
    card = files["README.md"].decode()
    assert "help, depth" in card and [blank for blank in PLACEHOLDERS if blank in card] == []
    assert "urm" in ModelCard(card).data.tags
    tiny_tokenizer().push_to_hub("org/urm")
    assert {"tokenizer.json", "chat_template.jinja"} <= set(server.files("org/urm"))


def test_model_push_to_hub_replaces_a_card_that_describes_former_weights_but_not_one_edited_by_hand(server, folder):
    push(folder, "org/urm")
    tiny_urm(seed=1, **TWO).push_to_hub("org/urm")
    card = server.files("org/urm")["README.md"].decode()
    assert "Reference scores" not in card and "help, depth" in card
    HfApi().upload_file(path_or_fileobj=b"---\nlicense: mit\n---\nMine.", path_in_repo="README.md", repo_id="org/urm")
    tiny_urm(seed=2, **TWO).push_to_hub("org/urm")
    assert "Mine." in server.files("org/urm")["README.md"].decode()


@pytest.mark.parametrize("stage", ["attribute", "gating"])
def test_a_trainer_s_push_is_complete(server, tmp_path, stage):
    if stage == "attribute":
        trainer = attribute_trainer(
            tmp_path / "out", rated_rows(), rated_rows(4, seed=9), max_steps=1, hub_model_id="org/t"
        )
    else:
        trainer = gating_trainer(
            tmp_path / "out", pair_rows(), pair_rows(4, seed=9), max_steps=1, hub_model_id="org/t"
        )
    trainer.train()
    trainer.evaluate()
    commit = trainer.push_to_hub()
    files = server.files("org/t", commit.oid)
    assert set(files) == WHOLE
    card = files["README.md"].decode()
    measured = "Pearson r" if stage == "attribute" else "this model | "
    assert measured in card and f": 4 {'conversations' if stage == 'attribute' else 'pairs'};" in card
    assert [blank for blank in PLACEHOLDERS if blank in card] == []
    stored = json.loads(files["urm_reference_scores.json"])["conversations"]
    scores = RewardScorer(trainer.model, tiny_tokenizer()).score([row["messages"] for row in stored])
    assert [row["reward"] for row in stored] == pytest.approx([score.reward for score in scores], abs=1e-5)


def test_pushes_during_training_have_code_and_the_last_push_removes_the_pickle(server, tmp_path):
    settings = {
        "max_steps": 2,
        "save_strategy": "steps",
        "save_steps": 1,
        "push_to_hub": True,
        "hub_model_id": "org/t",
    }
    trainer = attribute_trainer(tmp_path / "out", rated_rows(), **settings)
    trainer.train()
    trainer._finish_current_push()
    during = server.files("org/t")
    assert {"model.safetensors", "modeling_urm.py", "head_urm.py", "tokenizer.json", "training_args.bin"} <= set(
        during
    )
    assert CARD_MARKER in during["README.md"].decode()
    trainer.save_model()  # pushes
    assert set(server.files("org/t")) == WHOLE


# Ensembles


@pytest.fixture
def members(server, tmp_path) -> list[str]:
    """Two repositories with a member each, whose folders are `member-0` and `member-1`."""
    for seed in range(2):
        folder = save_with_tokenizer(tiny_urm(seed=seed, **TWO), tmp_path / f"member-{seed}")
        push(folder, f"org/member-{seed}")
    return [f"org/member-{seed}" for seed in range(2)]


def test_an_ensemble_of_folders_is_refused_with_what_to_do(server, members, tmp_path):
    URMEnsemble.from_pretrained([tmp_path / "member-0", tmp_path / "member-1"]).save_pretrained(tmp_path / "urme")
    with pytest.raises(ValueError, match="member .*member-0 is a local folder.*push the members first"):
        push(tmp_path / "urme", "org/urme")
    assert "org/urme" not in server.repositories


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
    assert [row["reward_gap"] for row in stored] == pytest.approx(gap.tolist(), abs=1e-4)
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


# Errors of the client, as people read them


@pytest.mark.parametrize("name", ["nothing", "org/nothing"])
def test_the_repository_that_is_not_there_is_named(server, monkeypatch, name):
    monkeypatch.setenv("HF_TOKEN", "")
    with pytest.raises(OSError) as error:
        snapshot_download(name)
    assert one_line(error.value).startswith(f"{name} does not exist, or is private: check its name")


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("/org/urm.git/info/lfs/objects/batch", "org/urm"),
        ("/org/urm/resolve/main/config.json", "org/urm"),
        ("/api/models/org/urm", "org/urm"),
        ("/api/datasets/org/rows/revision/v1", "datasets/org/rows"),
        ("/datasets/org/rows/resolve/v1/a.csv", "datasets/org/rows"),
        ("/api/models/gpt2/tree/main", "gpt2"),
    ],
)
def test_the_repository_is_read_from_the_address(path, named):
    answer = SimpleNamespace(url=f"https://huggingface.co{path}?expand=1")
    error = type("RepositoryNotFoundError", (OSError,), {"response": answer})("404")
    assert one_line(error).startswith(f"{named} does not exist")


def test_an_error_of_several_lines_becomes_one():
    told = one_line(OSError("We couldn't connect.\n  Check your\nconnection."))
    assert told == "We couldn't connect. Check your connection."


# The server itself, where tests lean on it


def test_the_server_refuses_what_the_hub_refuses(server, folder):
    api = HfApi()
    push(folder, "org/urm")
    assert server.files("org/urm").keys().isdisjoint(INITIAL)
    listed = [entry.path for entry in api.list_repo_tree("org/urm", recursive=True)]  # over several pages
    assert sorted(listed) == sorted([*WHOLE, *INITIAL]) and len(listed) > server.page
    save_file({"a": torch.zeros(1)}, folder / "x.safetensors")
    with pytest.raises(Exception, match="412|commit has happened"):
        api.upload_file(
            path_or_fileobj=folder / "x.safetensors", path_in_repo="x", repo_id="org/urm", parent_commit="0" * 40
        )

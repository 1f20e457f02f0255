"""`urm verify`: a sound folder passes; whatever is wrong with one is named."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.helpers.tiny import save_with_tokenizer, tiny_tokenizer, tiny_urm
from urm_hf import URMEnsemble
from urm_hf.cli import main
from urm_hf.hub.publish import push
from urm_hf.hub.reference import largest_difference
from urm_hf.hub.verify import verify

TWO = {"attributes": ["help", "depth"]}
WEIGHTS, SCORES = "model.safetensors", "urm_reference_scores.json"


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    folder = Path(save_with_tokenizer(tiny_urm(**TWO), tmp_path_factory.mktemp("sound") / "urm"))
    push(folder, "org/urm", dry_run=True)
    return folder


@pytest.fixture
def folder(sound, tmp_path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "urm"))


def failed(folder: Path, **kwargs) -> dict[str, str]:
    return {check.name: check.detail for check in verify(folder, **kwargs) if check.ok is False}


def change_tensors(folder: Path, change):
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def change_scores(folder: Path, change):
    stored = json.loads((folder / SCORES).read_text())
    change(stored)
    (folder / SCORES).write_text(json.dumps(stored))


def test_a_sound_folder_passes_every_check(sound):
    checks = list(verify(sound))
    assert [check.name for check in checks] == [
        "files",
        "code",
        "finite",
        "dtypes",
        "head",
        "load",
        "rewards",
        "scores",
    ]
    assert [check.name for check in checks if check.ok is not True] == []


def nan(tensors):
    tensors["model.norm.weight"][3] = float("nan")


def narrow_head(tensors):
    tensors["score.value.weight"] = tensors["score.value.weight"].bfloat16()


def narrow_body(tensors):
    tensors["model.norm.weight"] = tensors["model.norm.weight"].half()


def lose_key(tensors):
    del tensors["score.value.weight"]


def extra_key(tensors):
    tensors["score.more"] = torch.zeros(2)


def misshape(tensors):
    tensors["score.value.weight"] = tensors["score.value.weight"][:, :-1].contiguous()


@pytest.mark.parametrize(
    ("change", "name", "detail"),
    [
        (nan, "finite", "NaN or infinity in model.norm.weight"),
        (narrow_head, "dtypes", "the head must be float32: score.value.weight"),
        (narrow_body, "dtypes", "not float32, as the config says: model.norm.weight"),
        (lose_key, "load", "missing ['score.value.weight']"),
        (extra_key, "load", "unexpected ['score.more']"),
        (misshape, "load", "score.value.weight is [4, 63] instead of [4, 64]"),
    ],
)
def test_a_tensor_that_is_wrong_is_named(folder, change, name, detail):
    change_tensors(folder, change)
    assert detail in failed(folder)[name]


def test_other_weights_than_those_that_were_scored(folder):
    change_tensors(folder, lambda tensors: tensors["score.value.weight"].mul_(1.5))
    found = failed(folder)
    assert list(found) == ["scores"]
    assert "differs by" in found["scores"] and "was written for other weights" in found["scores"]


def test_a_score_beyond_the_tolerance_is_named_and_one_within_is_not(folder):
    def shift(stored):
        stored["conversations"][2]["reward"] += 0.01

    change_scores(folder, shift)
    size = max(1.0, *(abs(row["reward"]) for row in json.loads((folder / SCORES).read_text())["conversations"]))
    assert "reward of 'two turns' differs by 0.01" in failed(folder)["scores"]
    assert failed(folder, atol=0.0101 / size) == {}
    assert "differs" in failed(folder, atol=0.0099 / size)["scores"]


def test_a_stored_score_that_is_no_number_is_a_difference(folder):
    change_scores(folder, lambda stored: stored["conversations"][0].update(reward_std=float("nan")))
    assert "reward_std of 'a good answer' differs by inf" in failed(folder)["scores"]


def test_without_stored_scores_nothing_is_claimed(folder):
    (folder / SCORES).unlink()
    checks = {check.name: check for check in verify(folder)}
    assert checks["scores"].ok is None and "nothing to compare with" in checks["scores"].detail


@pytest.mark.parametrize(
    ("spoil", "name", "detail"),
    [
        (lambda f: (f / "head_urm.py").write_text("import torch\n"), "code", "head_urm.py not as in urm-hf"),
        (lambda f: (f / "head_urm.py").unlink(), "code", "head_urm.py missing"),
        (lambda f: (f / "head_urm.py").write_text("def :"), "code", "not Python"),
        (lambda f: (f / "pytorch_model.bin").write_bytes(b""), "files", "pytorch_model.bin"),
        (lambda f: (f / "chat_template.jinja").unlink(), "files", "no chat template"),
        (lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes()[:-100]), "tensors", ""),
        (lambda f: (f / WEIGHTS).unlink(), "files", "no weights"),
    ],
)
def test_a_file_that_is_wrong_is_named(folder, spoil, name, detail):
    spoil(folder)
    assert detail in failed(folder)[name]


def test_another_tokenizer_shows_in_the_scores(folder):
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = tokenizer.chat_template.replace("<|im_end|>\n", "<|im_end|>")
    tokenizer.save_pretrained(folder)
    assert "scores" in failed(folder)


def test_an_ensemble_of_folders_is_whole_here_and_says_that_others_cannot_load_it(tmp_path):
    members = [save_with_tokenizer(tiny_urm(seed=seed, **TWO), tmp_path / f"member-{seed}") for seed in range(2)]
    URMEnsemble.from_pretrained(members).save_pretrained(tmp_path / "urme")
    checks = {check.name: check for check in verify(tmp_path / "urme")}
    assert "member-0 is a local folder" in checks["files"].detail and checks["files"].ok is True
    assert checks["load"].ok and "URMEnsemble, 2 members" in checks["load"].detail


@pytest.mark.parametrize(
    ("model", "kwargs", "message"),
    [
        ("nowhere", {}, "neither a folder nor the name of a repository"),
        ("./nowhere/there", {}, "neither a folder nor the name of a repository"),
        (".", {}, "no config.json"),
        ("{folder}", {"revision": "main"}, "`revision` 'main' is for a repository"),
    ],
)
def test_what_cannot_be_verified(folder, tmp_path, monkeypatch, model, kwargs, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        list(verify(model.format(folder=folder), **kwargs))


def test_the_command_prints_every_check_and_its_exit_code_tells(folder, capsys):
    assert main(["verify", str(folder)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in out[:-1]] == ["ok"] * 8 and out[-1].endswith("as it should be")
    change_tensors(folder, nan)
    assert main(["verify", str(folder)]) == 1
    out = capsys.readouterr().out
    assert "DIFFERS  finite" in out and out.splitlines()[-1].endswith("3 of the checks failed")
    assert main(["verify", str(folder), "--atol", "-1"]) == 2
    assert "--atol must not be negative" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("stored", "now", "difference"),
    [
        ({"reward": 1.0}, {"reward": 1.5}, (0.5, "reward")),
        ({"reward": 1.0, "m": {"a": 1.0, "b": 2.0}}, {"reward": 1.1, "m": {"a": 1.0, "b": 1.5}}, (0.5, "m.b")),
        ({"reward": 1.0, "m": {"a": 1.0}}, {"reward": 1.0}, (float("inf"), "m.a")),
        ({"reward": float("nan"), "z": 1.0}, {"reward": 1.0, "z": 3.0}, (float("inf"), "reward")),
        ({"name": "x", "messages": [], "reward": 2.0}, {"reward": 2.0}, (0.0, "")),
    ],
)
def test_the_largest_difference_of_two_rows(stored, now, difference):
    assert largest_difference(stored, now) == pytest.approx(difference)


# What no stored score is needed for


def test_the_heads_statistics_are_read(folder):
    change_tensors(folder, lambda tensors: tensors["score.label_std"].neg_())
    found = failed(folder)
    assert "score.label_std must be positive" in found["head"] and "`label_stds` of config.json" in found["head"]


def test_statistics_unlike_the_configs(folder):
    config = json.loads((folder / "config.json").read_text())
    config["label_means"] = [mean + 1 for mean in config["label_means"]]
    (folder / "config.json").write_text(json.dumps(config))
    assert "`label_means` of config.json" in failed(folder)["head"]


def test_a_feature_scale_of_zero(folder):
    change_tensors(folder, lambda tensors: tensors["score.feature_scale"].zero_())
    found = failed(folder)
    assert "score.feature_scale must be positive" in found["head"] and "rewards" in found


def test_rewards_that_are_not_finite_are_found_without_stored_scores(folder):
    (folder / SCORES).unlink()
    change_tensors(folder, lambda tensors: tensors["score.gate.4.bias"].fill_(float("inf")))
    assert "row 0" in failed(folder)["rewards"]
    assert main(["verify", str(folder)]) == 1


def test_a_chat_template_that_fails(folder):
    (folder / SCORES).unlink()
    (folder / "chat_template.jinja").write_text("{{ raise_exception('not like this') }}")
    assert "not like this" in failed(folder)["rewards"]

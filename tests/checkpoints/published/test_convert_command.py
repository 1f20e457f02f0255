"""`urm convert`, and the published layout loaded by mistake."""

from types import SimpleNamespace

import pytest
from transformers import AutoModelForSequenceClassification

from tests.helpers.published import assert_same_tensors, read_state, write_state
from urm_hf import RewardScorer, URMEnsemble, URMForRewardModeling
from urm_hf.cli import main
from urm_hf.modeling import URMConfig
from urm_hf.trainers.loading import load_urm

# Loading the published layout by mistake


ARGS = {"seed": 0, "model_init_kwargs": None, "trust_remote_code": False}
LOADERS = {
    "from_pretrained": URMForRewardModeling.from_pretrained,
    "config": URMConfig.from_pretrained,
    "from_backbone": URMForRewardModeling.from_backbone,
    "scorer": RewardScorer,
    "scorer of what transformers loads": lambda f: RewardScorer(AutoModelForSequenceClassification.from_pretrained(f)),
    "ensemble": lambda folder: URMEnsemble.from_pretrained([folder, folder]),
    "attribute stage": lambda folder: load_urm(folder, SimpleNamespace(**ARGS)),
    "gating stage": lambda folder: load_urm(folder, SimpleNamespace(**ARGS), fresh_heads=False),
}


@pytest.mark.parametrize("loader", LOADERS)
def test_loading_it_unconverted_names_the_command(published, loader):
    with pytest.raises(ValueError, match="`urm convert published .*OUT`, and load OUT"):
        LOADERS[loader](published)


# The command


def test_urm_convert_there_and_back(published, tmp_path, capsys):
    out, back = str(tmp_path / "out"), str(tmp_path / "back")
    assert main(["convert", "published", published, out, "--attributes", *"abcde"]) == 0
    printed = capsys.readouterr().out
    parameters = sum(tensor.numel() for tensor in read_state(published).values())
    assert printed.splitlines() == [
        f"{out}: {published}",
        f"  {parameters:,} parameters: backbone float16, head float32",
        "  attributes: a, b, c, d, e",
        f"Load it with `RewardScorer({out!r})`; or `urm score {out} --data ROWS --out SCORED`.",
    ]
    assert main(["convert", "sglang", out, back, "--max-shard-size", "40KB"]) == 0
    printed = capsys.readouterr().out
    assert f"{parameters:,} parameters: backbone float16, value head float16, gate float16" in printed
    assert f"--model-path {back}" in printed
    assert_same_tensors(back, published)


def test_urm_convert_reports_errors_in_one_line(published, tmp_path, capsys):
    assert main(["convert", "published", published, str(tmp_path / "out"), "--attributes", "a"]) == 2
    assert main(["convert", "sglang", published, str(tmp_path / "out")]) == 2
    assert main(["convert", "published", published, str(tmp_path)]) == 2
    errors = capsys.readouterr().err.strip().splitlines()
    assert len(errors) == 3 and all(line.startswith("urm convert: error: ") for line in errors)


def test_weights_of_a_model_without_a_gate(published, tmp_path, capsys):
    write_state(published, {key: t for key, t in read_state(published).items() if not key.startswith("weights.")})
    out = str(tmp_path / "out")
    assert main(["convert", "published", published, out]) == 2
    assert "give the weights of its attributes" in capsys.readouterr().err
    assert main(["convert", "published", published, out, "--reward-weights", "0.3,0.74,0.46,0.47,-0.33"]) == 0
    assert "  weights: 0.3, 0.74, 0.46, 0.47, -0.33" in capsys.readouterr().out.splitlines()
    assert URMConfig.from_pretrained(out).reward_weights == [0.3, 0.74, 0.46, 0.47, -0.33]
    for wrong in ("a,b", "", "nan,1", "0.3;0.7"):
        with pytest.raises(SystemExit):
            main(["convert", "published", published, str(tmp_path / "other"), "--reward-weights", wrong])
        assert "numbers joined by commas" in capsys.readouterr().err


@pytest.mark.parametrize("layout", ["published", "sglang"])
def test_help(layout, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["convert", layout, "--help"])
    assert stop.value.code == 0 and "--revision" in capsys.readouterr().out

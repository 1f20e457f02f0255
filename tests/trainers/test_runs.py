"""Runs from files, as `urm train` starts them."""

import json
import re
import sys
from pathlib import Path

import pytest
from datasets import Dataset
from safetensors.torch import load_file
from transformers import AutoModel

from tests.helpers.tiny import tiny_backbone_config, tiny_tokenizer
from urm_hf.cli import main
from urm_hf.data.tables import from_ultrafeedback, load_rows

ATTRIBUTES = ["helpfulness", "correctness", "coherence", "complexity", "verbosity"]
QUICK = ["--use_cpu", "true", "--report_to", "none", "--save_strategy", "no", "--max_steps", "3"]


@pytest.fixture
def base(tmp_path, monkeypatch) -> str:
    """A tiny causal LM with its tokenizer, as a folder."""
    from transformers import AutoModelForCausalLM

    monkeypatch.setenv("URM_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "base"
    AutoModelForCausalLM.from_config(tiny_backbone_config("llama")).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


def write(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def helpsteer2_rows() -> list[dict]:
    """The published form: a prompt string, with `<extra_id_1>` turns where there are several, and integer columns."""
    several = "Name a fruit.\n<extra_id_1>Assistant\nApple\n<extra_id_1>User\nAnother?"
    return [
        {"prompt": "Name a fruit.", "response": "Apple", **dict(zip(ATTRIBUTES, (4, 4, 4, 1, 1), strict=True))},
        {"prompt": several, "response": "Stone", **dict(zip(ATTRIBUTES, (0, 0, 4, 1, 1), strict=True))},
        {"prompt": several, "response": "Pear", **dict(zip(ATTRIBUTES, (4, 3, 4, 1, 0), strict=True))},
    ]


def pairs() -> list[dict]:
    prompt = [{"role": "user", "content": "Name a fruit."}]
    return [{"prompt": prompt, "chosen": f"Apple{i}", "rejected": f"Stone{i}"} for i in range(4)]


def test_helpsteer2_as_published_trains_without_preparation(base, tmp_path):
    data = write(tmp_path / "helpsteer2.jsonl", helpsteer2_rows())
    out = tmp_path / "urm"
    argv = ["attributes", "--model_name_or_path", base, "--dataset_name", data, "--output_dir", str(out)]
    assert main(["train", *argv, *QUICK]) == 0
    model = AutoModel.from_pretrained(out)
    assert model.config.attributes == ATTRIBUTES
    assert model.config.label_means == pytest.approx([8 / 3, 7 / 3, 4, 1, 2 / 3])
    assert model.config.training["attribute_stage"]["rows"] == 3


def test_a_dry_run_tells_and_trains_nothing(base, tmp_path, capsys):
    data, out = write(tmp_path / "ratings.jsonl", helpsteer2_rows()), tmp_path / "out"
    argv = ["--model_name_or_path", base, "--dataset_name", data, "--output_dir", str(out), "--use_cpu", "true"]
    assert main(["train", "attributes", *argv, "--bf16", "false", "--report_to", "none", "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert "A dry run: nothing is trained" in told and " steps of " in told and "Saved to" not in told
    assert not list(out.glob("**/*.safetensors"))


def test_lora_flags_train_and_save_a_merged_model(base, tmp_path, recwarn):
    data = write(tmp_path / "ratings.jsonl", helpsteer2_rows())
    out = tmp_path / "urm"
    lora = ["--use_peft", "true", "--lora_target_modules", "q_proj", "v_proj", "--learning_rate", "0.1"]
    argv = ["attributes", "--model_name_or_path", base, "--dataset_name", data, "--output_dir", str(out), *lora]
    assert main(["train", *argv, *QUICK]) == 0
    assert not [warning for warning in recwarn if "checkpointing` is deprecated" in str(warning.message)]
    assert not (out / "adapter_config.json").exists()
    merged, plain = AutoModel.from_pretrained(out), AutoModel.from_pretrained(base)
    changed = {
        name for name, tensor in plain.state_dict().items() if not tensor.equal(merged.model.state_dict()[name])
    }
    assert changed and all("q_proj" in name or "v_proj" in name for name in changed)
    # the head trained as well, although nobody asked: far from the 0.1 / sqrt(H) it starts with
    assert merged.score.value.weight.std() > 0.1


def test_an_ensemble_is_trained_from_two_configs(base, tmp_path, capsys):
    ratings = write(tmp_path / "ratings.jsonl", helpsteer2_rows() * 3)
    stage_1 = tmp_path / "attributes.yaml"
    stage_1.write_text(f"model_name_or_path: {base}\ndataset_name: {ratings}\nfreeze_backbone: true\nmax_steps: 2\n")
    stage_2 = tmp_path / "gating.yaml"
    common = "use_cpu: true\nreport_to: none\nsave_strategy: 'no'\n"
    stage_1.write_text(stage_1.read_text() + "standardize_features: false\n" + common)
    stage_2.write_text(f"dataset_name: {write(tmp_path / 'pairs.jsonl', pairs())}\nmax_steps: 2\n{common}")
    out = tmp_path / "ensemble-run"
    argv = ["ensemble", "--attributes", str(stage_1), "--gating", str(stage_2), "--output_dir", str(out)]
    assert main(["train", *argv]) == 0
    ensemble = AutoModel.from_pretrained(out / "ensemble")
    seeds = [member.config.training["attribute_stage"]["seed"] for member in ensemble.members]
    assert seeds == [42, 43, 44]
    assert all("gating_stage" in member.config.training for member in ensemble.members)
    assert "Gate: weight of each attribute" in capsys.readouterr().out


def write_stages(folder: Path, base: str, ratings: list[dict], chosen: list[dict], **settings) -> list[str]:
    """The arguments of an ensemble of two that trains heads alone for two steps."""
    common = "use_cpu: true\nreport_to: none\nsave_strategy: 'no'\nmax_steps: 2\n"
    common += "".join(f"{name}: {value}\n" for name, value in settings.items())
    (folder / "attributes.yaml").write_text(
        f"model_name_or_path: {base}\ndataset_name: {write(folder / 'ratings.jsonl', ratings)}\n"
        f"freeze_backbone: true\nstandardize_features: false\n{common}"
    )
    (folder / "gating.yaml").write_text(f"dataset_name: {write(folder / 'pairs.jsonl', chosen)}\n{common}")
    files = ["--attributes-config", str(folder / "attributes.yaml"), "--gating-config", str(folder / "gating.yaml")]
    return ["train", "ensemble", *files, "--members", "2", "--out", str(folder / "run")]


def test_a_file_of_pairs_is_read_before_the_first_member_trains(base, tmp_path, capsys):
    same = pairs()[0] | {"rejected": "Apple0"}
    for bad, told in [
        ([*pairs(), same], "row 4 of the train dataset: `chosen` and `rejected` are equal once encoded"),
        ([{"prompt": "a", "response": "b"}] * 3, "the train dataset has no column `chosen` and `rejected`"),
    ]:
        assert main(write_stages(tmp_path, base, helpsteer2_rows() * 3, bad)) == 2
        written = capsys.readouterr()
        assert told in written.err and "Member 0" not in written.out


def test_rows_that_only_a_later_member_draws_are_read_before_the_first_one_trains(base, tmp_path, capsys):
    rows = [row | {"prompt": f"{number}?"} for number, row in enumerate(helpsteer2_rows() * 4)]
    for number in range(len(rows)):  # one of two members at least does not draw it; each that one draws is told
        broken = [row | {"helpfulness": "good"} if place == number else row for place, row in enumerate(rows)]
        draws = [set(Dataset.from_dict({"n": range(12)}).shuffle(seed=seed)["n"][:6]) for seed in (42, 43)]
        if number in draws[1] - draws[0]:
            break
    assert main(write_stages(tmp_path, base, broken, pairs(), train_fraction=0.5)) == 2
    written = capsys.readouterr()
    assert f"row {number} of the train dataset" in written.err and "Member 0" not in written.out


def test_what_was_kept_and_how_good_it_is_is_told(base, tmp_path, capsys):
    rated = [row | {"prompt": f"{number}?"} for number, row in enumerate(helpsteer2_rows() * 4)]
    chosen = [pair | {"prompt": f"{number}?"} for number, pair in enumerate(pairs() * 2)]
    assert main(write_stages(tmp_path, base, rated, chosen, eval_rows_held_out=2)) == 0
    told = capsys.readouterr().out
    assert len(re.findall(r"^Kept the head of epoch \S+ of 2 \(step \d of 2\): its `eval_nll`", told, re.M)) == 2
    assert told.count("its `eval_accuracy`") == 2 and len(re.findall(r"^ +eval_samples +=", told, re.M)) == 4
    assert "No rows were held out" not in told
    assert "standard deviation over conversations; r of its predictions with held-out ratings" in told


def test_where_nothing_was_held_out_it_is_told_how_to(base, tmp_path, capsys):
    assert main(write_stages(tmp_path, base, helpsteer2_rows() * 3, pairs())) == 0
    assert capsys.readouterr().out.count("No rows were held out, so that nothing is known of how good it is") == 4


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_an_ensemble_of_adapters_shares_its_base(base, tmp_path):
    ratings = write(tmp_path / "ratings.jsonl", helpsteer2_rows() * 3)
    common = "use_cpu: true\nreport_to: none\nsave_strategy: 'no'\nmax_steps: 2\n"
    stages = {
        "attributes": f"model_name_or_path: {base}\ndataset_name: {ratings}\nuse_peft: true\nsave_adapter: true\n"
        "lora_target_modules: [q_proj, v_proj]\nlearning_rate: 0.05\n",
        "gating": f"dataset_name: {write(tmp_path / 'pairs.jsonl', pairs())}\nlearning_rate: 0.05\n",
    }
    for stage, text in stages.items():
        (tmp_path / f"{stage}.yaml").write_text(text + common)
    out = tmp_path / "run"
    argv = ["ensemble", "--attributes", str(tmp_path / "attributes.yaml"), "--members", "2"]
    assert main(["train", *argv, "--gating", str(tmp_path / "gating.yaml"), "--output_dir", str(out)]) == 0
    assert not list(out.glob("**/model.safetensors"))
    ensemble = AutoModel.from_pretrained(out / "ensemble")
    assert ensemble.strategy == "shared" and len(ensemble.members) == 1
    before, after = (
        load_file(out / name / "adapter_model.safetensors") for name in ("member-0-attributes", "member-0")
    )
    gate = {key for key in before if ".gate." in key}
    assert gate and all(before[key].equal(after[key]) == (key not in gate) for key in before)


def test_an_adapter_that_is_none_is_refused_before_training(base, tmp_path, capsys):
    data = write(tmp_path / "ratings.jsonl", helpsteer2_rows())
    argv = ["attributes", "--model_name_or_path", base, "--dataset_name", data, "--output_dir", str(tmp_path / "x")]
    assert main(["train", *argv, "--save_adapter", "true", *QUICK]) == 2
    assert "`--save_adapter` needs an adapter" in capsys.readouterr().err


def test_plots_without_matplotlib_are_refused_before_training(base, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    data = write(tmp_path / "ratings.jsonl", helpsteer2_rows())
    argv = ["attributes", "--model_name_or_path", base, "--dataset_name", data, "--output_dir", str(tmp_path / "x")]
    assert main(["train", *argv, "--plots", "true", *QUICK]) == 2
    error = capsys.readouterr().err
    assert error == "urm train: error: matplotlib is not installed: `pip install 'urm-hf[report]'`.\n"
    assert not (tmp_path / "x").exists()


def test_an_ensemble_of_one_is_refused(base, tmp_path, capsys):
    config = tmp_path / "attributes.yaml"
    config.write_text(f"model_name_or_path: {base}\ndataset_name: none.jsonl\nuse_cpu: true\n")
    argv = ["ensemble", "--attributes", str(config), "--members", "1", "--output_dir", str(tmp_path / "x")]
    assert main(["train", *argv]) == 2
    assert "at least two members, got 1" in capsys.readouterr().err


def test_fixed_weights_replace_the_gate(base, tmp_path):
    data = write(tmp_path / "ratings.jsonl", helpsteer2_rows())
    out, fixed = tmp_path / "urm", tmp_path / "fixed"
    argv = ["attributes", "--model_name_or_path", base, "--dataset_name", data, "--output_dir", str(out)]
    assert main(["train", *argv, *QUICK]) == 0
    weights = ["0.3", "0.74", "0.46", "0.47", "-0.33"]
    argv = ["gating", "--model_name_or_path", str(out), "--dataset_name", "unused", "--output_dir", str(fixed)]
    assert main(["train", *argv, "--reward_weights", *weights, "--use_cpu", "true"]) == 0
    model = AutoModel.from_pretrained(fixed)
    assert model.config.reward_weights == [0.3, 0.74, 0.46, 0.47, -0.33]
    assert not [name for name in model.state_dict() if "score.gate" in name]


def test_plots_are_drawn_where_asked(base, tmp_path):
    data = write(tmp_path / "ratings.jsonl", helpsteer2_rows())
    out = tmp_path / "urm"
    argv = ["attributes", "--model_name_or_path", base, "--dataset_name", data, "--output_dir", str(out)]
    assert main(["train", *argv, *QUICK, "--logging_steps", "1", "--plots", "true"]) == 0
    assert (out / "training.png").read_bytes().startswith(b"\x89PNG")


def test_rows_without_a_rating_are_left_out_only_when_asked(base, tmp_path, caplog, capsys):
    unrated = {"prompt": "a", "response": "b", **dict.fromkeys(ATTRIBUTES)}
    data = write(tmp_path / "ratings.jsonl", [*helpsteer2_rows(), unrated])
    out = tmp_path / "urm"
    argv = ["attributes", "--model_name_or_path", base, "--dataset_name", data, "--output_dir", str(out), *QUICK]
    assert main(["train", *argv]) == 2
    assert "row 3 of the train dataset: no rating at all" in capsys.readouterr().err
    assert main(["train", *argv, "--skip_unrated", "true"]) == 0
    assert "left out 1 of 4 rows without a rating" in caplog.text


def test_ultrafeedback_becomes_a_row_for_each_completion(tmp_path):
    notes = {"helpfulness": {"Rating": "4", "Rationale": "r"}, "honesty": {"Rating": "N/A", "Rationale": "r"}}
    row = {"instruction": "q", "completions": [{"response": "a", "annotations": notes}] * 2}
    rows = from_ultrafeedback(load_rows(write(tmp_path / "uf.jsonl", [row])))
    assert len(rows) == 2
    assert rows[0] == {"prompt": "q", "response": "a", "ratings": {"helpfulness": 4.0, "honesty": None}}


def test_a_row_that_is_not_ultrafeedback_is_named(tmp_path):
    data = write(tmp_path / "uf.jsonl", [{"instruction": "q", "completions": [{"response": "a", "annotations": {}}]}])
    broken = write(tmp_path / "no.jsonl", [{"instruction": "q", "answers": []}])
    assert len(from_ultrafeedback(load_rows(data))) == 1
    with pytest.raises(ValueError, match="row 0 is not of UltraFeedback's form.*completions"):
        from_ultrafeedback(load_rows(broken))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"model_type": "nobody"}, "says `model_type` 'nobody', which transformers"),
        ({"model_type": 3}, "says `model_type` 3, which transformers"),
        ({"model_type": None}, "says `model_type` None, which transformers"),
        ({"num_attention_heads": "three"}, "num_attention_heads"),
    ],
)
@pytest.mark.parametrize("stage", ["attributes", "gating"])
def test_a_config_that_transformers_rejects_is_told_in_one_line(stage, change, told, base, tmp_path, capsys):
    config = Path(base) / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | change))
    data = write(tmp_path / "rows.jsonl", helpsteer2_rows() if stage == "attributes" else pairs())
    argv = [stage, "--model_name_or_path", base, "--dataset_name", data, "--output_dir", str(tmp_path / "out")]
    assert main(["train", *argv, *QUICK]) == 2
    error = capsys.readouterr().err.split("urm train: error: ")[1]
    assert base in error and told in error and error.count("\n") == 1
    assert "upgrade" in error or "download it again" in error

"""`urm train`, from flags and files to the models that come out."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

from tests.helpers.commands import ROWS, write
from tests.helpers.tiny import pad_rows, random_rows, tiny_backbone_config, tiny_tokenizer
from tests.helpers.tolerances import close
from urm_hf import RewardScorer
from urm_hf.cli import main

ATTRIBUTES = ["helpfulness", "clarity"]
BATCH = random_rows([5, 12])


def rated(split: str, count: int) -> list[dict]:
    return [
        {"prompt": f"Question {i}?", "response": "Yes. " * (1 + i % 4), "helpfulness": i % 4, "clarity": [i % 3, 1]}
        | {"split": split}
        for i in range(count)
    ]


def pairs(count: int) -> list[dict]:
    chosen, rejected = ([{"role": "assistant", "content": text}] for text in ("Yes. Yes. Yes.", "Yes."))
    return [
        {"prompt": [{"role": "user", "content": f"Question {i}?"}], "chosen": chosen, "rejected": rejected}
        for i in range(count)
    ]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> dict[str, Path]:
    """A tiny causal LM, the URM that the attribute stage makes of it, and that with a trained gate."""
    root = tmp_path_factory.mktemp("trained")
    folders = {name: root / name for name in ("base", "attributes", "gating")}
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(tiny_backbone_config()).save_pretrained(folders["base"])
    tiny_tokenizer().save_pretrained(folders["base"])
    ratings = write(root / "ratings.jsonl", rated("train", 12) + rated("validation", 4))
    common = ["--report_to", "none", "--use_cpu", "true", "--disable_tqdm", "true", "--cache_dir", str(root / "cache")]
    argv = ["train", "attributes", "--model_name_or_path", folders["base"], "--dataset_name", ratings]
    argv += ["--eval_split", "validation", "--output_dir", folders["attributes"], "--freeze_backbone", "true"]
    argv += ["--attributes", *ATTRIBUTES, "--num_train_epochs", "2", "--save_strategy", "no", *common]
    assert main([str(argument) for argument in argv]) == 0
    config = root / "gating.yaml"
    config.write_text("max_steps: 9\nper_device_train_batch_size: 4\nsave_strategy: 'no'\nlearning_rate: 0.01\n")
    argv = ["train", "gating", "--config", config, "--model_name_or_path", folders["attributes"]]
    argv += ["--dataset_name", write(root / "pairs.jsonl", pairs(8)), "--output_dir", folders["gating"]]
    argv += ["--max_steps", "5", *common]
    assert main([str(argument) for argument in argv]) == 0
    return folders


@pytest.mark.parametrize("stage", ["attributes", "gating"])
def test_a_trained_folder_holds_weights_code_tokenizer_and_chat_template(trained, stage):
    names = {path.name for path in trained[stage].iterdir()}
    code = {"configuration_urm.py", "distributions_urm.py", "head_urm.py", "modeling_urm.py"}
    tokenizer = {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}
    assert names >= {"config.json", "model.safetensors", "trainer_state.json"} | code | tokenizer
    assert AutoTokenizer.from_pretrained(trained[stage]).chat_template == tiny_tokenizer().chat_template


def test_a_trained_folder_loads_and_scores_with_the_attributes_that_were_named(trained):
    (result,) = RewardScorer(str(trained["gating"])).score([ROWS[0]])
    assert list(result.attribute_means) == ATTRIBUTES


def test_the_frozen_backbone_is_that_of_the_base(trained):
    base = AutoModelForCausalLM.from_pretrained(trained["base"]).model.state_dict()
    for stage in ("attributes", "gating"):
        state = AutoModel.from_pretrained(trained[stage]).model.state_dict()
        assert state.keys() == base.keys()
        assert [key for key in base if not torch.equal(base[key], state[key])] == []


def test_the_attribute_stage_keeps_the_statistics_of_the_training_split_only(trained):
    config = AutoModel.from_pretrained(trained["attributes"]).config
    rows = rated("train", 12)
    expected = [[row["helpfulness"] for row in rows], [value for row in rows for value in row["clarity"]]]
    assert config.label_means == pytest.approx([sum(values) / len(values) for values in expected])


def test_the_attribute_stage_keeps_the_metrics_of_the_evaluation(trained):
    metrics = json.loads((trained["attributes"] / "eval_results.json").read_text())
    assert {"eval_nll", "eval_mse", "eval_pearson/helpfulness", "eval_pearson/clarity"} <= set(metrics)


def test_the_gating_stage_changes_the_gate_and_nothing_else(trained):
    before, after = (AutoModel.from_pretrained(trained[stage]).state_dict() for stage in ("attributes", "gating"))
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert changed == {key for key in before if key.startswith("score.gate.")}


def test_flags_come_before_the_config_file(trained):
    state = json.loads((trained["gating"] / "trainer_state.json").read_text())
    assert (state["global_step"], state["train_batch_size"]) == (5, 4)


def test_the_gating_stage_raises_the_reward_of_chosen_over_rejected(trained):
    turns = [row["prompt"] + row[column] for row in pairs(8) for column in ("chosen", "rejected")]
    margins = []
    for stage in ("attributes", "gating"):
        rewards = [result.reward for result in RewardScorer(str(trained[stage])).score(turns)]
        margins.append(sum(rewards[::2]) - sum(rewards[1::2]))
    assert margins[1] > margins[0]


def train_attributes(trained, data: str, out: Path, *argv: str) -> int:
    fixed = ["--model_name_or_path", str(trained["base"]), "--dataset_name", data, "--output_dir", str(out)]
    fixed += ["--freeze_backbone", "true", "--num_train_epochs", "1", "--save_strategy", "no", "--report_to", "none"]
    fixed += ["--standardize_features", "false"]  # of a handful of rows
    return main(["train", "attributes", *fixed, "--use_cpu", "true", "--attributes", *ATTRIBUTES, *argv])


def test_a_row_without_a_rating_is_told_in_one_line(trained, tmp_path, capsys):
    rows = rated("train", 3) + [{"prompt": "a", "response": "b", "helpfulness": None, "clarity": None}]
    data = write(tmp_path / "ratings.jsonl", [row | {"split": "train"} for row in rows])
    assert train_attributes(trained, data, tmp_path / "out") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("urm train: error: row 3 of the train dataset: no rating at all: helpfulness, clarity")


def test_rows_without_a_rating_are_left_out_on_request_and_counted(trained, tmp_path, caplog):
    rows = rated("train", 3) + [{"prompt": "a", "response": "b", "helpfulness": None, "clarity": []}] * 2
    data = write(tmp_path / "ratings.jsonl", [row | {"split": "train"} for row in rows])
    assert train_attributes(trained, data, tmp_path / "out", "--skip_unrated", "true") == 0
    assert f"{data}: left out 2 of 5 rows without a rating." in caplog.messages


def test_the_number_of_training_rows_can_be_limited(trained, tmp_path):
    data = write(tmp_path / "ratings.jsonl", rated("train", 12))
    argv = ["--max_train_rows", "5", "--per_device_train_batch_size", "1"]
    assert train_attributes(trained, data, tmp_path / "out", *argv) == 0
    assert json.loads((tmp_path / "out" / "trainer_state.json").read_text())["global_step"] == 5


def test_a_trained_model_is_the_model_that_is_saved(trained):
    """Scores do not depend on who loads the folder: with AutoModel or by the console command's own loader."""
    model = AutoModel.from_pretrained(trained["gating"])
    with torch.no_grad():
        expected = torch.cat([model(**pad_rows([row])).logits for row in BATCH])[:, 0].tolist()
    results = RewardScorer(str(trained["gating"])).score([{"input_ids": row} for row in BATCH])
    assert [result.reward for result in results] == close(expected)

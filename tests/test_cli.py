"""The command line, from flags and files to the files and messages that come out."""

import json
import subprocess
import sys
from pathlib import Path

import datasets
import pytest
import torch
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

import urm_hf
from tests.conftest import pad_rows, random_rows, save_with_tokenizer, tiny_backbone_config, tiny_tokenizer, tiny_urm
from urm_hf import RewardScorer, URMEnsemble
from urm_hf.cli import COMMANDS, main
from urm_hf.data import read_jsonl

ROWS = [
    {"id": 7, "prompt": "Name a river.", "response": "The Po, in Italy."},
    {"id": 3, "prompt": "Why?", "response": "Bécause."},
    {"id": 9, "prompt": "Name another river, please.", "response": "The Rhine, the Danube and many more besides."},
]


@pytest.fixture(autouse=True)
def private_cache(tmp_path, monkeypatch):
    """Nothing is read from or written to the user's caches."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    monkeypatch.setenv("URM_CACHE", str(tmp_path / "urm-cache"))


def write(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture
def data(tmp_path) -> str:
    return write(tmp_path / "rows.jsonl", ROWS)


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> list[str]:
    """Folders of two URMs that differ in seed."""
    folder = tmp_path_factory.mktemp("models")
    return [save_with_tokenizer(tiny_urm(seed=seed), folder / f"member-{seed}") for seed in range(2)]


# The table of contents


@pytest.mark.parametrize("argv", [[], ["-h"], ["--help"]])
def test_the_help_lists_every_command(capsys, argv):
    assert main(argv) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("usage: urm COMMAND")
    assert [command for command in COMMANDS if f"\n  {command} " not in printed] == []


def test_the_version_is_that_of_the_package(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"urm-hf {urm_hf.__version__}\n"


def test_an_unknown_command_is_named_with_the_known_ones(capsys):
    assert main(["scroe"]) == 2
    printed = capsys.readouterr()
    assert "unknown command 'scroe'" in printed.err and "  score " in printed.err
    assert printed.out == ""


@pytest.mark.parametrize("command", ["score", "train attributes", "train gating", "train ensemble", "merge", "demo"])
def test_every_command_explains_its_options(capsys, command):
    with pytest.raises(SystemExit) as stop:
        main([*command.split(), "--help"])
    printed = capsys.readouterr().out
    assert stop.value.code == 0
    assert printed.startswith(f"usage: urm {command}")


def test_the_training_help_holds_the_flags_of_the_stage_and_of_trl(capsys):
    with pytest.raises(SystemExit):
        main(["train", "attributes", "--help"])
    printed = capsys.readouterr().out
    flags = [
        "--model_name_or_path",
        "--dataset_name",
        "--freeze_backbone",
        "--loss_type",
        "--learning_rate",
        "--use_peft",
    ]
    assert [flag for flag in flags if flag not in printed] == []


@pytest.mark.parametrize("argv, code", [([], 0), (["--help"], 0), (["gates"], 2)])
def test_train_without_a_stage_prints_its_usage(capsys, argv, code):
    assert main(["train", *argv]) == code
    assert "usage: urm train {attributes,gating" in capsys.readouterr().out


def test_the_installed_command_prints_its_help():
    command = Path(sys.executable).with_name("urm")
    if not command.exists():
        pytest.skip("the package is not installed in this environment")
    finished = subprocess.run([command, "--help"], capture_output=True, text=True, check=True)
    assert "usage: urm COMMAND" in finished.stdout


def modules_after(program: str, code: str) -> list[str]:
    """Which heavy libraries are loaded when a program of that name has run `code`."""
    heavy = "[name for name in ('torch', 'transformers', 'trl', 'datasets') if name in sys.modules]"
    code = f"import sys; sys.argv = [{program!r}, '--help']; {code}; print('\\n', *{heavy})"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return finished.stdout.splitlines()[-1].split()


@pytest.mark.parametrize("program", ["/somewhere/bin/urm", "Scripts/urm.exe", "Scripts/URM.EXE"])
@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_the_help_loads_neither_torch_nor_transformers(program, flag):
    assert modules_after(program, f"from urm_hf.cli import main; main([{flag!r}])") == []


@pytest.mark.parametrize("program", ["urm.py", "-c"])
def test_in_any_other_program_the_import_registers_the_models(program):
    code = "import urm_hf; from transformers import CONFIG_MAPPING; assert 'urm' in CONFIG_MAPPING"
    assert "torch" in modules_after(program, code)


# urm score


def score(*argv: str) -> int:
    return main(["score", *map(str, argv)])


def test_scores_are_added_to_the_rows_in_their_order(models, data, tmp_path):
    out = tmp_path / "new" / "scores.jsonl"
    assert score(models[0], "--data", data, "--out", out) == 0
    expected = RewardScorer(tiny_urm(), tiny_tokenizer()).score(ROWS)
    for written, row, expected_score in zip(read_jsonl(out), ROWS, expected, strict=True):
        assert list(written) == [*row, *expected_score]
        assert {key: written[key] for key in row} == row
        assert written["attribute_means"] == pytest.approx(expected_score.attribute_means, abs=1e-4)
        for name in ("reward", "reward_std", "attribute_variance", "covariance_norm"):
            assert written[name] == pytest.approx(expected_score[name], abs=1e-4), name


def test_several_models_make_an_ensemble(models, data, tmp_path):
    assert score(*models, "--data", data, "--out", tmp_path / "scores.jsonl") == 0
    expected = RewardScorer(URMEnsemble.from_pretrained(models)).score(ROWS)
    for written, expected_score in zip(read_jsonl(tmp_path / "scores.jsonl"), expected, strict=True):
        assert written["member_rewards"] == pytest.approx(expected_score.member_rewards, abs=1e-4)
        for name in ("reward", "reward_std", "reward_gap", "covariance_norm", "epistemic_variance"):
            assert written[name] == pytest.approx(expected_score[name], abs=1e-4), name


def test_a_saved_ensemble_is_scored_as_its_members_are(models, data, tmp_path):
    URMEnsemble.from_pretrained(models).save_pretrained(tmp_path / "ensemble")
    score(*models, "--data", data, "--out", tmp_path / "members.jsonl")
    score(tmp_path / "ensemble", "--data", data, "--out", tmp_path / "saved.jsonl")
    assert list(read_jsonl(tmp_path / "saved.jsonl")) == list(read_jsonl(tmp_path / "members.jsonl"))


def test_only_the_split_that_is_named_is_scored(models, tmp_path):
    data = write(tmp_path / "rows.jsonl", [row | {"split": split} for row, split in zip(ROWS, ["a", "b", "a"])])
    assert score(models[0], "--data", data, "--split", "a", "--out", tmp_path / "scores.jsonl") == 0
    assert [row["id"] for row in read_jsonl(tmp_path / "scores.jsonl")] == [7, 9]


def test_non_ascii_text_is_written_as_it_was_read(models, data, tmp_path):
    score(models[0], "--data", data, "--out", tmp_path / "scores.jsonl")
    assert "Bécause." in (tmp_path / "scores.jsonl").read_text(encoding="utf-8")


def test_the_summary_counts_rows_cuts_and_tokens(models, data, tmp_path, capsys):
    out = tmp_path / "scores.jsonl"
    assert score(models[0], "--data", data, "--out", out, "--max-length", 70, "--truncation", "left") == 0
    lengths = [row["n_tokens"] for row in read_jsonl(out)]
    assert f"3 rows in, 3 scored, 1 truncated, {sum(lengths)} tokens (" in capsys.readouterr().err
    assert [row["truncated"] for row in read_jsonl(out)] == [False, False, True]


def test_the_dtype_of_the_backbone_is_the_one_named(models, data, tmp_path):
    score(models[0], "--data", data, "--out", tmp_path / "scores.jsonl", "--dtype", "bfloat16")
    expected = RewardScorer(models[0], dtype=torch.bfloat16).score(ROWS)
    written = [row["reward"] for row in read_jsonl(tmp_path / "scores.jsonl")]
    assert written == pytest.approx([s.reward for s in expected], abs=1e-4)
    assert written != pytest.approx([s.reward for s in RewardScorer(models[0]).score(ROWS)], abs=1e-4)


def test_a_column_that_a_score_would_overwrite_is_an_error_that_names_it(models, tmp_path, capsys):
    data = write(tmp_path / "rows.jsonl", [row | {"reward": 5} for row in ROWS])
    assert score(models[0], "--data", data, "--out", tmp_path / "scores.jsonl") == 2
    assert "reward" in capsys.readouterr().err


EMPTY_ANSWER = [*ROWS[:2], ROWS[2] | {"response": " "}]


@pytest.mark.parametrize(
    "rows, argv, error",
    [
        (EMPTY_ANSWER, [], "row 2: `response` is empty."),
        (ROWS, ["--max-length", "70"], "row 2: the conversation has 93 tokens, more than max_length=70."),
        (ROWS, ["--revision", "a", "b"], "--revision needs one entry for each of the 1 models."),
        ([], [], "rows.jsonl holds no rows."),
    ],
    ids=["empty answer", "over-long", "revisions", "no rows"],
)
def test_what_is_wrong_is_told_in_one_line_and_nothing_is_written(models, tmp_path, capsys, rows, argv, error):
    data = write(tmp_path / "rows.jsonl", rows)
    assert score(models[0], "--data", data, "--out", tmp_path / "scores.jsonl", *argv) == 2
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("urm score: error: ")]
    assert len(told) == 1 and error in told[0]
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["rows.jsonl"]


def test_an_unknown_dtype_is_an_error_that_lists_the_known_ones(models, data, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        score(models[0], "--data", data, "--out", tmp_path / "scores.jsonl", "--dtype", "float23")
    assert stop.value.code == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("urm score: error: ") and "float23" in error and "bfloat16" in error


@pytest.mark.parametrize("missing", ["data", "model"])
def test_a_missing_file_or_model_is_told_in_one_line(models, data, tmp_path, capsys, missing):
    absent = str(tmp_path / "absent.jsonl")
    model, data = (models[0], absent) if missing == "data" else (absent, data)
    assert score(model, "--data", data, "--out", tmp_path / "scores.jsonl") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("urm score: error: ") and absent in error


def test_a_malformed_line_of_the_data_is_told_by_its_number(models, tmp_path, capsys):
    data = tmp_path / "rows.jsonl"
    data.write_text('{"text": "a"}\n{"text": \n')
    assert score(models[0], "--data", data, "--out", tmp_path / "scores.jsonl") == 2
    assert capsys.readouterr().err.startswith(f"urm score: error: {data}, line 2: not JSON")


def test_the_traceback_is_shown_on_request(models, tmp_path, monkeypatch):
    monkeypatch.setenv("URM_DEBUG", "1")
    with pytest.raises(FileNotFoundError):
        score(models[0], "--data", tmp_path / "absent.jsonl", "--out", tmp_path / "scores.jsonl")


@pytest.mark.parametrize(
    "argv", [["model"], ["model", "--data", "rows.jsonl"], ["--data", "a", "--out", "b"]], ids=str
)
def test_score_without_model_data_or_out_explains_its_usage(capsys, argv):
    with pytest.raises(SystemExit) as stop:
        score(*argv)
    assert stop.value.code == 2
    assert "usage: urm score" in capsys.readouterr().err


# urm train


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
    assert [result.reward for result in results] == pytest.approx(expected, abs=1e-4)

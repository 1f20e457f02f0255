"""`urm evaluate` on data in several files, by models of different attributes, and of scores that do not fit."""

import json

import pytest

from tests.helpers.evaluations import pairs, ratings, run, value, write
from tests.helpers.tiny import save_with_tokenizer, tiny_urm
from urm_hf.cli import main
from urm_hf.evaluation import data as evaluation_data


@pytest.fixture
def model(tmp_path) -> str:
    return save_with_tokenizer(tiny_urm(attributes=["helpfulness", "clarity"]), tmp_path / "one")


def of_subset(name: str, count: int = 6) -> list[dict]:
    return [row | {"subset": name} for row in pairs(count)]


def test_files_that_are_one_benchmark_are_joined(model, tmp_path):
    files = [write(tmp_path / f"{name}.jsonl", of_subset(name)) for name in ("hep-python", "llmbar-natural")]
    results = run(tmp_path, model, "--data", ",".join(files), "--kind", "rewardbench", "--data-names", "rb")
    (described,) = results["data"]
    assert (described["name"], described["rows"]) == ("rb", 12)
    assert described["subsets"] == {"hep-python": 6, "llmbar-natural": 6}
    sections = ["Reasoning (1 of 7 subsets)", "Chat Hard (1 of 6 subsets)"]
    parts = [value(results, "one", "accuracy", level="section", group=name) for name in sections]
    assert value(results, "one", "accuracy") == pytest.approx(sum(parts) / 2)
    unnamed = run(tmp_path, model, "--data", ",".join(files), "--kind", "rewardbench")
    assert unnamed["data"][0]["name"] == "hep-python+llmbar-natural"


@pytest.mark.parametrize(
    ("second", "told"),
    [
        (
            ratings(),
            "only preferences of one kind can be joined; first is of kind 'pairs', second is of kind 'ratings'",
        ),
        (None, "a part is named twice"),
        (pairs(3) + [pairs(1)[0] | {"rejected": pairs(1)[0]["chosen"]}], "second, row 3"),
    ],
)
def test_parts_that_cannot_be_joined_are_named(model, tmp_path, capsys, second, told):
    first = write(tmp_path / "first.jsonl", pairs(4))
    other = first if second is None else write(tmp_path / "second.jsonl", second)
    assert main(["evaluate", model, "--data", f"{first},{other}", "--out", str(tmp_path / "out")]) == 2
    assert told in capsys.readouterr().err


def test_an_error_in_a_conversation_names_the_file_that_it_came_from(model, tmp_path, capsys):
    long = [row | {"chosen": "word " * 600} for row in pairs(1)]
    files = [write(tmp_path / "first.jsonl", pairs(4)), write(tmp_path / "second.jsonl", long)]
    assert main(["evaluate", model, "--data", ",".join(files), "--out", str(tmp_path / "out")]) == 2
    assert "second, row 0, chosen" in capsys.readouterr().err


def test_each_file_is_read_once(model, tmp_path, monkeypatch):
    read, load = [], evaluation_data.evaluation_rows
    monkeypatch.setattr(
        evaluation_data, "evaluation_rows", lambda source, *args: read.append(source) or load(source, *args)
    )
    files = [write(tmp_path / "pairs.jsonl", pairs(4)), write(tmp_path / "ratings.jsonl", ratings())]
    run(tmp_path, model, "--data", *files)
    assert read == files


def test_models_of_other_attributes_are_judged_by_their_rewards_where_another_fits(model, tmp_path):
    other = save_with_tokenizer(tiny_urm(seed=1, attributes=["quality", "style"]), tmp_path / "other")
    third = save_with_tokenizer(tiny_urm(seed=2, attributes=["helpfulness", "clarity"]), tmp_path / "third")
    file = write(tmp_path / "ratings.jsonl", ratings())
    results = run(tmp_path, model, other, third, "--data", file)
    found = {entry["metric"] for entry in results["metrics"] if entry["model"] == "other"}
    assert found == {"pearson", "spearman"} and value(results, "other", "pearson", variant="reward")
    (absent,) = [entry for entry in results["absent"] if entry["model"] == "other"]
    assert "quality, style, which are not those of the data" in absent["reason"]
    assert [(entry["model_a"], entry["model_b"]) for entry in results["comparisons"]] == [("one", "third")]

    mapping = ["quality=helpfulness", "style=clarity"]
    results = run(tmp_path, model, other, "--data", file, "--attribute-map", *mapping)
    assert value(results, "other", "nll", level="attribute", group="clarity") > 0
    assert [(entry["model_a"], entry["model_b"]) for entry in results["comparisons"]] == [("one", "other")]
    results = run(tmp_path, model, other, "--data", file, "--attribute-map", mapping[0])
    assert results["comparisons"] == []  # judged on one attribute, and on two


def test_attributes_that_no_model_has_are_named(model, tmp_path, capsys):
    file = write(tmp_path / "ratings.jsonl", ratings())
    arguments = ["--data", file, "--out", str(tmp_path / "out"), "--attribute-map", "qualty=helpfulness"]
    assert main(["evaluate", model, *arguments]) == 2
    assert "names qualty, which no model has: one has helpfulness, clarity" in capsys.readouterr().err


def test_scores_without_the_chat_template_do_not_pass_for_scores_with_it(model, tmp_path, capsys):
    rows = [row | {"prompt": row["prompt"][0]["content"], "subset": "hep-js"} for row in pairs(6)]
    data, scores = write(tmp_path / "pairs.jsonl", rows), str(tmp_path / "scores.jsonl")
    assert main(["score", model, "--data", data, "--out", scores]) == 0
    assert run(tmp_path, scores, "--data", data)["data"][0]["rows"] == 6  # TRL's plain text, scored as that
    assert main(["evaluate", scores, "--data", data, "--kind", "rewardbench", "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert "computed without a chat template, but pairs, row 0, chosen is to be scored with one" in told
    chat = [row | {"prompt": [{"role": "user", "content": row["prompt"]}]} for row in rows]
    scores = str(tmp_path / "chat-scores.jsonl")
    assert main(["score", model, "--data", write(tmp_path / "chat.jsonl", chat), "--out", scores]) == 0
    assert run(tmp_path, scores, "--data", data, "--kind", "rewardbench")["data"][0]["rows"] == 6
    assert main(["evaluate", scores, "--data", data, "--kind", "pairs", "--out", str(tmp_path / "out")]) == 2
    assert "computed with a chat template" in capsys.readouterr().err


@pytest.mark.parametrize("reward", [float("nan"), float("inf"), None, "0.5", True])
def test_a_reward_that_is_no_number_is_named(model, tmp_path, capsys, reward):
    data, scores = write(tmp_path / "pairs.jsonl", pairs(4)), tmp_path / "scores.jsonl"
    assert main(["score", model, "--data", data, "--out", str(scores)]) == 0
    rows = [json.loads(line) for line in scores.read_text().splitlines()]
    rows[5]["reward"] = reward
    write(scores, rows)
    capsys.readouterr()
    assert main(["evaluate", str(scores), "--data", data, "--out", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "scores.jsonl, row 5: `reward` is" in line


def test_a_place_that_is_a_file_is_named_before_anything_is_scored(model, tmp_path, capsys):
    data = write(tmp_path / "pairs.jsonl", pairs(4))
    assert main(["evaluate", model, "--data", data, "--out", data]) == 2
    assert "is a file; it must be a folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("data", "told"),
    [(",", "there is nothing between the commas"), (".", "it is a folder; name files")],
)
def test_data_that_is_none_is_named(model, tmp_path, capsys, data, told):
    assert main(["evaluate", model, "--data", data, "--out", str(tmp_path / "out")]) == 2
    assert told in capsys.readouterr().err


def test_a_model_that_can_only_be_a_path_is_not_looked_for_on_the_hub(tmp_path, capsys):
    data = write(tmp_path / "pairs.jsonl", pairs(4))
    arguments = ["--data", data, "--out", str(tmp_path / "out")]
    assert main(["evaluate", str(tmp_path / "nothing"), *arguments]) == 2
    assert "nothing: no such folder or file" in capsys.readouterr().err
    (tmp_path / "notes.txt").write_text("none")
    assert main(["evaluate", str(tmp_path / "notes.txt"), *arguments]) == 2
    assert "neither a model's folder nor a file of scores" in capsys.readouterr().err


@pytest.mark.parametrize("rows", [pairs(1), pairs(2), ratings(1)], ids=["one pair", "one prompt", "one rating"])
def test_one_prompt_is_evaluated_and_said_to_prove_nothing(model, tmp_path, capsys, rows):
    run(tmp_path, model, "--data", write(tmp_path / "few.jsonl", rows))
    assert "! few has one prompt only" in capsys.readouterr().out


def test_prior_sets_alone_have_a_ranking(model, tmp_path, capsys):
    rows = [row | {"subset": "shp" if k < 4 else "summarize"} for k, row in enumerate(pairs(6))]
    results = run(tmp_path, model, "--data", write(tmp_path / "prior.jsonl", rows), "--kind", "rewardbench")
    sets = [value(results, "one", "accuracy", level="prior set", group=name) for name in ("shp", "summarize")]
    assert value(results, "one", "accuracy") == pytest.approx(sum(sets) / 2)
    assert "(the mean of its prior sets)" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["pairs", "ratings"])
def test_a_line_that_holds_no_row_is_an_error_or_skipped_and_named(tmp_path, kind):
    path, pair = tmp_path / "rows.jsonl", {"prompt": "a?", "chosen": "yes", "rejected": "no"}
    row = pair if kind == "pairs" else {"prompt": "a?", "response": "yes", "ratings": {"clarity": 3}}
    other = {name: "b?" if value == "a?" else value for name, value in row.items()}
    path.write_text("\n".join(['{"prompt": ', json.dumps(row), "[1]", json.dumps(other)]) + "\n")
    with pytest.raises(ValueError, match=r"rows.jsonl, line 1: not JSON"):
        evaluation_data.load_data(str(path), evaluation_data.DataOptions())
    read = evaluation_data.load_data(str(path), evaluation_data.DataOptions(on_error="skip"))
    assert len(read.content.prompts) == 2
    assert list(read.content.skipped.values()) == [1, 1]
    assert ["line 1" in reason or "line 3" in reason for reason in read.content.skipped] == [True, True]

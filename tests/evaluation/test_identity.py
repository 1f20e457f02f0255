"""Which conversations are one and which are two: all that a chat template may print tells them apart."""

import json

import pytest

from tests.helpers.tiny import save_with_tokenizer, tiny_urm
from urm_hf.cli import main
from urm_hf.evaluation.data import DataOptions, load_data
from urm_hf.evaluation.model_scores import OpenModel
from urm_hf.evaluation.pairs.data import preferences_of

ASK = {"role": "user", "content": "What is the weather in Bern?"}


def calling(**arguments) -> dict:
    call = {"type": "function", "function": {"name": "weather", "arguments": arguments}}
    return {"role": "assistant", "content": "", "tool_calls": [call]}


def said(text: str, **more) -> dict:
    return {"role": "assistant", "content": text, **more}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (calling(city="Bern"), calling(city="Basel")),
        (said("12 degrees.", name="a"), said("12 degrees.", name="b")),
        (said("12 degrees.", reasoning_content="The forecast says so."), said("12 degrees.")),
    ],
)
def test_what_is_called_named_or_reasoned_makes_another_answer(one, other):
    row = {"prompt": [ASK], "chosen": [one], "rejected": [other]}
    first, second = preferences_of([row], "rows").conversations
    assert first.key != second.key and first.turns[-1] == one and second.turns[-1] == other


def test_answers_that_say_call_and_reason_the_same_are_equal():
    row = {"prompt": [ASK], "chosen": [calling(city="Bern")], "rejected": [calling(city="Bern", unit=None)]}
    with pytest.raises(ValueError, match="a chosen and a rejected answer are equal"):
        preferences_of([row], "rows")


def test_the_tools_of_a_row_go_with_its_conversations_and_make_another_prompt():
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]
    row = {"prompt": [ASK], "chosen": [said("Yes.")], "rejected": [said("No.")]}
    with_tools, without = preferences_of([row | {"tools": tools}, row | {"tools": None}], "rows").items
    assert with_tools.chosen[0].tools == tools and without.chosen[0].tools is None
    assert with_tools.prompt != without.prompt


def test_a_question_in_a_column_of_another_name_is_read():
    row = {"question": "2 + 2?", "chosen": "4", "rejected": "5"}
    chosen = preferences_of([row], "rows").conversations[0]
    assert chosen.turns == ({"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"})


def test_evaluation_takes_what_urm_score_wrote_of_the_same_rows(tmp_path):
    rewardbench = {"prompt": "2 + 2?", "chosen_model": "a", "rejected_model": "b", "subset": "hep-js", "id": 1}
    rows = {
        "rewardbench": [rewardbench | {"chosen": "4", "rejected": "5"}],
        "question": [{"question": "2 + 2?", "chosen": "4", "rejected": "5"}],
        "text": [{"prompt": "2 + 2 = ", "chosen": "4", "rejected": "5"}],
        "reasoned": [{"prompt": [ASK], "chosen": [said("1", name="a")], "rejected": [said("1", name="b")]}],
    }
    model = save_with_tokenizer(tiny_urm(attributes=["helpfulness"]), tmp_path / "model")
    for name, table in rows.items():
        data, scores = tmp_path / f"{name}.jsonl", tmp_path / f"{name}-scores.jsonl"
        data.write_text("\n".join(map(json.dumps, table)))
        assert main(["score", model, "--data", str(data), "--out", str(scores)]) == 0
        conversations = load_data(str(data), DataOptions()).conversations
        read = OpenModel(str(scores), "scores").scores(conversations, tmp_path / "folder")
        own = OpenModel(model, "model").scores(conversations, tmp_path / name)
        assert [score.reward for score in read.scores] == pytest.approx([score.reward for score in own.scores])

"""Whatever goes wrong with one row is one error of one line that knows its row."""

import pickle

import pytest

from tests.helpers.conversation_turns import ANSWER, QUESTION
from tests.helpers.tiny import tiny_tokenizer, tiny_urm
from urm_hf import RewardScorer
from urm_hf.data.conversations import encode_conversation
from urm_hf.data.encoder import Encoder
from urm_hf.data.errors import RowError

HALF = "x\ud83d"  # the first half of an emoji, as cutting a JSON text leaves it


def deep(levels: int):
    value: list = []
    for _ in range(levels):
        value = [value]
    return value


ROWS = {
    "half a character": ([QUESTION, ANSWER | {"content": HALF}], "half of a surrogate pair"),
    "half a character of text": ({"text": HALF}, "half of a surrogate pair"),
    "nested deeply": ([QUESTION, ANSWER | {"meta": deep(100_000)}], "nested too deeply"),
    "an image": ([QUESTION | {"content": [{"type": "image", "url": "x"}]}, ANSWER], r"message 0 \(user\).*'image'"),
    "content that is data": ([QUESTION | {"content": {"a": 1}}, ANSWER], r"message 0 \(user\).*type dict"),
    "a negative id": ({"input_ids": [1, -1]}, "token 1 has the id -1, which is not in the vocabulary of 260"),
    "an id beyond the vocabulary": ({"input_ids": [260]}, "token 0 has the id 260"),
    "an id that is a truth": ({"input_ids": [1, True]}, r"`input_ids`\[1\] is True"),
    "an id that is a fraction": ({"input_ids": [1.0]}, r"`input_ids`\[0\] is 1.0"),
    "ids that are none": ({"input_ids": 5}, "TypeError"),
    "tools that are no list": ({"messages": [QUESTION, ANSWER], "tools": {"a": 1}}, "`tools` must be a list"),
    "tools that are no JSON": ({"messages": [QUESTION, ANSWER], "tools": "{"}, "cannot be encoded|not JSON|Expecting"),
    "unwritten tools": ({"messages": [QUESTION, ANSWER], "tools": [{"name": "a"}]}, "does not write `tools`"),
    "an unwritten call of old": (
        [QUESTION, ANSWER | {"function_call": {"name": "f", "arguments": "{}"}}],
        "does not write `function_call`",
    ),
    "an unwritten call": ([QUESTION, ANSWER | {"tool_calls": [{"function": {}}]}], "does not write tool calls"),
    "an option of the tokenizer": (
        {"messages": [QUESTION, ANSWER], "chat_template_kwargs": {"tokenize": False}},
        "may not set tokenize",
    ),
}


@pytest.mark.parametrize("row, told", ROWS.values(), ids=ROWS)
def test_a_row_that_cannot_be_encoded_is_told_in_one_line_with_its_number(row, told):
    with pytest.raises(RowError, match=told) as error:
        encode_conversation(tiny_tokenizer(), row)
    assert "\n" not in str(error.value)
    with pytest.raises(RowError, match=f"^row 1: .*({told})") as error:
        RewardScorer(tiny_urm(), tiny_tokenizer()).score([[QUESTION, ANSWER], row])
    assert error.value.row == 1


@pytest.mark.parametrize(
    "template, told",
    [
        (
            "{{ raise_exception('Roles must\nalternate.') }}",
            "the chat template cannot write it: Roles must alternate.",
        ),
        ("{{ messages[0].content.missing.attribute }}", "the chat template cannot write it: .*missing"),
        ("{{ messages[5]['content'] + 'a' }}", "the chat template cannot write it: .*no element 5"),
        ("{{ 'a' + 1 }}", "cannot be encoded .*TypeError"),
        ("{{ 1 // 0 }}", "cannot be encoded .*ZeroDivisionError"),
        ("{% if %}", "the chat template cannot write it"),
        ("{{ '' }}", "the chat template writes nothing"),
    ],
)
def test_whatever_a_template_raises_is_an_error_of_the_row(template, told):
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    with pytest.raises(RowError, match=told) as error:
        encode_conversation(tokenizer, [QUESTION, ANSWER])
    assert "\n" not in str(error.value)


def test_an_id_that_the_tokenizer_has_and_the_model_has_not_is_an_error_of_the_row():
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["[NEW]"], special_tokens=True)
    assert encode_conversation(tokenizer, "a[NEW]")[-1] == 260
    with pytest.raises(RowError, match="row 0: token 1 has the id 260, which is not in the vocabulary of 260"):
        RewardScorer(tiny_urm(), tokenizer).score(["a[NEW]"])


def test_a_limit_beyond_the_positions_of_the_model_is_refused():
    with pytest.raises(ValueError, match="`max_length` is 513, but the model has positions for 512"):
        RewardScorer(tiny_urm(), tiny_tokenizer(), max_length=513)


def test_the_encoder_tells_what_is_cut_and_what_is_dropped():
    def encoded(truncation: str):
        return Encoder(tiny_tokenizer(), max_length=3, truncation=truncation).encode("abcd")

    ids = encode_conversation(tiny_tokenizer(), "abcd")
    assert (encoded("left").ids, encoded("left").cut) == (ids[1:], True)
    assert (encoded("drop").ids, encoded("drop").cut) == (None, True)
    assert not Encoder(tiny_tokenizer(), max_length=4).encode("abcd").cut


def test_an_error_keeps_what_it_knows_from_process_to_process():
    error = pickle.loads(pickle.dumps(RowError("bad", file="a.jsonl", column="text").at("row 3", row=3)))
    assert (str(error), error.file, error.row, error.column) == ("row 3: bad", "a.jsonl", 3, "text")

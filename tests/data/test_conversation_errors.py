"""Conversations that are refused, each with its reason, and those that are too long."""

import pytest

from tests.helpers.conversation_turns import ANSWER, QUESTION, SYSTEM, template_ids
from tests.helpers.tiny import EOS, tiny_tokenizer
from urm_hf.data.conversations import check_truncation, encode_conversation, limit_length

# Errors


BROKEN_ROLES = {
    "system not first": ([QUESTION, SYSTEM, ANSWER], "message 1 is a system turn.*roles out of order"),
    "last not assistant": ([QUESTION, ANSWER, QUESTION], "the last message has the role 'user'"),
    "answer after answer": ([QUESTION, ANSWER, ANSWER], "the answer follows assistant.*roles out of order"),
    "answer after system": ([SYSTEM, ANSWER], "the answer follows system.*roles out of order"),
    "answer alone": ([ANSWER], "the answer follows nothing"),
    "unknown role": (
        [QUESTION | {"role": "human"}, ANSWER],
        "message 0 has the role 'human'.*user, assistant and tool",
    ),
    "no role": ([{"content": "a"}, ANSWER], "message 0 has the role None"),
    "no messages": ([], "no messages"),
}


@pytest.mark.parametrize("messages, error", BROKEN_ROLES.values(), ids=BROKEN_ROLES)
def test_roles_out_of_order_are_an_error_that_names_them(messages, error):
    with pytest.raises(ValueError, match=error):
        encode_conversation(tiny_tokenizer(), messages)


@pytest.mark.parametrize(
    "history", [[QUESTION, QUESTION], [QUESTION, ANSWER, QUESTION, {"role": "tool", "content": "5"}]]
)
def test_turns_of_one_role_in_a_row_and_tools_are_let_through_in_the_history(history):
    tokenizer = tiny_tokenizer()
    assert encode_conversation(tokenizer, [*history, ANSWER]) == template_ids(tokenizer, [*history, ANSWER])


@pytest.mark.parametrize("content", ["", " \n", None])
@pytest.mark.parametrize("number, role", [(0, "user"), (1, "assistant")])
def test_an_empty_message_is_an_error_that_names_it(content, number, role):
    messages = [dict(QUESTION), dict(ANSWER)]
    messages[number]["content"] = content
    with pytest.raises(ValueError, match=rf"message {number} \({role}\) is empty\. Fill it in, or leave the row out"):
        encode_conversation(tiny_tokenizer(), messages)


@pytest.mark.parametrize(
    "column, answer", [("response", ""), ("completion", " \n"), ("response", []), ("completion", [])]
)
def test_an_empty_answer_is_an_error_that_names_its_column(column, answer):
    with pytest.raises(ValueError, match=rf"`{column}` is empty\. Fill it in, or leave the row out"):
        encode_conversation(tiny_tokenizer(), {"prompt": "a", column: answer})


def test_an_answer_column_that_is_null_is_an_error():
    with pytest.raises(ValueError, match="`chosen` is empty"):
        encode_conversation(tiny_tokenizer(), {"prompt": "a", "chosen": None}, "chosen")


@pytest.mark.parametrize("row", ["", "  ", {"text": "\n"}])
def test_an_empty_text_is_an_error(row):
    with pytest.raises(ValueError, match="the text is empty"):
        encode_conversation(tiny_tokenizer(), row)


def test_no_token_ids_are_an_error():
    with pytest.raises(ValueError, match="empty"):
        encode_conversation(tiny_tokenizer(), {"input_ids": []})


def test_messages_without_a_chat_template_are_an_error_that_says_what_to_do():
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = None
    with pytest.raises(ValueError, match="no chat template.*plain text"):
        encode_conversation(tokenizer, [QUESTION, ANSWER])


def test_text_needs_no_chat_template():
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = None
    assert encode_conversation(tokenizer, {"prompt": "a", "completion": "b"}) == [*tokenizer("ab")["input_ids"], EOS]


def test_a_row_without_a_known_column_is_an_error_that_names_its_columns():
    with pytest.raises(ValueError, match="the columns output, note are of no known format. Nearest: "):
        encode_conversation(tiny_tokenizer(), {"output": "a", "note": "b"})


def test_an_answer_without_a_prompt_is_an_error():
    with pytest.raises(ValueError, match="`prompt` is missing beside `response`"):
        encode_conversation(tiny_tokenizer(), {"response": "a"})


@pytest.mark.parametrize("conversation", [None, 3, 1.5])
def test_what_is_no_conversation_is_an_error_that_names_its_type(conversation):
    with pytest.raises(ValueError, match=f"got {type(conversation).__name__}"):
        encode_conversation(tiny_tokenizer(), conversation)


WRONG_TYPES = [
    (["a", "b"], "message 0"),
    ({"messages": "a text"}, "`messages`"),
    ({"text": 5}, "`text`"),
    ({"prompt": 5, "completion": "a"}, "`prompt`"),
    ({"prompt": "a", "response": 5}, "`response`"),
]


@pytest.mark.parametrize("row, named", WRONG_TYPES, ids=str)
def test_a_column_of_the_wrong_type_is_a_value_error_that_names_it(row, named):
    with pytest.raises(ValueError, match=named):
        encode_conversation(tiny_tokenizer(), row)


# Length


@pytest.mark.parametrize("truncation", ["error", "left", "right", "drop"])
@pytest.mark.parametrize("max_length", [3, 4, None])
def test_ids_within_the_limit_are_returned_unchanged(truncation, max_length):
    assert limit_length([1, 2, 3], max_length, truncation) == [1, 2, 3]


@pytest.mark.parametrize("truncation, kept", [("left", [3, 4, 5]), ("right", [1, 2, 3]), ("drop", None)])
def test_longer_ids_are_cut_or_dropped_as_the_policy_says(truncation, kept):
    assert limit_length([1, 2, 3, 4, 5], 3, truncation) == kept


def test_longer_ids_are_an_error_that_names_both_lengths_and_the_ways_out():
    with pytest.raises(ValueError, match='5 tokens, more than max_length=3.*"left".*"right".*"drop"'):
        limit_length([1, 2, 3, 4, 5], 3, "error")


def test_an_unknown_truncation_is_an_error_that_lists_the_known_ones():
    with pytest.raises(ValueError, match="error, left, right, drop, got 'middle'"):
        check_truncation("middle")

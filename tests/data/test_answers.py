"""Which conversations are in a row, and what is written beside the score of each."""

import pytest

from tests.helpers.tiny import tiny_tokenizer
from urm_hf.data.answers import Columns, conversations_of
from urm_hf.data.conversations import Conversation, encode_conversation
from urm_hf.data.errors import RowError

CHAT = [{"role": "user", "content": "Hi?"}]
ANSWER = [{"role": "assistant", "content": "Hi."}]
USUAL = Columns()


def ids(conversation, **kwargs) -> list[int]:
    return encode_conversation(tiny_tokenizer(), conversation, **kwargs)


@pytest.mark.parametrize(
    "row",
    [
        {"messages": CHAT + ANSWER},
        {"text": "abc"},
        {"input_ids": [1, 2]},
        {"prompt": CHAT, "response": "Hi."},
        {"prompt": "Hi?", "completion": "Hi."},
    ],
    ids=lambda row: "+".join(row),
)
def test_a_row_with_one_conversation_stays_as_it_is(row):
    ((written, conversation),) = conversations_of(row | {"id": 3}, USUAL)
    assert written == row | {"id": 3}
    assert ids(conversation) == ids(row)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": CHAT, "chosen": "Yes.", "rejected": "No."},
        {"prompt": CHAT, "chosen": ANSWER, "rejected": ANSWER},
        {"chosen": CHAT + ANSWER, "rejected": CHAT + ANSWER},
        {"prompt": "a text", "chosen": " goes on", "rejected": " ends"},
        {"chosen": "a text", "rejected": "another"},
    ],
)
def test_pairs_have_the_ids_that_they_are_trained_on(row):
    conversations = conversations_of(row | {"id": 3}, USUAL)
    for (written, conversation), column in zip(conversations, ("chosen", "rejected")):
        assert ids(conversation) == ids(row, answer_column=column)
        assert (written["id"], written["answer_column"], written["response"]) == (3, column, row[column])
        assert not {"chosen", "rejected"} & set(written)


def test_candidates_are_rows_with_their_own_fields():
    candidates = [{"model": "a", "response": "Yes."}, {"model": "b", "response": "No."}]
    conversations = conversations_of({"id": 3, "prompt": CHAT, "candidates": candidates}, USUAL)
    first = {
        "id": 3,
        "prompt": CHAT,
        "answer_column": "candidates",
        "answer_index": 0,
        "response": "Yes.",
        "model": "a",
    }
    assert conversations[0][0] == first
    assert [written["answer_index"] for written, _ in conversations] == [0, 1]
    for (_, conversation), candidate in zip(conversations, candidates):
        assert ids(conversation) == ids({"prompt": CHAT, "response": candidate["response"]})


def test_responses_take_a_chat_template_and_completions_continue_a_text():
    (_, response), _ = conversations_of({"prompt": "2 + 2", "responses": [" = 4", " = 5"]}, USUAL)
    (_, completion), _ = conversations_of({"prompt": "2 + 2", "completions": [" = 4", " = 5"]}, USUAL)
    assert ids(response) == ids({"prompt": "2 + 2", "response": " = 4"})
    assert ids(completion) == ids({"prompt": "2 + 2", "completion": " = 4"})


def test_other_names_of_columns_are_read_as_told():
    row = {"question": "Hi?", "good": "Yes.", "bad": "No."}
    both = conversations_of(row, Columns(prompt="question", answers=("good", "bad")))
    assert [(w["answer_column"], w["response"]) for w, _ in both] == [("good", "Yes."), ("bad", "No.")]
    ((written, conversation),) = conversations_of(row, Columns(prompt="question", answers=("bad",)))
    assert written == row and ids(conversation) == ids({"prompt": "Hi?", "response": "No."})
    talk, body = {"talk": CHAT + ANSWER}, {"body": "abc"}
    assert conversations_of(talk, Columns(messages="talk")) == [(talk, Conversation(turns=(*CHAT, *ANSWER)))]
    assert conversations_of(body, Columns(text="body")) == [(body, Conversation(text="abc"))]


def test_messages_may_be_json_as_in_csv_files():
    row = {"messages": '[{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Hi."}]'}
    ((written, conversation),) = conversations_of(row, USUAL)
    assert ids(conversation) == ids(CHAT + ANSWER)


@pytest.mark.parametrize(
    "row, columns, error",
    [
        ({"prompt": "a"}, Columns(answers=("reply",)), "column `reply` is missing or null; the row has prompt."),
        ({"prompt": "a", "reply": None}, Columns(answers=("reply",)), "column `reply` is missing or null"),
        ({"a": 1}, Columns(messages="talk"), "column `talk` is missing or null"),
        ({"prompt": "a", "candidates": []}, USUAL, "`candidates` is empty"),
        ({"prompt": "a", "candidates": [{"model": "b"}]}, USUAL, r"`candidates`\[0\] has no response or completion"),
        (
            {"prompt": "a", "model": "x", "candidates": [{"model": "b", "response": "c"}]},
            USUAL,
            r"\['model'\] would be written twice",
        ),
    ],
)
def test_what_cannot_be_read_is_told(row, columns, error):
    with pytest.raises(ValueError, match=error):
        conversations_of(row, columns)


def test_a_row_of_no_known_form_is_an_error_that_names_its_columns():
    with pytest.raises(RowError, match="the columns question are of no known format"):
        conversations_of({"question": "a"}, USUAL)


def test_an_answer_beside_a_pair_is_not_guessed():
    row = {"prompt": CHAT, "response": "Hi.", "chosen": "a", "rejected": "b"}
    with pytest.raises(ValueError, match="holds `response` beside `chosen` and `rejected`.*answer_columns"):
        conversations_of(row, USUAL)
    ((_, conversation),) = conversations_of(row, Columns(answers=("response",)))
    assert ids(conversation) == ids({"prompt": CHAT, "response": "Hi."})


@pytest.mark.parametrize("answer", [ANSWER[0], ANSWER], ids=["a turn", "a list of a turn"])
def test_an_answer_that_is_a_turn_is_read_alike_in_scoring_and_training(answer):
    row = {"prompt": CHAT, "chosen": answer, "rejected": {"role": "assistant", "content": "No."}}
    scored = [ids(conversation) for _, conversation in conversations_of(row, USUAL)]
    assert scored == [ids(CHAT + ANSWER), ids([*CHAT, {"role": "assistant", "content": "No."}])]
    assert scored == [ids(row, answer_column=side) for side in ("chosen", "rejected")]


@pytest.mark.parametrize(
    "column",
    [
        *("Human", "text_prompt", "message", "inputs", "conversation_history", "queryText", "user_message", "title"),
        *("task", "x", "documents", "last_turns"),
    ],
)
def test_answers_are_not_scored_alone_beside_what_could_be_their_question(column):
    row = {column: "Name a long river.", "chosen": "The Po.", "rejected": "Rome."}
    with pytest.raises(ValueError, match=f"`{column}`.*question.*ignore_columns"):
        conversations_of(row, USUAL)
    with pytest.raises(ValueError, match=f"`{column}`"):
        conversations_of(row, Columns(answers=("chosen", "rejected")))
    assert len(conversations_of(row, Columns(ignore=(column,)))) == 2


@pytest.mark.parametrize(
    "column", ["source", "chosen_model", "prompt_id", "question_type", "rationale", "id", "license"]
)
def test_columns_about_answers_do_not_stop_pairs_of_plain_text(column):
    row = {column: "made by some model", "chosen": "Rome is old.", "rejected": "Rome is new."}
    assert [conversation.text for _, conversation in conversations_of(row, USUAL)] == ["Rome is old.", "Rome is new."]


@pytest.mark.parametrize("column", ["chat_history", "documents", "functions", "Conversation_History"])
def test_what_is_said_before_a_prompt_is_not_left_unread(column):
    with pytest.raises(ValueError, match=f"column `{column}`"):
        conversations_of({"prompt": "And then?", "response": "No.", column: ["You asked me before."]}, USUAL)


def test_an_empty_prompt_of_a_pair_is_an_error():
    with pytest.raises(ValueError, match="`prompt` is empty"):
        conversations_of({"prompt": " ", "chosen": "a", "rejected": "b"}, USUAL)


def test_one_word_that_is_a_sentence_is_a_system_prompt():
    ((_, conversation),) = conversations_of({"system": "Concisely!", "prompt": "Hi?", "response": "Hi."}, USUAL)
    assert conversation.turns[0] == {"role": "system", "content": "Concisely!"}

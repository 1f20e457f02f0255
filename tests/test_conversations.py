"""One function makes token ids of every form of a conversation: those of the chat template, of TRL, or as given."""

from types import SimpleNamespace

import pytest
from datasets import Dataset
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast
from trl import RewardTrainer
from trl.data_utils import apply_chat_template

from tests.conftest import BOS, EOS, tiny_tokenizer
from urm_hf.conversations import check_truncation, encode_conversation, limit_length, split_turns

QUESTION = {"role": "user", "content": "Name a river."}
ANSWER = {"role": "assistant", "content": "The Rhône, zum Beispiel."}
SYSTEM = {"role": "system", "content": "Be brief."}
LONG = [SYSTEM, QUESTION, ANSWER, {"role": "user", "content": "Another?"}, {"role": "assistant", "content": "The Po."}]
HELPSTEER2 = "Question\n<extra_id_1>Assistant\nAnswer\n<extra_id_1>User\nMore"
HELPSTEER2_TURNS = [
    {"role": "user", "content": "Question"},
    {"role": "assistant", "content": "Answer"},
    {"role": "user", "content": "More"},
]


def bos_adding_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer that puts BOS before every text by itself, and whose template writes BOS as well (as Llama's)."""
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|bos|> $A", pair="<|bos|> $A $B", special_tokens=[("<|bos|>", BOS)]
    )
    assert tokenizer("a")["input_ids"][0] == BOS
    return tokenizer


TOKENIZERS = pytest.mark.parametrize("tokenizer", [tiny_tokenizer(), bos_adding_tokenizer()], ids=["plain", "bos"])


def template_ids(tokenizer, messages: list[dict]) -> list[int]:
    return list(tokenizer.apply_chat_template(messages, tokenize=True, return_dict=True)["input_ids"])


def trl_ids(tokenizer, row: dict) -> tuple[list[int], list[int]]:
    """What TRL's RewardTrainer trains on: chosen and rejected."""
    args = SimpleNamespace(dataset_num_proc=None, max_length=None)
    dataset = RewardTrainer._prepare_dataset(None, Dataset.from_list([row]), tokenizer, args, "train")
    return dataset[0]["chosen_ids"], dataset[0]["rejected_ids"]


# The table of the module


@TOKENIZERS
@pytest.mark.parametrize(
    "row",
    [
        [QUESTION, ANSWER],
        (QUESTION, ANSWER),
        {"messages": [QUESTION, ANSWER]},
        {"prompt": [QUESTION], "completion": [ANSWER]},
        {"prompt": [QUESTION], "response": [ANSWER]},
        {"prompt": [QUESTION], "completion": ANSWER["content"]},
        {"prompt": [QUESTION], "response": ANSWER["content"]},
        {"prompt": QUESTION["content"], "response": ANSWER["content"]},
        {"prompt": QUESTION["content"], "completion": [ANSWER]},
    ],
    ids=lambda row: "+".join(f"{key}:{type(row[key]).__name__}" for key in row) if isinstance(row, dict) else None,
)
def test_every_form_of_messages_becomes_the_chat_template(tokenizer, row):
    assert encode_conversation(tokenizer, row) == template_ids(tokenizer, [QUESTION, ANSWER])


def test_a_system_turn_and_several_rounds_become_the_chat_template():
    tokenizer = tiny_tokenizer()
    assert encode_conversation(tokenizer, LONG) == template_ids(tokenizer, LONG)


@TOKENIZERS
@pytest.mark.parametrize("row", ["<|bos|>any text", {"text": "<|bos|>any text"}])
def test_a_text_is_taken_exactly(tokenizer, row):
    assert encode_conversation(tokenizer, row) == [BOS, *tiny_tokenizer()("any text")["input_ids"]]


def test_token_ids_are_taken_as_they_are():
    assert encode_conversation(tiny_tokenizer(), {"input_ids": (5, 6, 7)}) == [5, 6, 7]


def test_a_prompt_and_a_completion_of_text_are_joined_without_a_template():
    tokenizer = tiny_tokenizer()
    ids = encode_conversation(tokenizer, {"prompt": "2 + 2", "completion": " = 4"})
    assert ids == [*tokenizer("2 + 2 = 4")["input_ids"], EOS]


def test_columns_that_are_null_are_as_good_as_absent():
    tokenizer = tiny_tokenizer()
    row = {"messages": None, "text": None, "input_ids": None, "completion": None, "prompt": "a?", "response": "b."}
    turns = [{"role": "user", "content": "a?"}, {"role": "assistant", "content": "b."}]
    assert encode_conversation(tokenizer, row) == template_ids(tokenizer, turns)


def test_keys_of_messages_that_a_table_filled_with_null_do_not_reach_the_template(monkeypatch):
    tokenizer, written = tiny_tokenizer(), []
    apply = tokenizer.apply_chat_template
    monkeypatch.setattr(
        tokenizer, "apply_chat_template", lambda turns, **kwargs: written.extend(turns) or apply(turns, **kwargs)
    )
    encode_conversation(tokenizer, [QUESTION | {"tool_calls": None}, ANSWER | {"name": None}])
    assert written == [QUESTION, ANSWER]


@pytest.mark.parametrize("answer", ["The Po.", [{"role": "assistant", "content": "The Po."}]])
def test_the_answer_is_read_from_the_column_that_is_named(answer):
    tokenizer = tiny_tokenizer()
    row = {"prompt": [QUESTION], "chosen": answer, "rejected": "No."}
    turns = [QUESTION, {"role": "assistant", "content": "The Po."}]
    assert encode_conversation(tokenizer, row, "chosen") == template_ids(tokenizer, turns)


# The ids that TRL trains on and rewards


PAIRS = {
    "text, explicit prompt": {"prompt": "Is it? ", "chosen": "It is.", "rejected": "No"},
    "text, implicit prompt": {"chosen": "Is it? It is.", "rejected": "Is it? No"},
    "text that ends with EOS": {"prompt": "Is it? ", "chosen": "It is.<|im_end|>", "rejected": "No<|im_end|>"},
    "messages, explicit prompt": {
        "prompt": [SYSTEM, QUESTION],
        "chosen": [ANSWER],
        "rejected": [{"role": "assistant", "content": "No"}],
    },
    "messages, implicit prompt": {
        "chosen": [QUESTION, ANSWER],
        "rejected": [QUESTION, {"role": "assistant", "content": "No"}],
    },
}


@TOKENIZERS
@pytest.mark.parametrize("row", PAIRS.values(), ids=PAIRS)
def test_pairs_give_the_ids_of_the_reward_trainer(tokenizer, row):
    ours = encode_conversation(tokenizer, row, "chosen"), encode_conversation(tokenizer, row, "rejected")
    assert ours == trl_ids(tokenizer, row)


@TOKENIZERS
def test_a_prompt_and_a_completion_of_text_give_the_ids_of_the_reward_trainer(tokenizer):
    chosen, _ = trl_ids(tokenizer, PAIRS["text, explicit prompt"])
    assert encode_conversation(tokenizer, {"prompt": "Is it? ", "completion": "It is."}) == chosen


@TOKENIZERS
@pytest.mark.parametrize("messages", [[QUESTION, ANSWER], LONG], ids=["one round", "two rounds"])
def test_messages_give_the_ids_that_grpo_passes_to_a_reward_model(tokenizer, messages):
    text = apply_chat_template({"messages": messages}, tokenizer)["text"]
    assert encode_conversation(tokenizer, messages) == tokenizer(text, add_special_tokens=False)["input_ids"]


@TOKENIZERS
def test_a_text_gives_the_ids_that_grpo_passes_to_a_reward_model(tokenizer):
    text = "Is it? " + "It is."
    assert encode_conversation(tokenizer, text) == tokenizer(text, add_special_tokens=False)["input_ids"]


@TOKENIZERS
@pytest.mark.parametrize(
    "row",
    [
        [QUESTION, ANSWER],
        {"prompt": "a", "response": "b"},
        {"prompt": "<|bos|>a", "completion": "b"},
        {"text": "<|bos|>a"},
    ],
    ids=["messages", "response", "completion", "text"],
)
def test_there_is_one_bos_and_never_two(tokenizer, row):
    ids = encode_conversation(tokenizer, row)
    assert ids[0] == BOS and ids.count(BOS) == 1


def test_a_tokenizer_that_adds_bos_adds_it_to_a_completion_of_text():
    ids = encode_conversation(bos_adding_tokenizer(), {"prompt": "a", "completion": "b"})
    assert ids == [BOS, *tiny_tokenizer()("ab")["input_ids"], EOS]


# HelpSteer2


def test_turns_of_a_helpsteer2_prompt_become_messages():
    assert split_turns(HELPSTEER2) == HELPSTEER2_TURNS


def test_a_helpsteer2_row_becomes_the_chat_template_of_its_turns():
    tokenizer = tiny_tokenizer()
    ids = encode_conversation(tokenizer, {"prompt": HELPSTEER2, "response": "Last"})
    assert ids == template_ids(tokenizer, [*HELPSTEER2_TURNS, {"role": "assistant", "content": "Last"}])


def test_a_prompt_without_marks_is_one_user_turn_to_the_letter():
    assert split_turns("\nA question \n") == [{"role": "user", "content": "\nA question \n"}]


def test_the_indentation_of_a_turn_is_kept():
    turns = split_turns("Code?\n<extra_id_1>Assistant\n    return 1\n<extra_id_1>User\nMore")
    assert turns[1]["content"] == "    return 1"


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
    with pytest.raises(ValueError, match=rf"message {number} \({role}\) is empty"):
        encode_conversation(tiny_tokenizer(), messages)


@pytest.mark.parametrize(
    "column, answer", [("response", ""), ("completion", " \n"), ("response", []), ("completion", [])]
)
def test_an_empty_answer_is_an_error_that_names_its_column(column, answer):
    with pytest.raises(ValueError, match=f"`{column}` is empty"):
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
    with pytest.raises(ValueError, match=r"columns \['instruction', 'output'\]; expected `messages`"):
        encode_conversation(tiny_tokenizer(), {"output": "a", "instruction": "b"})


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

"""One function makes token ids of every form of a conversation: those of the chat template, and of TRL."""

from types import SimpleNamespace

import pytest
from datasets import Dataset
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast
from trl import RewardTrainer
from trl.data_utils import apply_chat_template

from tests.helpers.conversation_turns import ANSWER, QUESTION, SYSTEM, template_ids
from tests.helpers.tiny import BOS, EOS, tiny_tokenizer
from urm_hf.data.conversations import encode_conversation, split_turns

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

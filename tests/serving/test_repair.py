"""The text of each framework becomes the text that the template writes, and right text stays as it is."""

import pytest

from tests.helpers.chats import ROWS, messages_of, render
from tests.helpers.tiny import byte_tokenizer, tiny_tokenizer
from urm_hf.data.errors import RowError
from urm_hf.serving.repair import TextRepair, read_frame

# with BOS as SmolLM2 has it; as Llama 3 writes it; as Zephyr and Mistral end a turn; and one that ends with nothing
TEMPLATES = {
    "tiny": None,
    "smollm2": "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}",
    "llama3": "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.role }}\n\n{{ m.content }}<|im_end|>"
    "{% endfor %}",
    "mistral": "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% else %} {{ m.content }} <|im_end|>\n{% endif %}{% endfor %}",
    "open": "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% endfor %}",
}


def tokenizer_of(name: str):
    tokenizer = tiny_tokenizer()
    if TEMPLATES[name] is not None:
        tokenizer.chat_template = TEMPLATES[name]
    if name == "smollm2":
        tokenizer.bos_token = "<|im_start|>"
    return tokenizer


@pytest.fixture(params=list(TEMPLATES))
def repair(request) -> TextRepair:
    return TextRepair(tokenizer_of(request.param))


def test_right_text_stays_as_it_is(repair):
    for row in ROWS:
        text = render(repair.tokenizer, row)
        conversation, done = repair.repair(text)
        assert conversation.text == text and done == []
        assert (
            conversation.encode(repair.tokenizer)
            == repair.tokenizer.apply_chat_template(messages_of(row), tokenize=True, return_dict=True)["input_ids"]
        )


def test_wherever_the_ending_was_cut_off_it_is_completed(repair):
    ending = read_frame(repair.tokenizer).ending
    text = render(repair.tokenizer, ROWS[0])
    # whole tokens only: half of one is what an answer may well end with
    token = ending.find("<|im_end|>")
    cuts = [stop for stop in range(len(ending)) if stop == 0 or stop >= token + len("<|im_end|>")]
    for stop in cuts:
        conversation, done = repair.repair(text[: len(text) - len(ending) + stop])
        assert (conversation.text, done) == (text, ["ending"])


@pytest.mark.parametrize("answer", ["", " ", "\n\n", "<|im_end|>", " <|im_end|>\n", "<|im_end|><|im_end|>"])
def test_no_answer_is_refused_in_a_template_too(repair, answer):
    before = render(repair.tokenizer, ROWS[0]).rpartition(messages_of(ROWS[0])[-1]["content"])[0]
    for prompt in (None, before):
        with pytest.raises(RowError, match="the answer is empty"):
            repair.repair(before + answer, prompt)
    with pytest.raises(RowError, match="the answer is empty"):
        repair.repair("What is a river?" + answer, "What is a river?")


def test_tokens_that_fill_a_row_up_are_no_part_of_the_answer():
    repair = TextRepair(tokenizer_of("smollm2"))
    text = render(repair.tokenizer, ROWS[0])
    for tail in ("<|im_end|><|im_end|>", "<|im_end|><|pad|><|pad|>", "<|pad|>"):
        assert repair.repair(text.removesuffix("<|im_end|>\n") + tail)[0].text == text


def test_the_bos_of_the_template_is_there_once():
    for name in ("tiny", "smollm2", "llama3", "mistral"):
        repair = TextRepair(tokenizer_of(name))
        bos, text = repair.tokenizer.bos_token, render(repair.tokenizer, ROWS[0])
        assert repair.repair(text.removeprefix(bos)) == (repair.repair(text)[0], ["begin"])
        assert repair.repair(bos + bos + text) == (repair.repair(text)[0], ["doubled_begin"])


def test_a_bos_that_the_template_does_not_write_is_taken_away():
    repair = TextRepair(tokenizer_of("open"))
    text = render(repair.tokenizer, ROWS[0])
    assert repair.repair("<|bos|>" + text) == (repair.repair(text)[0], ["doubled_begin"])


def test_both_ends_are_repaired_at_once():
    repair = TextRepair(tokenizer_of("smollm2"))
    text = render(repair.tokenizer, ROWS[0])
    conversation, done = repair.repair(text.removeprefix("<|im_start|>").removesuffix("\n"))
    assert conversation.text == text and sorted(done) == ["begin", "ending"]


def test_an_answer_that_ends_like_a_token_is_completed_whole():
    repair = TextRepair(tiny_tokenizer())
    row = {"prompt": "Close it.", "response": "a < b, <|im_"}
    text = render(repair.tokenizer, row)
    assert repair.repair(text.removesuffix("<|im_end|>\n"))[0].text == text


def test_text_without_the_template_is_rendered_where_the_prompt_is_known():
    repair = TextRepair(tiny_tokenizer())
    conversation, done = repair.repair("Why?So it is.<|im_end|>", "Why?")
    assert [turn["content"] for turn in conversation.turns] == ["Why?", "So it is."] and done == ["template"]
    with pytest.raises(RowError, match="chat template"):
        repair.repair("Why?So it is.")
    with pytest.raises(RowError, match="chat template"):
        repair.repair("Why?So it is.", "What?")


def test_a_model_without_a_template_gets_text_as_trl_closes_it():
    tokenizer = byte_tokenizer({"a": 0, "b": 1}, ["<e>"], eos_token="<e>")
    repair = TextRepair(tokenizer)
    conversation, done = repair.repair("ab")
    assert conversation.encode(tokenizer) == [0, 1, 2] and done == ["closed"]
    assert repair.repair("ab<e>")[1] == []


def test_ids_are_repaired_as_the_text_that_they_are():
    repair = TextRepair(tiny_tokenizer())
    tokenizer = repair.tokenizer
    ids = tokenizer(render(tokenizer, ROWS[1]), add_special_tokens=False)["input_ids"]
    conversation, done = repair.repair_ids(ids[1:-1])
    assert conversation.encode(tokenizer) == ids and sorted(done) == ["begin", "ending"]
    # half of a character is no text; ids beyond the vocabulary are told by whoever encodes them
    for odd in ([195, 195], [5, 100_000]):
        assert list(repair.repair_ids(odd)[0].ids) == odd


@pytest.mark.parametrize(
    "text",
    [
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nWhy?<|eot_id|>So.",
        "<s>[INST] Why? [/INST] So.",
        "<bos><start_of_turn>user\nWhy?<end_of_turn>\n<start_of_turn>model\nSo.",
    ],
)
def test_the_template_of_another_model_is_refused_and_not_taken_for_a_question(text):
    repair = TextRepair(tiny_tokenizer())
    with pytest.raises(RowError, match="chat template of another model"):
        repair.repair(text, text.removesuffix("So."))

"""Chat templates that print today's date print one date, on every day and in every tool."""

import pytest
import transformers.utils.chat_template_utils as templates

from tests.helpers.conversation_turns import ANSWER, QUESTION
from tests.helpers.tiny import CHATML, tiny_tokenizer, tiny_urm
from tests.helpers.training import gating_trainer, pair_rows
from urm_hf import RewardScorer
from urm_hf.data.conversations import encode_conversation
from urm_hf.data.template_dates import check_dates, fix_dates, fix_template_date

TODAY = "{{ strftime_now('%d %b %Y') }} "
# as in Llama 3.2: a date may be handed over, and where there is no clock there is a date in the template
LLAMA = (
    "{% if not date_string is defined %}{% if strftime_now is defined %}"
    '{% set date_string = strftime_now("%d %b %Y") %}'
    "{% else %}{% set date_string = '26 Jul 2024' %}{% endif %}{% endif %}{{ date_string }} "
)


class AnotherDay(templates.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2031, 3, 4)


def dated(beginning: str):
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = beginning + CHATML
    return tokenizer


@pytest.mark.parametrize("beginning", [TODAY, LLAMA], ids=["plain", "llama"])
def test_the_date_is_that_of_llamas_templates_on_every_day(monkeypatch, beginning):
    tokenizer, undated = dated(beginning), tiny_tokenizer()
    undated.chat_template = "26 Jul 2024 " + CHATML
    expected = encode_conversation(undated, [QUESTION, ANSWER])
    assert encode_conversation(tokenizer, [QUESTION, ANSWER]) == expected
    monkeypatch.setattr(templates, "datetime", AnotherDay)
    assert encode_conversation(tokenizer, [QUESTION, ANSWER]) == expected


@pytest.mark.parametrize("beginning", [TODAY, LLAMA], ids=["plain", "llama"])
def test_a_tokenizer_with_its_date_written_in_gives_the_same_ids_to_any_tool(monkeypatch, beginning):
    tokenizer = dated(beginning)
    expected = encode_conversation(tokenizer, [QUESTION, ANSWER])
    assert fix_dates(tokenizer) and not fix_dates(tokenizer)
    monkeypatch.setattr(templates, "datetime", AnotherDay)
    assert list(tokenizer.apply_chat_template([QUESTION, ANSWER], return_dict=True)["input_ids"]) == expected


def test_a_template_without_a_clock_stays_as_it_is():
    assert fix_template_date(CHATML) == CHATML
    assert not fix_dates(tiny_tokenizer())


def test_a_date_that_a_row_hands_over_is_printed():
    row = {"messages": [QUESTION, ANSWER], "chat_template_kwargs": {"date_string": "1 Jan 2020"}}
    assert "1 Jan 2020" in dated(LLAMA).decode(encode_conversation(dated(LLAMA), row))


@pytest.mark.parametrize("clock", ["{{ strftime_now(format) }}", "{% set now = strftime_now %}{{ now('%Y') }}"])
def test_a_clock_that_cannot_be_fixed_is_refused(tmp_path, clock):
    tokenizer = dated(clock)
    with pytest.raises(ValueError, match="prints today's date in a way that cannot be fixed"):
        check_dates(tokenizer)
    with pytest.raises(ValueError, match="prints today's date"):
        RewardScorer(tiny_urm(), tokenizer).score([[QUESTION, ANSWER]])
    with pytest.raises(ValueError, match="prints today's date"):
        gating_trainer(tmp_path, pair_rows(), tokenizer=tokenizer)


def test_training_writes_the_date_into_the_template(tmp_path):
    trainer = gating_trainer(tmp_path, pair_rows(), tokenizer=dated(TODAY))
    assert "26 Jul 2024" in trainer.processing_class.chat_template
    assert "strftime_now" not in trainer.processing_class.chat_template

"""Answers drawn from a policy, against transformers' own generation and its distribution."""

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from transformers import LogitsProcessorList, T5Config, T5ForConditionalGeneration

from tests.helpers.prompts import CHAT, TEXTS
from tests.helpers.tiny import EOS, tiny_tokenizer, tiny_urm
from urm_hf.bestofn.sampling import DrawnToken, sample_answers


def drawn(policy, tokenizer, prompts=CHAT, n=4, **settings) -> list[list[str]]:
    settings = {"max_new_tokens": 12, "tokenizer": tokenizer, "seed": 5} | settings
    return [[answer.text for answer in group] for group in sample_answers(policy, prompts, n, **settings)]


@pytest.mark.parametrize("prompts", [CHAT, TEXTS], ids=["chat", "text"])
def test_greedy_answers_are_those_of_generate(policy, tokenizer, prompts):
    answers = sample_answers(policy, prompts, 1, tokenizer=tokenizer, temperature=0, max_new_tokens=20, batch_size=2)
    for prompt, (answer,) in zip(prompts, answers):
        if isinstance(prompt, str):
            ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
        else:
            text = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False)
            ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
        written = policy.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=20)[0]
        assert answer.text == tokenizer.decode(written[ids.shape[1] :], skip_special_tokens=True)
        assert answer.cut == (EOS not in written[ids.shape[1] :])


def test_a_step_draws_what_transformers_multinomial_draws_from(policy):
    scores = torch.tensor([[0.0, 1.0, -torch.inf, 2.0]])
    numbers = np.random.default_rng(0).random(20000)
    rows = DrawnToken(torch.from_numpy(numbers)[:, None])(None, scores.expand(len(numbers), -1))
    assert (rows > -torch.inf).sum(1).eq(1).all()
    counts = np.bincount(rows.argmax(1), minlength=4)
    expected = scores.softmax(-1)[0].numpy() * len(numbers)
    assert counts[2] == 0
    assert chisquare(counts[[0, 1, 3]], expected[[0, 1, 3]]).pvalue > 1e-3


def test_the_least_and_the_largest_number_draw_tokens_that_are_possible():
    scores = torch.tensor([[-torch.inf, 0.0, 1.0, -torch.inf]])
    for number, token in ((0.0, 1), (np.nextafter(1, 0), 2)):
        row = DrawnToken(torch.tensor([[number]], dtype=torch.float64))(None, scores)
        assert row.argmax() == token


def test_first_tokens_follow_the_warped_distribution_of_the_policy(policy, tokenizer):
    settings = {"temperature": 0.7, "top_k": 6, "top_p": 0.9}
    answers = drawn(policy, tokenizer, TEXTS[:1], 1500, max_new_tokens=1, batch_size=500, **settings)[0]
    ids = tokenizer(TEXTS[0], return_tensors="pt")
    # transformers' own order of warpers, from the config of a sampling call
    config = policy.generation_config.__class__(do_sample=True, **settings)
    warpers = policy._get_logits_processor(config, input_ids_seq_length=4, device="cpu")
    assert isinstance(warpers, LogitsProcessorList) and len(warpers) == 3
    with torch.no_grad():
        odds = warpers(ids["input_ids"], policy(**ids).logits[:, -1]).softmax(-1)[0].numpy()
    expected: dict[str, float] = {}  # some bytes are no text by themselves, and read alike
    for token in np.flatnonzero(odds):
        text = tokenizer.decode([token], skip_special_tokens=True)
        expected[text] = expected.get(text, 0) + 1500 * odds[token]
    counts = [answers.count(text) for text in expected]
    assert sum(counts) == 1500 and len(counts) > 2
    assert chisquare(counts, list(expected.values())).pvalue > 1e-3


def test_answers_depend_on_the_seed_and_not_on_the_batch_or_on_n(policy, tokenizer):
    answers = drawn(policy, tokenizer)
    assert len({text for group in answers for text in group}) == 12
    assert drawn(policy, tokenizer, batch_size=1) == drawn(policy, tokenizer, batch_size=5) == answers
    assert drawn(policy, tokenizer, n=2) == [group[:2] for group in answers]
    assert drawn(policy, tokenizer, seed=6) != answers
    torch.manual_seed(99)
    assert drawn(policy, tokenizer) == answers


def test_equal_prompts_get_answers_of_their_own(policy, tokenizer):
    first, second = drawn(policy, tokenizer, [CHAT[0], CHAT[0]])
    assert first != second


def test_the_end_of_a_turn_ends_an_answer_whichever_of_the_ends_it_is(policy, tokenizer):
    answers = sample_answers(policy, CHAT, 6, tokenizer=tokenizer, max_new_tokens=40, seed=1)
    longer = sample_answers(policy, CHAT, 6, tokenizer=tokenizer, max_new_tokens=60, seed=1)
    assert {answer.cut for group in answers for answer in group} == {True, False}
    for group, further in zip(answers, longer):
        for answer, more in zip(group, further):
            assert more.text.startswith(answer.text.rstrip("\ufffd"))  # cut inside a character of several bytes
            assert answer.cut or more == answer
    early = policy.generation_config.eos_token_id
    try:
        policy.generation_config.eos_token_id = list(range(0, 256, 2)) + [EOS]
        short = sample_answers(policy, CHAT, 6, tokenizer=tokenizer, max_new_tokens=40, seed=1)
    finally:
        policy.generation_config.eos_token_id = early
    assert not any(answer.cut for group in short for answer in group)
    for group, before in zip(short, answers):
        assert all(old.text.startswith(new.text.rstrip("\ufffd")) for new, old in zip(group, before))


def test_the_policy_is_left_as_it_was(policy, tokenizer):
    policy.train()
    with_dropout = drawn(policy, tokenizer)
    assert policy.training
    policy.eval()
    assert drawn(policy, tokenizer) == with_dropout and not policy.training


def test_sampling_settings_in_a_generation_config_change_nothing(policy, tokenizer, caplog):
    answers = drawn(policy, tokenizer)
    before = policy.generation_config
    try:
        policy.generation_config = before.__class__.from_dict(
            before.to_dict() | {"do_sample": True, "temperature": 0.1, "top_p": 0.2, "top_k": 1, "num_beams": 3}
        )
        assert drawn(policy, tokenizer) == answers
    finally:
        policy.generation_config = before
    assert caplog.records == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n": 0}, "`n` must be a positive whole number, got 0"),
        ({"n": 2.5}, "`n` must be a positive whole number, got 2.5"),
        ({"max_new_tokens": 0}, "`max_new_tokens` must be a positive"),
        ({"batch_size": 0}, "`batch_size` must be a positive"),
        ({"top_k": 0}, "`top_k` must be a positive"),
        ({"top_p": 0.0}, r"`top_p` must lie in \(0, 1\], got 0.0"),
        ({"temperature": -1.0}, "`temperature` must be finite and not negative, got -1.0"),
        ({"temperature": 0}, "`temperature=0` gives one answer 4 times"),
        ({"seed": -1}, "`seed` must be a whole number and not negative, got -1"),
        ({"dtype": "float32"}, "are for loading a policy by name"),
        ({"max_new_tokens": 500}, r"`prompts\[0\]` has \d+ tokens; with max_new_tokens=500 .* 512 positions"),
        ({"prompts": [CHAT[0], " "]}, r"`prompts\[1\]` is empty"),
        ({"prompts": [[]]}, r"`prompts\[0\]` must be a text, or messages with role and content; got \[\]"),
        ({"prompts": [CHAT[0] + [{"role": "assistant", "content": "The Po."}]]}, "ends with the turn of assistant"),
    ],
)
def test_sampling_that_makes_no_sense_is_an_error(policy, tokenizer, settings, message):
    with pytest.raises(ValueError, match=message):
        drawn(policy, tokenizer, **settings)


def test_messages_need_a_chat_template_and_texts_do_not(policy):
    plain = tiny_tokenizer()
    plain.chat_template = None
    with pytest.raises(ValueError, match="the policy's tokenizer has no chat template"):
        drawn(policy, plain)
    assert len(drawn(policy, plain, TEXTS)) == 3


def test_a_policy_must_be_a_decoder(policy, tokenizer):
    config = T5Config(vocab_size=300, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    for wrong in (T5ForConditionalGeneration(config), tiny_urm()):
        with pytest.raises(ValueError, match="must be a decoder that generates, got"):
            drawn(wrong, tokenizer)

"""The scorer when memory runs out, and on streams."""

import pytest
import torch

from tests.helpers.branching import branching, rewards, rewards_alone
from tests.helpers.tiny import tiny_tokenizer, tiny_urm
from tests.helpers.tolerances import close
from urm_hf import RewardScorer

# Memory


class Small:
    """A backbone's forward that fails like torch does, above a number of tokens."""

    def __init__(self, backbone, most: int, error: Exception):
        self.forward, self.most, self.error, self.seen = backbone.forward, most, error, []
        backbone.forward = self

    def __call__(self, input_ids=None, **kwargs):
        self.seen.append(input_ids.numel())
        if input_ids.numel() > self.most:
            raise self.error
        return self.forward(input_ids=input_ids, **kwargs)


ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"),
]


@pytest.mark.parametrize("error", ERRORS, ids=["gpu", "cpu"])
@pytest.mark.parametrize("family", ["llama", "mistral"])
def test_batches_are_halved_when_memory_runs_out_and_stay_so(family, error):
    rows = branching(2)
    expected = rewards_alone(tiny_urm(family), rows)
    model = tiny_urm(family)
    scorer = RewardScorer(model, tiny_tokenizer(), max_tokens_per_batch=2000)
    memory = Small(model.model, 200, error)
    assert rewards(scorer.score(rows)) == close(expected)
    assert max(memory.seen) > 200 >= scorer.max_tokens_per_batch
    memory.seen.clear()
    scorer.score(rows)
    assert max(memory.seen) <= 200


@pytest.mark.parametrize("family", ["llama", "mistral"])
def test_a_single_conversation_that_memory_cannot_hold_is_an_error(family):
    model = tiny_urm(family)
    Small(model.model, 100, ERRORS[0])
    with pytest.raises(torch.OutOfMemoryError):
        RewardScorer(model, tiny_tokenizer()).score(["a", "b" * 101])


def test_another_error_of_the_model_is_not_taken_for_lack_of_memory():
    model = tiny_urm("mistral")
    Small(model.model, 5, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        RewardScorer(model, tiny_tokenizer()).score(["a", "abcdef"])


@pytest.mark.parametrize("name", ["max_tokens_per_batch", "max_length"])
def test_limits_must_be_positive(name):
    with pytest.raises(ValueError, match=f"`{name}` must be positive, got 0"):
        RewardScorer(tiny_urm(), tiny_tokenizer(), **{name: 0})


# Streams


@pytest.mark.parametrize("window", [1, 5, 30, 100])
def test_a_stream_has_the_scores_of_the_whole(window):
    model, rows = tiny_urm(), branching(3)
    scorer = RewardScorer(model, tiny_tokenizer())
    streamed = scorer.score_stream(iter(rows), rows_at_once=window)
    assert rewards(streamed) == close(rewards_alone(model, rows))
    assert scorer.stats["conversations"] == 30
    assert scorer.stats["tokens"] == sum(len(row["input_ids"]) for row in rows)


def test_a_stream_is_read_only_as_far_as_it_is_used():
    read = []

    def endless():
        while True:
            read.append(len(read))
            yield f"text {len(read)}"

    stream = RewardScorer(tiny_urm(), tiny_tokenizer()).score_stream(endless(), rows_at_once=4)
    for _ in range(6):
        next(stream)
    assert len(read) == 8


@pytest.mark.parametrize(
    "bad, error", [("", "row 7: the text is empty"), ("z", "row 7: the model gave the reward nan")]
)
def test_an_error_in_a_stream_names_the_row_of_the_whole(bad, error):
    model = tiny_urm()
    with torch.no_grad():
        model.get_input_embeddings().weight[tiny_tokenizer()("z")["input_ids"][0]] = float("nan")
    stream = RewardScorer(model, tiny_tokenizer()).score_stream(["a"] * 7 + [bad], rows_at_once=3)
    assert len([next(stream) for _ in range(6)]) == 6
    with pytest.raises(ValueError, match=error):
        next(stream)


def test_rows_at_once_must_be_positive():
    with pytest.raises(ValueError, match="`rows_at_once` must be positive, got 0"):
        next(RewardScorer(tiny_urm(), tiny_tokenizer()).score_stream(["a"], rows_at_once=0))

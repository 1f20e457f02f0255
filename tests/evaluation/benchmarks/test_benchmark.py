"""What a set of preferences lists: conversations, pairs, lengths and where each comes from, all in one order."""

import numpy as np

from urm_hf.data.conversations import Conversation
from urm_hf.evaluation.benchmarks import PAIRS
from urm_hf.evaluation.benchmarks.benchmark import PreferenceItem, PreferenceSet


def conversation(answer, prompt="p") -> Conversation:
    if isinstance(answer, str):
        return Conversation(text=prompt + answer, closed=True, prompt_length=len(prompt))
    return Conversation(turns=({"role": "user", "content": prompt}, *answer), prompt_length=1)


ITEMS = [
    PreferenceItem((conversation("aa"),), (conversation("b"),), "p", "x", 0),
    PreferenceItem((conversation("c"), conversation("dddd")), (conversation("e"), conversation("fff")), "p", "y", 2),
    PreferenceItem(
        (conversation([{"role": "assistant", "content": "gg"}]),),
        (conversation([{"role": "assistant", "content": "h"}, {"role": "user", "content": None}]),),
        "q",
        "x",
        5,
    ),
]
SET = PreferenceSet("mine", PAIRS, ITEMS)


def test_conversations_and_pairs_are_item_by_item():
    assert [c.answer for c in SET.conversations][:6] == ["aa", "b", "c", "dddd", "e", "fff"]
    items, chosen, rejected = SET.pairs
    assert items.tolist() == [0, 1, 1, 1, 1, 2]
    assert list(zip(chosen.tolist(), rejected.tolist(), strict=True)) == [
        (0, 1),
        (2, 4),
        (2, 5),
        (3, 4),
        (3, 5),
        (6, 7),
    ]


def test_rewards_of_items_follow_the_conversations():
    rewards = np.arange(8.0)
    assert [(a.tolist(), b.tolist()) for a, b in SET.rewards_of_items(rewards)] == [
        ([0], [1]),
        ([2, 3], [4, 5]),
        ([6], [7]),
    ]


def test_lengths_are_characters_of_the_answer():
    assert SET.answer_lengths.tolist() == [2, 1, 1, 4, 1, 3, 2, 1]


def test_origins_name_the_row_and_the_side():
    assert SET.origins == [
        "mine, row 0, chosen",
        "mine, row 0, rejected",
        "mine, row 2, chosen 0",
        "mine, row 2, chosen 1",
        "mine, row 2, rejected 0",
        "mine, row 2, rejected 1",
        "mine, row 5, chosen",
        "mine, row 5, rejected",
    ]


def test_prompts_and_subsets_are_counted():
    assert SET.n_prompts == 2 and SET.subsets == {"x": 2, "y": 1}
    assert PreferenceSet("none", PAIRS, [PreferenceItem((), (), "p", None, 0)]).subsets == {}

"""The matrix of styles, domains, and that items and their pairs give the same numbers."""

import json
import random

import numpy as np
import pytest

from urm_hf.evaluation.benchmarks.rmbench import STYLES
from urm_hf.evaluation.data import DataOptions, load_data
from urm_hf.evaluation.pairs.accuracy import accuracy_of, decide, random_accuracy
from urm_hf.evaluation.pairs.data import preferences_of


def item(number: int, domain: str = "chat") -> dict:
    return {
        "prompt": f"{number}?",
        "chosen": [f"right {number} {style}" for style in STYLES],
        "rejected": [f"wrong {number} {style}" for style in STYLES],
        "domain": domain,
    }


def pairs(row: dict) -> list[dict]:
    """An item as nine rows."""
    return [
        {
            "prompt": [{"role": "user", "content": row["prompt"]}],
            "chosen": row["chosen"][c],
            "rejected": row["rejected"][r],
            "chosen_style": STYLES[c],
            "rejected_style": STYLES[r],
            "difficulty": "easy" if c > r else "hard" if c < r else "normal",
            "subset": f"rmb-{row['domain']}",
        }
        for c in range(3)
        for r in range(3)
    ]


def measured(rows: list[dict], reward_of: dict[str, float], metric: str = "accuracy") -> dict:
    preferences = preferences_of(rows, "rows")
    assert preferences.kind == "rmbench"
    rewards = [reward_of[conversation.answer[0]["content"]] for conversation in preferences.conversations]
    return {(m.level, m.group): m.value for m in accuracy_of(preferences, rewards, 0) if m.metric == metric}


def rewards_for(rows: list[dict], seed: int, levels: int) -> dict[str, float]:
    """Random rewards, some of them equal."""
    rng = np.random.default_rng(seed)
    texts = [text for row in rows for text in row["chosen"] + row["rejected"]]
    return dict(zip(texts, rng.integers(0, levels, len(texts)).astype(float), strict=True))


@pytest.mark.parametrize("levels", [3, 10**9])
def test_the_matrix_of_the_definition(levels):
    """Hard above the diagonal, with rows the chosen styles from plain to fancy; the safety domain as one."""
    domains = ["chat", "math", "code", "code", "safety-refuse", "safety-response", "safety-response"]
    rows = [item(number, domain) for number, domain in enumerate(domains)]
    reward_of = rewards_for(rows, 0, levels)
    cells = {}
    for domain in ("chat", "math", "code", "safety"):
        inside = [row for row in rows if row["domain"].startswith(domain)]
        matrix = np.mean(
            [[[reward_of[c] > reward_of[r] for r in row["rejected"]] for c in row["chosen"]] for row in inside], axis=0
        )
        upper, lower = np.triu_indices(3, 1), np.tril_indices(3, -1)
        cells[domain] = {
            "easy": matrix[lower].mean(),
            "normal": matrix.diagonal().mean(),
            "hard": matrix[upper].mean(),
        }
    found = measured(rows, reward_of)
    for domain, three in cells.items():
        assert found["domain", domain] == pytest.approx(np.mean(list(three.values())))
    for name in ("easy", "normal", "hard"):
        assert found["difficulty", name] == pytest.approx(np.mean([three[name] for three in cells.values()]))
    assert found[None, None] == pytest.approx(np.mean([found["domain", domain] for domain in cells]))


@pytest.mark.parametrize("levels", [3, 10**9])
def test_pairs_give_the_numbers_of_items_in_any_order(levels):
    rows = [item(n, domain) for n, domain in enumerate(["chat", "code", "safety-refuse", "safety-response"] * 4)]
    expanded = [pair for row in rows for pair in pairs(row)]
    reward_of = rewards_for(rows, 1, levels)
    random.Random(0).shuffle(expanded)
    for metric in ("accuracy", "tied"):
        assert measured(expanded, reward_of, metric) == pytest.approx(measured(rows, reward_of, metric))
    whole, joined = preferences_of(rows, "rows"), preferences_of(expanded, "rows")
    assert len(joined.items) == 16 and len(joined.conversations) == 96  # each answer once
    assert sorted(item.prompt for item in joined.items) == sorted(item.prompt for item in whole.items)


def test_a_fancier_style_alone_wins_the_easy_pairs():
    rows = [item(0), item(1, "code")]
    reward_of = {
        text: float(STYLES.index(text.split()[-1])) for row in rows for text in row["chosen"] + row["rejected"]
    }
    found = measured(rows, reward_of)
    assert [found["difficulty", name] for name in ("easy", "normal", "hard")] == [1, 0, 0]
    assert found[None, None] == pytest.approx(1 / 3)
    assert measured(rows, reward_of, "tied")[None, None] == pytest.approx(1 / 3)  # the diagonal


def test_every_pair_is_a_decision_of_its_items_prompt():
    preferences = preferences_of([item(0), item(1)], "rows")
    rewards = [5, 2, 1, 0, 1, 4, *[5, 2, 1, 2, 1, 4]]
    right, prompts = decide(preferences, rewards)
    assert right.reshape(2, 3, 3).tolist() == [
        [[True, True, True], [True, True, False], [True, False, False]],
        [[True, True, True], [False, True, False], [False, False, False]],
    ]
    assert prompts == [preferences.items[0].prompt] * 9 + [preferences.items[1].prompt] * 9


def test_counts_are_of_pairs_and_prompts():
    preferences = preferences_of([item(n, "code" if n else "chat") for n in range(5)], "rows")
    found = {(m.level, m.group): m for m in accuracy_of(preferences, np.arange(30), 0) if m.metric == "accuracy"}
    assert (found[None, None].n, found[None, None].prompts) == (45, 5)
    assert (found["domain", "code"].n, found["difficulty", "hard"].n) == (36, 15)


def test_an_item_without_a_style_counts_with_its_other_pairs():
    rows = [item(0), item(1)]
    expanded = pairs(rows[0]) + [pair for pair in pairs(rows[1]) if pair["chosen_style"] != "detailed_plain"]
    reward_of = rewards_for(rows, 2, 10**9)
    found = measured(expanded, reward_of)
    of_pairs = {name: [] for name in ("easy", "normal", "hard")}
    for pair in expanded:
        of_pairs[pair["difficulty"]].append(reward_of[pair["chosen"]] > reward_of[pair["rejected"]])
    for name, won in of_pairs.items():
        assert found["difficulty", name] == pytest.approx(np.mean(won))
    assert "1 of 2 items lack a style" in preferences_of(expanded, "rows").remarks[-1]


@pytest.mark.parametrize("side", ["chosen", "rejected"])
def test_two_items_of_one_prompt_stay_two(side):
    second = item(0) | {side: ["other", "others", "**others**"]}
    late = [
        pair for pair in pairs(item(0)) if pair[f"{'rejected' if side == 'chosen' else 'chosen'}_style"] == STYLES[2]
    ]
    rows = [pair for pair in pairs(item(0)) if pair not in late] + pairs(second) + late
    preferences = preferences_of(rows, "rows")
    assert len(preferences.items) == 2 and preferences.n_prompts == 1
    assert {c.answer[0]["content"] for c in preferences.conversations[6:]} == {*second["chosen"], *second["rejected"]}


def test_what_is_missing_is_said():
    domains = ["chat", "math", "code", "safety-refuse", "safety-response"]
    assert preferences_of([item(n, domain) for n, domain in enumerate(domains)], "rows").remarks == []
    preferences = preferences_of([item(0), item(1, "safety-refuse")], "rows")
    said = preferences.remarks
    assert said[0].startswith("Not RM-Bench's overall accuracy: math, code missing") and "over 2 of 4" in said[0]
    assert said[1] == "Safety has one part only: safety-refuse."
    assert "safety (safety-refuse only)" in [m.group for m in accuracy_of(preferences, np.arange(12), 0)]


def test_the_name_of_the_file_may_tell_the_domain(tmp_path):
    path = tmp_path / "safety-refuse_filtered.json"
    path.write_text(json.dumps([{k: v for k, v in item(0).items() if k != "domain"} | {"subset": "xstest"}]))
    assert load_data(str(path), DataOptions()).content.subsets == {"safety-refuse": 1}


def test_chance_is_one_half():
    found = random_accuracy(preferences_of([item(0), item(1, "code")], "rows"))
    assert [measure.value for measure in found] == pytest.approx([0.5] * 6)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([item(0) | {"domain": "poetry"}], "row 0.*of no domain of RM-Bench: 'poetry' should begin with chat"),
        ([item(0), item(1) | {"rejected": ["a", "b"]}], "row 1.*`rejected` has 2 answers, not one in each style"),
        ([item(0) | {"rejected": ["a", None, "b"]}], r"row 0: `rejected`\[1\] is null"),
        ([item(0) | {"rejected": ["a", "right 0 concise", "b"]}], "row 0: a chosen and a rejected answer are equal"),
        ([pairs(item(0))[0] | {"chosen_style": "bold"}], "`chosen_style` must be one of concise, .*, got 'bold'"),
        ([pairs(item(0))[1] | {"difficulty": "easy"}], "`difficulty` is 'easy', but a pair of these styles is 'hard'"),
        (pairs(item(0))[:8], "row 0: of this item's 3 chosen and 3 .* only 8 pairs are there.*--on-error skip"),
        ([*pairs(item(0)), item(1)], "row 9: several answers a side, but row 0 is a pair"),
    ],
)
def test_bad_rows_are_named(rows, message):
    with pytest.raises(ValueError, match=message):
        preferences_of(rows, "rows", kind="rmbench")


def test_pairs_of_incomplete_items_can_be_left_out():
    preferences = preferences_of(pairs(item(0)) + pairs(item(1))[:8], "rows", on_error="skip")
    assert len(preferences.items) == 1 and preferences.skipped == {"pairs of incomplete items": 8}

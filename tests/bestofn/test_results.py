"""Best-of-n curves of made-up scores: their intervals, and what table, sentences and plot say of them."""

import numpy as np
import pytest
from matplotlib import pyplot as plt

from urm_hf.bestofn.data import Candidates
from urm_hf.bestofn.plot import plot_best_of_n
from urm_hf.bestofn.results import (
    LONGEST,
    ORACLE,
    RANDOM,
    Selection,
    build_baselines,
    build_selection,
    compute_results,
)
from urm_hf.bestofn.rules import Rule
from urm_hf.bestofn.text import format_table, write_sentences
from urm_hf.scores import RewardScore


def made_up(gold: np.ndarray, prompts: list[str] | None = None) -> list[Candidates]:
    """Rows with this gold (R, N); answer k has k + 1 letters, so that the last is the longest."""
    answers = ["x" * (k + 1) for k in range(gold.shape[1])]
    names = prompts or [str(number) for number in range(len(gold))]
    return [Candidates(k, None, name, answers, [], [], row) for k, (name, row) in enumerate(zip(names, gold))]


def described(rows, selections, samples: int = 400) -> dict:
    """results.json of made-up rows, as far as sentences and plots read it."""
    data = {"name": "made-up", "gold": "win", "prompts": len({row.key for row in rows})}
    models = [{"name": name} for name in dict.fromkeys(item.model for item in selections if item.model)]
    return {"data": data, "models": models} | compute_results(rows, build_baselines(rows) + selections, samples, 0)


def choosing(rows, column: int, model: str = "m") -> Selection:
    """A model that prefers this candidate, and else the shorter."""
    keys = -np.arange(len(rows[0].answers), dtype=float)
    keys[column] = 9
    return Selection("reward", [keys] * len(rows), model, Rule())


def test_intervals_are_those_of_the_mean_over_prompts():
    gold = np.random.default_rng(0).normal(size=(400, 3))
    results = compute_results(made_up(gold), build_baselines(made_up(gold)), 2000, 0)
    longest = next(curve for curve in results["curves"] if curve["label"] == LONGEST)
    error = gold[:, 2].std(ddof=1) / 20
    assert longest["gold"][-1] == pytest.approx(gold[:, 2].mean())
    wanted = gold[:, 2].mean() + 1.96 * error * np.array([-1, 1])
    assert [longest["low"][-1], longest["high"][-1]] == pytest.approx(wanted, abs=0.15 * error)


def test_rows_of_one_prompt_are_resampled_together():
    gold = np.random.default_rng(0).normal(size=(100, 2))
    four_times = np.repeat(gold, 4, axis=0)
    prompts = [str(number // 4) for number in range(400)]
    widths = []
    for rows in (made_up(gold), made_up(four_times, prompts), made_up(four_times)):
        (curve,) = [
            c for c in compute_results(rows, build_baselines(rows), 2000, 0)["curves"] if c["label"] == LONGEST
        ]
        widths.append(curve["high"][-1] - curve["low"][-1])
    assert widths[1] == pytest.approx(widths[0]) and widths[2] == pytest.approx(widths[0] / 2, rel=0.1)


def test_differences_are_paired():
    gold = np.random.default_rng(0).normal(size=(60, 3))
    gold[:, 0] = gold[:, 2] + 0.25  # the first answer is better than the longest one by the same in every prompt
    rows = made_up(gold)
    results = described(rows, [choosing(rows, 0)])
    pair = next(pair for pair in results["comparisons"] if pair["against"] == LONGEST)
    assert [pair["difference"], *pair["interval"]] == pytest.approx([0.25] * 3)
    assert write_sentences(results)[0] == "m: reward beats the longest answer at n=3 (+0.250 [+0.250, +0.250])."


@pytest.mark.parametrize(
    ("mean", "told"),
    [
        (1.0, "m: reward beats the longest answer at n=3 ("),
        (0.05, "m: reward does NOT beat the longest answer at n=3: the difference may be chance (+"),
        (-1.0, "m: reward does NOT beat the longest answer at n=3: it is worse (-"),
    ],
)
def test_it_is_said_plainly_whether_a_model_beats_the_longest_answer(mean, told):
    gold = np.random.default_rng(0).normal(size=(60, 3))
    noise = gold[:, 0] - gold[:, 2]
    gold[:, 0] = gold[:, 2] + noise - noise.mean() + mean
    rows = made_up(gold)
    assert write_sentences(described(rows, [choosing(rows, 0)]))[0].startswith(told)


def test_models_are_compared_with_one_another():
    gold = np.random.default_rng(0).normal(size=(60, 3)) + [2, 1, 0]
    rows = made_up(gold)
    told = write_sentences(described(rows, [choosing(rows, 1, "a"), choosing(rows, 0, "b")]))
    assert told[2].startswith("b: reward is better than a: reward at n=3: +")
    told = write_sentences(described(rows, [choosing(rows, 1, "a"), choosing(rows, 1, "b")]))
    assert told[2] == "b: reward cannot be told apart from a: reward at n=3: +0.000 [+0.000, +0.000]."


def test_one_prompt_has_no_interval():
    rows = made_up(np.array([[1.0, 0.0]]))
    results = described(rows, [choosing(rows, 0)])
    assert all(curve["low"] is None for curve in results["curves"])
    assert write_sentences(results)[0].startswith(
        "Whether m: reward beats the longest answer at n=2 cannot be told without"
    )
    assert "1.000" in format_table(results)


def test_how_often_a_filter_leaves_nothing_is_told():
    rows = made_up(np.zeros((1, 4)), ["a"]) + made_up(np.zeros((1, 3)), ["b"])
    stds = [1.0, 1.0, 5.0, 5.0] + [5.0] * 3  # two of four are left for the first prompt, none for the second
    scores = [RewardScore(reward=0.0, reward_std=std, attribute_variance=std) for std in stds]
    results = described(rows, [build_selection(rows, "m", Rule("filtered", threshold=2.0), scores)])
    (curve,) = [curve for curve in results["curves"] if curve["model"]]
    assert curve["fallback"] == pytest.approx([(1 / 2 + 1) / 2, (1 / 6 + 1) / 2, (0 + 1) / 2])
    told = "m: filtered by attribute_variance (at most 2): none left, so that all are eligible again, in 75.0%"
    assert any(line.startswith(told) for line in write_sentences(results))


def test_the_table_has_a_line_for_each_way_of_choosing():
    gold = np.random.default_rng(0).random((40, 4))
    rows = made_up(gold)
    head, kl, *lines = format_table(described(rows, [choosing(rows, 0)])).splitlines()
    assert head.split("  ")[0] == "chosen by" and "n=4, 95 %" in head
    assert kl.split()[-3:] == ["0.00", "0.19", "0.64"]
    assert [line.split("  ")[0] for line in lines] == ["random", "longest answer", "oracle", "m", ""]
    assert f" {gold[:, 3].mean():.3f} [" in lines[1] and "  reward" in lines[-1]


def test_the_plot_draws_every_curve_over_kl(tmp_path, monkeypatch):
    gold = np.random.default_rng(0).random((40, 4))
    rows = made_up(gold)
    results = described(rows, [choosing(rows, 0, "a"), choosing(rows, 1, "b")])
    figures = []
    monkeypatch.setattr(plt, "close", figures.append)
    plot_best_of_n(results, tmp_path / "plot.png")
    monkeypatch.undo()
    axis = figures[0].axes[0]
    drawn = {line.get_label(): line.get_xydata() for line in axis.lines}
    assert list(drawn) == [RANDOM, LONGEST, ORACLE, "a: reward", "b: reward"]
    for curve in results["curves"]:
        assert drawn[curve["name"]] == pytest.approx(np.stack([results["kl"], curve["gold"]], axis=1))
    assert len(axis.collections) == 3  # bands of both models and of the longest answer
    low, high = axis.get_ylim()
    assert low < min(curve["gold"][-1] for curve in results["curves"])
    assert drawn[ORACLE][-1, 1] > high and any("oracle: " in text.get_text() for text in axis.texts)
    plt.close(figures[0])

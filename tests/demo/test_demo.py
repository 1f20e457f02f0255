"""The demo: its base model, and what a run of it leaves behind."""

import dataclasses
import functools
import json
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats

from tests.helpers.tiny import tiny_tokenizer
from tests.helpers.tolerances import close
from urm_hf import RewardScorer, URMEnsemble
from urm_hf.demo import base, data, report, run
from urm_hf.hub.publish import push
from urm_hf.modeling import URMForRewardModeling

ANSWERS = data.load_answers()


# The base model


def test_the_built_in_base_is_the_same_every_time():
    (first, tokenizer), (second, _) = base.tiny_model(), base.tiny_model()
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values()))
    ids = tokenizer.apply_chat_template(ANSWERS[0].messages, tokenize=True, return_dict=True)["input_ids"]
    assert tokenizer.decode(ids).count("<|im_start|>") == 2 and max(ids) < first.config.vocab_size


def test_a_base_that_is_named_is_loaded(tmp_path):
    model, tokenizer = base.tiny_model()
    model.save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    loaded, tokenizer, note = base.load_base(str(tmp_path))
    assert torch.equal(loaded.embed_tokens.weight, model.embed_tokens.weight)
    assert tokenizer.chat_template == tiny_tokenizer().chat_template
    assert note == f"{tmp_path} (named by --base)"


def test_without_a_real_base_a_random_one_is_built_and_called_so(monkeypatch):
    monkeypatch.setattr(base, "_find_smollm2", lambda: None)
    assert "tiny random Llama" in base.load_base(None)[2]


# A run, on the beginnings of a third of the conversations and with few steps


def shortened(answer: data.Answer) -> data.Answer:
    messages = [message | {"content": message["content"][:60]} for message in answer.messages]
    return dataclasses.replace(answer, messages=messages)


@pytest.fixture(scope="module")
def outcome(tmp_path_factory) -> tuple[Path, run.DemoResult]:
    """The folder and the result of `run` on the built-in base."""
    folder = tmp_path_factory.mktemp("demo")
    few = [shortened(answer) for answer in ANSWERS if int(answer.prompt_id.rsplit("-", 1)[1]) in (1, 2, 9, 11)]
    attributes, gating = run.URMAttributeConfig, run.URMGatingConfig
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setattr(base, "_find_smollm2", lambda: None)
        patch.setattr(data, "load_answers", lambda: few)
        patch.setattr(data, "out_of_distribution", functools.partial(data.out_of_distribution, n=10))
        patch.setattr(run, "URMAttributeConfig", lambda *args, **kw: attributes(*args, **kw | {"num_train_epochs": 2}))
        patch.setattr(run, "URMGatingConfig", lambda *args, **kw: gating(*args, **kw | {"max_steps": 4}))
        return folder, run.run(folder)


def test_a_run_writes_three_members_that_load_as_an_ensemble(outcome):
    folder, result = outcome
    assert result.members == [folder / f"member-{number}" for number in range(3)]
    ensemble = URMEnsemble.from_pretrained([str(member) for member in result.members])
    (score,) = RewardScorer(ensemble).score([result.showcase[0][1]])
    assert score.reward == close(result.showcase[0][2].reward)
    assert score.reward_gap == close(result.showcase[0][2].reward_gap)


def test_a_member_says_how_it_was_trained_and_on_what_scale(outcome):
    configs = [URMForRewardModeling.from_pretrained(member).config for member in outcome[1].members]
    assert [config.training["seed"] for config in configs] == [0, 1, 2]
    assert {tuple(config.attributes) for config in configs} == {tuple(data.ATTRIBUTES)}
    assert configs[0].attribute_scales == data.SCALE


def test_a_member_s_results_are_of_the_held_out_part_and_stand_on_its_card(outcome):
    rng = np.random.default_rng(0)
    few = [shortened(answer) for answer in ANSWERS if int(answer.prompt_id.rsplit("-", 1)[1]) in (1, 2, 9, 11)]
    parts = data.split_prompts(few)
    rated = {name: data.rated_rows(answers, rng) for name, answers in parts.items()}["test"]
    pairs = {name: data.preference_rows(answers, rng) for name, answers in parts.items()}["test"]
    member = outcome[1].members[1]
    found = json.loads((member / "results.json").read_text())
    scorer = RewardScorer(str(member))
    predicted = [score.attribute_means["verbosity"] for score in scorer.score([row["messages"] for row in rated])]
    expected = stats.pearsonr(predicted, [np.mean(row["verbosity"]) for row in rated])[0]
    assert found["attributes"]["pearson/verbosity"] == close(expected)
    chosen, rejected = (scorer.score([row[column] for row in pairs]) for column in ("chosen", "rejected"))
    won = np.mean([a.reward > b.reward for a, b in zip(chosen, rejected, strict=True)])
    assert found["pairs"]["gated"]["accuracy"] == pytest.approx(won)
    assert (found["n_conversations"], found["n_pairs"]) == (len(rated), len(pairs))
    for name, (low, high) in found["attribute_intervals"].items():
        assert low <= found["attributes"][name] <= high or name.startswith(("pearson", "spearman", "spread")), name
    push(member, "org/demo", dry_run=True)
    card = (member / "README.md").read_text()
    assert f"Test part: {len(rated)} conversations; 95 %" in card and f"{found['attributes']['nll']:.3f} [" in card


def test_members_share_the_base_and_differ_in_both_heads(outcome):
    states = [URMForRewardModeling.from_pretrained(member).state_dict() for member in outcome[1].members]
    for name in states[0]:
        equal = [torch.equal(states[0][name], state[name]) for state in states[1:]]
        if name.startswith("model."):
            assert equal == [True, True], name
        elif name.startswith(("score.value", "score.gate")):
            assert equal == [False, False], name


def test_scores_from_cached_features_are_those_of_the_scorer(outcome):
    _, result = outcome
    scorer = RewardScorer(URMEnsemble.from_pretrained([str(member) for member in result.members]))
    direct = scorer.score([answer.messages for answer in result.test[:6]])
    for score, expected in zip(result.test_scores, direct):
        for measure in ["reward", *run.MEASURES]:
            assert score[measure] == close(expected[measure]), measure


def test_the_metrics_are_of_held_out_conversations(outcome):
    metrics, result = outcome[1].metrics, outcome[1]
    assert (metrics["n_test"], metrics["n_pairs"], metrics["n_out"]) == (35, 70, {"arithmetic": 10, "gibberish": 10})
    truth = [answer.true_means[4] for answer in result.test]
    predicted = [score.attribute_means["verbosity"] for score in result.test_scores]
    assert metrics["pearson"]["verbosity"] == pytest.approx(np.corrcoef(truth, predicted)[0, 1])


def test_auroc_is_the_share_of_pairs_in_which_the_unfamiliar_is_higher(outcome):
    result = outcome[1]
    for name, group in result.out_scores.items():
        for measure in run.MEASURES:
            wins = [
                (a[measure] > b[measure]) + 0.5 * (a[measure] == b[measure]) for a in group for b in result.test_scores
            ]
            assert result.metrics["auroc"][f"{measure}/{name}"] == pytest.approx(np.mean(wins)), (measure, name)


def test_the_table_names_reward_and_uncertainties_and_shows_every_conversation(outcome, capsys):
    result = outcome[1]
    report.print_report(result, [])
    printed = capsys.readouterr().out
    header = next(line for line in printed.splitlines() if line.startswith("kind"))
    assert [n for n in ("reward", *run.MEASURES) if n not in header.split()] == []
    lines = printed.splitlines()[printed.splitlines().index(header) + 1 :][: len(result.showcase)]
    for line, (kind, _, score) in zip(lines, result.showcase, strict=True):
        assert line.startswith(kind)
        assert f"{score.reward:.2f}" in line.split() and f"{score.reward_gap:.2f}" in line.replace("*", " ").split()


def test_the_report_says_what_the_base_is_and_how_to_load_the_members(outcome, capsys):
    result = outcome[1]
    report.print_report(result, [])
    printed = capsys.readouterr().out
    assert "tiny random Llama" in printed
    assert f"URMEnsemble.from_pretrained({[str(member) for member in result.members]})" in printed


@pytest.mark.parametrize(
    "auroc, starred, said",
    [
        (
            {"epistemic_variance": 0.9, "covariance_norm": 0.2},
            5,
            "flagged by epistemic_variance, which stars 5 of 10; wrong way round: covariance_norm[.]$",
        ),
        # by the measure that is recommended, not by one that is better in hindsight
        ({"reward_gap": 1.0}, 10, "flagged by epistemic_variance, which stars 10 of 10[.]$"),
        (
            {"epistemic_variance": 0.8, "reward_gap": 0.99},
            4,
            r"NOT reliably flagged: epistemic_variance \(AUROC 0.80\) stars 4 of 10[.]$",
        ),
    ],
)
def test_what_is_flagged_is_what_mostly_gets_a_star(outcome, auroc, starred, said):
    result = outcome[1]
    limit = np.quantile([score.epistemic_variance for score in result.test_scores], 0.95)
    score = result.test_scores[0]
    group = [dataclasses.replace(score, epistemic_variance=limit + (1 if k < starred else -1)) for k in range(10)]
    metrics = {"auroc": {f"{measure}/new": auroc.get(measure, 0.6) for measure in run.MEASURES}}
    changed = run.DemoResult(**vars(result) | {"metrics": metrics, "out_scores": {"new": group}})
    assert re.match(f"new: {said}", report.verdict(changed, "new"))


def test_plots_are_written_and_not_blank(outcome):
    folder, result = outcome
    pytest.importorskip("matplotlib")
    plots = report.plot_report(result, folder)
    assert [path.name for path in plots] == ["attributes.png", "uncertainty.png"]
    for path in plots:
        pixels = np.asarray(Image.open(path).convert("L"))
        assert pixels.shape[1] > 1000 and pixels.std() > 10


def test_the_interval_of_the_pairs_is_over_prompts(outcome):
    _, result = outcome
    rewards = {a.messages[-1]["content"]: s.reward for a, s in zip(result.test, result.test_scores, strict=True)}
    rng = np.random.default_rng(0)
    few = [shortened(answer) for answer in ANSWERS if int(answer.prompt_id.rsplit("-", 1)[1]) in (1, 2, 9, 11)]
    parts = data.split_prompts(few)
    for answers in parts.values():
        data.rated_rows(answers, rng)
    pairs = {name: data.preference_rows(answers, rng) for name, answers in parts.items()}["test"]
    won = np.array([rewards[p["chosen"][-1]["content"]] > rewards[p["rejected"][-1]["content"]] for p in pairs])
    by_prompt = won.reshape(7, 10).mean(axis=1)
    draws = np.random.default_rng(1).integers(0, 7, (20_000, 7))
    expected = np.quantile(by_prompt[draws].mean(axis=1), [0.025, 0.975])
    assert result.metrics["n_prompts"] == 7 and result.metrics["pair_accuracy"] == pytest.approx(won.mean())
    assert result.metrics["pair_interval"] == pytest.approx(expected, abs=0.03)


def test_the_length_of_the_answer_is_assessed_in_its_better_direction(outcome):
    _, result = outcome
    unfamiliar = data.out_of_distribution(np.random.default_rng(3), n=9)["arithmetic"]
    shorter = [
        (len(m[-1]["content"]) < len(a.messages[-1]["content"]))
        + 0.5 * (len(m[-1]["content"]) == len(a.messages[-1]["content"]))
        for m in unfamiliar
        for a in result.test
    ]
    expected = max(np.mean(shorter), 1 - np.mean(shorter))
    assert run._compute_length_auroc(unfamiliar, result.test) == pytest.approx(expected) and expected > 0.5

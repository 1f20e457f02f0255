"""The attribute stage: its loss, its data, what it changes, what it saves and how it resumes."""

import json
import logging

import numpy as np
import pytest
import torch
from datasets import Dataset, IterableDataset
from scipy import stats
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification

from tests.conftest import pad_rows, save_with_tokenizer, tiny_backbone_config, tiny_tokenizer, tiny_urm
from tests.trainers.conftest import (
    ATTRIBUTES,
    QUIET,
    HeadsAtEvaluation,
    attribute_trainer,
    changed,
    dataset_of,
    logged,
    random_texts,
    rated_rows,
    snapshot,
    whole_batch,
)
from urm_hf.modeling import URMForRewardModeling
from urm_hf.trainers import URMAttributeConfig, URMAttributeTrainer
from urm_hf.trainers.attribute_trainer import FEWEST_ROWS
from urm_hf.trainers.metrics import attribute_metrics

LABELS = ["score.label_mean", "score.label_std"]
HEAD = ["score.feature_mean", "score.feature_scale", *LABELS, "score.value.weight"]
FROZEN = {"freeze_backbone": True, "num_train_epochs": 3, "per_device_train_batch_size": 4}
FULL = {"num_train_epochs": 3, "per_device_train_batch_size": 4, "learning_rate": 1e-3}


@torch.no_grad()
def forward(model, rows: list[dict]):
    """Outputs for the texts of rows, each computed alone."""
    ids = tiny_tokenizer()([row["text"] for row in rows], add_special_tokens=False)["input_ids"]
    outputs = [model(**pad_rows([row])) for row in ids]
    return [torch.cat([output[name] for output in outputs]).numpy() for name in ("attribute_means", "attribute_stds")]


def ratings_of(rows: list[dict]) -> np.ndarray:
    return np.array([[row[name] for name in ATTRIBUTES] for row in rows], dtype=float)


def nll(rows: list[dict], model=None) -> np.ndarray:
    """-log N(s; mu, sigma^2) of rows with one rating an attribute, (N, n), by scipy."""
    means, stds = forward(model or tiny_urm(attributes=ATTRIBUTES), rows)
    return -stats.norm.logpdf(ratings_of(rows), means, stds)


def loss_of_all(trainer) -> torch.Tensor:
    trainer.model.train()
    return trainer.compute_loss(trainer.model, whole_batch(trainer))


def gradients(trainer) -> dict[str, torch.Tensor]:
    loss_of_all(trainer).backward()
    return {name: p.grad for name, p in trainer.model.named_parameters() if p.grad is not None}


# Loss


def test_the_loss_is_equation_4(tmp_path):
    rows = rated_rows()
    trainer = attribute_trainer(tmp_path, rows, standardize_labels=False)
    assert loss_of_all(trainer).item() == pytest.approx(nll(rows).sum(1).mean(), rel=1e-5)


def test_the_logged_loss_of_a_step_is_equation_4(tmp_path):
    rows = rated_rows()
    trainer = attribute_trainer(tmp_path, rows, standardize_labels=False, per_device_train_batch_size=12)
    trainer.train()
    assert logged(trainer, "loss") == pytest.approx([nll(rows).sum(1).mean()], rel=1e-5)


def test_standardised_labels_shift_the_loss_by_the_log_of_their_spread(tmp_path):
    """The model's predictions are on the rating scale; N(z; ., .) of z = (s - m)/d is d N(s; ., .)."""
    rows, model = rated_rows(), tiny_urm(attributes=ATTRIBUTES)
    trainer = attribute_trainer(tmp_path, rows, model=model)
    expected = nll(rows, model).sum(1).mean() - np.log(ratings_of(rows).std(0)).sum()
    assert loss_of_all(trainer).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("loss_type", ["deterministic", "beta_nll", "censored_mle", "regression"])
def test_the_loss_is_that_of_its_name(tmp_path, loss_type):
    rows, model = rated_rows(), tiny_urm(attributes=ATTRIBUTES)
    scales = {name: [0, 4, 1] for name in ATTRIBUTES}
    trainer = attribute_trainer(
        tmp_path, rows, model=model, loss_type=loss_type, standardize_labels=False, attribute_scales=scales, beta=1.0
    )
    (means, stds), s = forward(model, rows), ratings_of(rows)
    torch.manual_seed(0)
    actual = loss_of_all(trainer).item()
    torch.manual_seed(0)
    noise = torch.randn(means.shape).numpy()
    upper = np.where(s == 4, np.inf, (s + 0.5 - means) / stds)
    lower = np.where(s == 0, -np.inf, (s - 0.5 - means) / stds)
    mirrored = lower > 0  # there the CDFs are near 1
    a, b = stats.norm.logcdf(np.where(mirrored, -upper, lower)), stats.norm.logcdf(np.where(mirrored, -lower, upper))
    expected = {
        "deterministic": (means - s) ** 2,
        "beta_nll": -stats.norm.logpdf(s, means, stds) * stds**2,
        "censored_mle": -b - np.log1p(-np.exp(a - b)),
        "regression": (means + noise * stds - s) ** 2,
    }[loss_type]
    assert actual == pytest.approx(expected.sum(1).mean(), rel=1e-4)


def test_a_row_with_two_ratings_trains_like_two_rows(tmp_path):
    texts = random_texts(3)
    ratings = [([3, 4], [0, 1]), ([1, 1], [2, 4]), ([0, 2], [3, 3])]
    joined = [{"text": text, "help": first, "depth": second} for text, (first, second) in zip(texts, ratings)]
    split = [{"text": row["text"], "help": row["help"][r], "depth": row["depth"][r]} for row in joined for r in (0, 1)]
    one, two = (gradients(attribute_trainer(tmp_path, rows)) for rows in (joined, split))
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=1e-4, atol=1e-5)


def test_every_rating_counts_once_where_some_are_missing(tmp_path):
    rows = rated_rows(6, depth=[1, None, 2, None, None, 4])
    trainer = attribute_trainer(tmp_path, rows, standardize_labels=False)
    filled = nll([row | {"depth": row["depth"] or 0} for row in rows])
    expected = filled[:, 0].mean() + filled[[0, 2, 5], 1].mean()
    assert loss_of_all(trainer).item() == pytest.approx(expected, rel=1e-5)


def test_batches_estimate_the_loss_of_all_ratings_without_bias(tmp_path):
    rows = rated_rows(6, depth=[1, None, [2, 3, 0], None, None, [4, 1]])
    trainer = attribute_trainer(tmp_path, rows)
    trainer.model.train()
    examples = list(trainer.train_dataset)
    batches = [trainer.data_collator(examples[start : start + 2]) for start in (0, 2, 4)]
    losses = [trainer.compute_loss(trainer.model, batch).item() for batch in batches]
    assert np.mean(losses) == pytest.approx(loss_of_all(trainer).item(), rel=1e-5)


def test_a_missing_rating_gives_no_gradient(tmp_path):
    """Without ratings of the second attribute in the batch, its rows of the head stay as they are."""
    rows = rated_rows(4, depth=[None, None, None, 2])
    trainer = attribute_trainer(tmp_path, rows)
    trainer.model.train()
    batch = trainer.data_collator(list(trainer.train_dataset)[:3])
    trainer.compute_loss(trainer.model, batch).backward()
    touched = trainer.model.score.value.weight.grad.ne(0).any(1)  # rows: mean of help, of depth, log std of both
    assert touched.tolist() == [True, False, True, False]


def test_ratings_may_sit_in_one_column(tmp_path):
    rows = rated_rows()
    together = [{"text": row["text"], "ratings": {name: row[name] for name in ATTRIBUTES}} for row in rows]
    first, second = (loss_of_all(attribute_trainer(tmp_path, data)).item() for data in (rows, together))
    assert first == second


def test_a_weight_multiplies_the_loss_of_its_row(tmp_path):
    weights = [0.0, 1.0, 2.0, 0.5]
    rows = rated_rows(4, weight=weights)
    trainer = attribute_trainer(tmp_path, rows, standardize_labels=False)
    expected = (np.array(weights) * nll(rows).sum(1)).mean()
    assert loss_of_all(trainer).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_a_weight_that_is_not_a_finite_number_from_0_is_named(tmp_path, weight):
    with pytest.raises(ValueError, match="row 1 of the train dataset: column `weight` has"):
        attribute_trainer(tmp_path, rated_rows(3, weight=[1.0, weight, 1.0]))


def test_accumulated_batches_train_like_one_large_batch(tmp_path):
    states = []
    for size, accumulate in ((12, 1), (4, 3)):
        trainer = attribute_trainer(
            tmp_path,
            rated_rows(),
            per_device_train_batch_size=size,
            gradient_accumulation_steps=accumulate,
            optim="sgd",
            learning_rate=1e-2,
            max_steps=2,
        )
        trainer.train()
        states.append(trainer.model.state_dict())
    torch.testing.assert_close(states[0], states[1], rtol=1e-4, atol=1e-5)


def test_burn_in_minimises_the_squared_error_for_its_steps_only(tmp_path):
    rows, model = rated_rows(), tiny_urm(attributes=ATTRIBUTES)
    kwargs = {"burn_in": 2, "max_steps": 4, "learning_rate": 0.0, "per_device_train_batch_size": 12}
    trainer = attribute_trainer(tmp_path, rows, model=model, standardize_labels=False, **kwargs)
    trainer.train()
    squares, likelihood = ((forward(model, rows)[0] - ratings_of(rows)) ** 2).sum(1).mean(), nll(rows).sum(1).mean()
    assert logged(trainer, "loss") == pytest.approx([squares, squares, likelihood, likelihood], rel=1e-5)


def test_evaluation_during_burn_in_is_by_the_likelihood(tmp_path):
    rows, model = rated_rows(), tiny_urm(attributes=ATTRIBUTES)
    trainer = attribute_trainer(tmp_path, rows, rows, model=model, burn_in=100, standardize_labels=False)
    assert trainer.evaluate()["eval_nll"] == pytest.approx(nll(rows).mean(), rel=1e-5)


# Units


def test_label_statistics_are_those_of_all_ratings(tmp_path):
    rows = rated_rows(4, help=[[0, 4], 3, [1, 1, 2], None], depth=[1, 2, 2, 4])
    config = attribute_trainer(tmp_path, rows).model.config
    help_, depth = np.array([0, 4, 3, 1, 1, 2]), np.array([1, 2, 2, 4])
    assert config.label_means == pytest.approx([help_.mean(), depth.mean()])
    assert config.label_stds == pytest.approx([help_.std(), depth.std()])


def test_without_standardising_the_labels_the_units_stay(tmp_path):
    config = attribute_trainer(tmp_path, rated_rows(), standardize_labels=False).model.config
    assert (config.label_means, config.label_stds) == ([0.0, 0.0], [1.0, 1.0])


def test_predictions_are_on_the_scale_of_the_ratings(tmp_path):
    rng = np.random.default_rng(0)
    rows = rated_rows(40, help=rng.normal(70, 5, 40).tolist(), depth=rng.normal(-3, 0.1, 40).tolist())
    trainer = attribute_trainer(tmp_path, rows, **FROZEN | {"num_train_epochs": 30})
    trainer.train()
    means, stds = forward(trainer.model, rows)
    assert means.mean(0) == pytest.approx([70, -3], rel=0.05)
    assert np.median(stds, axis=0) == pytest.approx([5, 0.1], rel=0.5)


def test_a_trained_urm_keeps_its_label_units(tmp_path):
    first = attribute_trainer(tmp_path, rated_rows()).model
    units = (first.config.label_means, first.config.label_stds)
    second = attribute_trainer(tmp_path, rated_rows(seed=7, help=4.0), model=first).model
    assert (second.config.label_means, second.config.label_stds) == units


def test_a_trained_urm_keeps_its_predictions_when_its_head_is_trained_on(tmp_path):
    model = attribute_trainer(tmp_path, rated_rows(), model=tiny_urm(attributes=ATTRIBUTES), **FROZEN).model
    rows = rated_rows(seed=7)
    before = forward(model, rows)
    attribute_trainer(tmp_path, rows, model=model, **FROZEN)
    np.testing.assert_allclose(forward(model, rows), before, rtol=1e-5)


def test_the_loss_is_noted_in_the_config(tmp_path):
    model = attribute_trainer(tmp_path, rated_rows(), loss_type="regression").model
    assert model.config.attribute_loss == "regression"


# What is trained


def test_without_freezing_all_but_the_gate_is_trained(tmp_path):
    model = tiny_urm(attributes=ATTRIBUTES)
    before = snapshot(model)
    attribute_trainer(tmp_path, rated_rows(), model=model, **FULL).train()
    same = set(before) - set(changed(before, model))
    assert {key for key in same if "score.gate" not in key} == {"score.feature_mean", "score.feature_scale"}
    assert {key for key in before if "score.gate" in key} <= same


def test_with_a_frozen_backbone_only_the_value_head_changes(tmp_path):
    model = tiny_urm(attributes=ATTRIBUTES)
    before = snapshot(model)
    attribute_trainer(tmp_path, rated_rows(), model=model, **FROZEN).train()
    assert changed(before, model) == HEAD


def test_feature_statistics_are_those_of_the_training_rows_only(tmp_path):
    model, rows = tiny_urm(attributes=ATTRIBUTES), rated_rows()
    attribute_trainer(tmp_path, rows, rated_rows(30, seed=5), model=model, **FROZEN)
    ids = tiny_tokenizer()([row["text"] for row in rows], add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        hidden = torch.cat([model(**pad_rows([row])).pooled_hidden for row in ids])
    expected = tiny_urm(attributes=ATTRIBUTES)
    expected.score.standardize_features(hidden)
    torch.testing.assert_close(model.score.feature_mean, expected.score.feature_mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.score.feature_scale, expected.score.feature_scale, rtol=1e-4, atol=1e-5)


def test_a_few_rows_give_no_spread_of_features(tmp_path):
    """Ten texts, one of them twice, are too few to standardise by, eleven are not."""
    rows = rated_rows(11)
    with pytest.raises(ValueError, match="needs 11 different conv.*, got 10: .*`standardize_features=False`"):
        attribute_trainer(tmp_path, [*rows[:10], rows[0]], **FROZEN)
    attribute_trainer(tmp_path, rows, **FROZEN)
    attribute_trainer(tmp_path, rows[:2], standardize_features=False, **FROZEN)


@pytest.mark.parametrize("count", [FEWEST_ROWS, 21, 101])
def test_features_of_other_rows_are_larger_by_the_noise_of_the_statistics(count):
    """Mean square (N + 1) / (N - 3) of a Gaussian feature, less its mean, under the statistics of N other rows."""
    head, generator = tiny_urm().score, torch.Generator().manual_seed(0)
    squares = []
    for _ in range(500):
        hidden = 3 + 2 * torch.randn(count + 100, 64, generator=generator)
        head.standardize_features(hidden[:count])
        squares.append(((hidden[count:] - head.feature_mean) / head.feature_scale - 0.5).square().mean())
    assert torch.stack(squares).mean().item() == pytest.approx((count + 1) / (count - 3), rel=0.01)


def test_features_stay_as_they_are_on_request(tmp_path):
    model = tiny_urm(attributes=ATTRIBUTES)
    before = snapshot(model)
    attribute_trainer(tmp_path, rated_rows(), model=model, standardize_features=False, **FROZEN).train()
    assert changed(before, model) == [*LABELS, "score.value.weight"]


def test_training_on_cached_hidden_states_is_training_on_tokens(tmp_path):
    rows, results = rated_rows(), []
    for cached in (True, False):
        model = tiny_urm(attributes=ATTRIBUTES)
        config = FROZEN | {"learning_rate": 1e-2, "weight_decay": 0.1, "freeze_backbone": cached}
        if not cached:
            model.requires_grad_(False).score.value.requires_grad_(True)
        trainer = attribute_trainer(tmp_path, rows, model=model, standardize_features=False, **config)
        trainer.train()
        results.append(model.score.value.weight.detach())
    assert (results[0] - tiny_urm(attributes=ATTRIBUTES).score.value.weight).abs().max() > 0.01
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=1e-5)


def test_a_second_run_computes_no_hidden_state_again(tmp_path, monkeypatch):
    first = attribute_trainer(tmp_path, rated_rows(), **FROZEN)
    monkeypatch.setattr(URMForRewardModeling, "pool", lambda *args, **kwargs: pytest.fail("computed again"))
    second = attribute_trainer(tmp_path, rated_rows(), **FROZEN)
    torch.testing.assert_close(whole_batch(first), whole_batch(second), rtol=0, atol=0)


# Keeping the best head


def scripted(tmp_path, values: list[float], **config):
    """A run of one evaluation an epoch that finds these NLLs; the trainer and the head at each evaluation."""
    heads, script = HeadsAtEvaluation(), iter(values)
    trainer = attribute_trainer(
        tmp_path,
        rated_rows(),
        rated_rows(seed=3),
        callbacks=[heads],
        compute_metrics=lambda prediction: {"nll": next(script)},
        **FROZEN | {"num_train_epochs": len(values)} | config,
    )
    trainer.train()
    return trainer, heads.heads


def test_the_head_of_the_best_evaluation_is_kept(tmp_path):
    trainer, heads = scripted(tmp_path, [3.0, 1.0, 2.0, 1.5])
    assert not heads[1].equal(heads[3])
    assert trainer.model.score.value.weight.equal(heads[1])


def test_without_keep_best_the_last_head_stays(tmp_path):
    trainer, heads = scripted(tmp_path, [3.0, 1.0, 2.0, 1.5], keep_best=False, eval_strategy="epoch")
    assert trainer.model.score.value.weight.equal(heads[3])


def test_patience_ends_training_after_evaluations_without_improvement(tmp_path):
    trainer, heads = scripted(tmp_path, [3.0, 2.0, 2.5, 2.6, 1.0, 0.5], patience=2)
    assert len(heads) == 4
    assert trainer.model.score.value.weight.equal(heads[1])


def test_an_improvement_renews_the_patience(tmp_path):
    _, heads = scripted(tmp_path, [3.0, 3.5, 2.0, 2.5, 1.0, 1.5], patience=2)
    assert len(heads) == 6


def test_a_head_of_the_burn_in_is_no_candidate(tmp_path):
    """Three steps an epoch; the first two epochs are burn-in."""
    trainer, heads = scripted(tmp_path, [0.1, 0.2, 3.0, 2.0, 2.5], burn_in=6)
    assert trainer.model.score.value.weight.equal(heads[3])


def test_a_head_whose_metric_is_nan_is_not_kept(tmp_path):
    trainer, heads = scripted(tmp_path, [float("nan"), 2.0, float("nan"), 3.0])
    assert trainer.model.score.value.weight.equal(heads[1])


@pytest.mark.parametrize(
    "loss_type, best", [("mle", 1), ("beta_nll", 1), ("deterministic", 2), ("regression", 2)], ids=str
)
def test_the_best_head_is_that_of_the_loss_s_own_metric(tmp_path, loss_type, best):
    """NLL is least at the second evaluation, MSE at the third."""
    heads, script = HeadsAtEvaluation(), iter([(3.0, 3.0), (1.0, 2.0), (2.0, 1.0), (4.0, 4.0)])
    trainer = attribute_trainer(
        tmp_path,
        rated_rows(),
        rated_rows(seed=3),
        callbacks=[heads],
        compute_metrics=lambda prediction: dict(zip(["nll", "mse"], next(script))),
        **FROZEN | {"num_train_epochs": 4, "loss_type": loss_type},
    )
    trainer.train()
    assert trainer.model.score.value.weight.equal(heads.heads[best])


# Rows that are refused


USER, ANSWER = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}
GOOD = {"messages": [USER, ANSWER], "help": 1.0, "depth": 2.0}
BAD = {
    "outside its scale": ({"help": 5.0}, r"column `help` has the rating 5, outside its scale \[0, 4\]"),
    "no rating": ({"help": None, "depth": None}, "no rating at all: help, depth are all empty"),
    "NaN": ({"depth": float("nan")}, "column `depth` has nan. Use null"),
    "infinite": ({"depth": float("inf")}, "column `depth` has inf"),
    "no answer": ({"messages": [USER]}, "the last message has the role 'user'"),
    "empty answer": ({"messages": [USER, ANSWER | {"content": " "}]}, r"message 1 \(assistant\) is empty"),
    "late system turn": (
        {"messages": [USER, {"role": "system", "content": "x"}, ANSWER]},
        "message 1 is a system turn.*roles out of order",
    ),
    "unknown role": ({"messages": [USER | {"role": "human"}, ANSWER]}, "message 0 has the role 'human'"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_row_is_refused_with_its_number_and_reason(tmp_path, case):
    bad, reason = BAD[case]
    with pytest.raises(ValueError, match=f"row 2 of the train dataset: .*{reason}"):
        attribute_trainer(tmp_path, [GOOD, GOOD, GOOD | bad], attribute_scales={"help": [0, 4]})


def test_a_bad_row_for_evaluation_is_refused_too(tmp_path):
    with pytest.raises(ValueError, match="row 1 of the eval dataset: column `depth` has nan"):
        attribute_trainer(tmp_path, [GOOD], [GOOD, GOOD | {"depth": float("nan")}])


def test_an_empty_response_is_refused(tmp_path):
    rows = [{"prompt": "hi", "response": response, "help": 1, "depth": 2} for response in ("hello", "")]
    with pytest.raises(ValueError, match="row 1 of the train dataset: `response` is empty"):
        attribute_trainer(tmp_path, rows)


def test_a_rating_that_is_text_is_refused(tmp_path):
    with pytest.raises(ValueError, match="row 0 of the train dataset: column `help` has 'good', which is not a"):
        attribute_trainer(tmp_path, rated_rows(3, help="good"))


def test_rating_columns_that_are_not_there_are_named(tmp_path):
    rows = [{"text": "hello", "tone": 1.0}]
    with pytest.raises(ValueError, match=r"none of the rating columns \['help', 'depth'\] is there.*'tone'"):
        attribute_trainer(tmp_path, rows)


def test_an_attribute_without_any_rating_is_named(tmp_path):
    with pytest.raises(ValueError, match="attribute 'depth' has no rating in any row"):
        attribute_trainer(tmp_path, rated_rows(3, depth=None))


def test_other_attributes_than_the_model_s_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"`attributes` asks for \['tone'\], but the model predicts"):
        attribute_trainer(tmp_path, rated_rows(), attributes=["tone"])


def test_the_censored_likelihood_needs_a_scale_for_every_attribute(tmp_path):
    with pytest.raises(ValueError, match="needs `attribute_scales` for every attribute"):
        attribute_trainer(tmp_path, rated_rows(), loss_type="censored_mle", attribute_scales={"help": [0, 4, 1]})


def test_a_scale_of_an_unknown_attribute_is_refused(tmp_path):
    with pytest.raises(ValueError, match="`attribute_scales` names 'hepl'"):
        attribute_trainer(tmp_path, rated_rows(), attribute_scales={"hepl": [0, 4, 1]})


# Long rows


LONG = [{"text": "abcdefghij", "help": 1, "depth": 2}, {"text": "abc", "help": 2, "depth": 3}]


def texts_of(trainer) -> list[str]:
    return tiny_tokenizer().batch_decode(list(trainer.train_dataset["input_ids"]))


def test_a_row_over_the_limit_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="row 0 of the train dataset: the conversation has 10 tokens.*max_length=6"):
        attribute_trainer(tmp_path, LONG, max_length=6)


def test_a_row_at_the_limit_is_kept_whole(tmp_path):
    assert texts_of(attribute_trainer(tmp_path, LONG, max_length=10)) == ["abcdefghij", "abc"]


@pytest.mark.parametrize(
    "truncation, kept, what",
    [
        ("left", ["efghij", "abc"], "truncated on the left"),
        ("right", ["abcdef", "abc"], "truncated on the right"),
        ("drop", ["abc"], "dropped"),
    ],
)
def test_what_is_cut_is_as_asked_and_counted_in_the_log(tmp_path, caplog, truncation, kept, what):
    with caplog.at_level(logging.WARNING):
        trainer = attribute_trainer(tmp_path, LONG, max_length=6, truncation=truncation)
    assert texts_of(trainer) == kept
    assert f"1 of 2 rows of the train dataset are over 6 tokens: {what}." in caplog.text


def test_nothing_cut_is_nothing_logged(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        attribute_trainer(tmp_path, LONG, max_length=10, truncation="drop")
    assert "rows of the train dataset" not in caplog.text


def test_dropping_every_row_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="all rows of the train dataset are over max_length=2 and were dropped"):
        attribute_trainer(tmp_path, LONG, max_length=2, truncation="drop")


def test_label_statistics_are_of_all_rated_rows_also_of_those_that_are_dropped(tmp_path):
    rows = [*LONG, {"text": "abcd", "help": 4, "depth": 1}]
    config = attribute_trainer(tmp_path, rows, max_length=6, truncation="drop").model.config
    assert config.label_means == pytest.approx([7 / 3, 2.0])


# Forms of data


def test_rows_of_token_ids_train_like_their_texts(tmp_path):
    rows = rated_rows()
    ids = tiny_tokenizer()([row["text"] for row in rows], add_special_tokens=False)["input_ids"]
    tokenised = [{"input_ids": ids[i], **{name: row[name] for name in ATTRIBUTES}} for i, row in enumerate(rows)]
    losses = [loss_of_all(attribute_trainer(tmp_path, data)).item() for data in (rows, tokenised)]
    assert losses[0] == losses[1]


def test_helpsteer_rows_are_read_as_they_come(tmp_path):
    prompt = "first<extra_id_1>Assistant\nanswer\n<extra_id_1>User\nsecond"
    row = {"prompt": prompt, "response": "last", "help": 1, "depth": 2}
    (text,) = texts_of(attribute_trainer(tmp_path, [row]))
    turns = [("user", "first"), ("assistant", "answer"), ("user", "second"), ("assistant", "last")]
    assert text == "<|bos|>" + "".join(f"<|im_start|>{role}\n{content}<|im_end|>\n" for role, content in turns)


def streaming(rows: list[dict], form: str) -> IterableDataset:
    if form == "table":
        return dataset_of(rows).to_iterable_dataset()
    return IterableDataset.from_generator(lambda: iter(dataset_of(rows)))


FORMS = ["table", "generator"]


@pytest.mark.parametrize("form", FORMS)
def test_a_streaming_dataset_cannot_be_measured_in_advance(tmp_path, form):
    with pytest.raises(ValueError, match="streaming dataset cannot be measured.*`standardize_labels=False`"):
        attribute_trainer(tmp_path, streaming(rated_rows(), form), max_steps=1)


@pytest.mark.parametrize("form", FORMS)
def test_a_streaming_dataset_trains_like_the_same_rows_in_memory(tmp_path, form):
    rows, losses = rated_rows(8, depth=[[1, 2], 3, 0, [4, 4, 1], 2, 2, 1, 0]), []
    for data in (rows, streaming(rows, form)):
        model = tiny_urm(attributes=ATTRIBUTES)
        kwargs = {"max_steps": 2, "per_device_train_batch_size": 4}
        trainer = attribute_trainer(tmp_path, data, model=model, standardize_labels=False, **kwargs)
        trainer._get_train_sampler = lambda *args: None  # in order
        trainer._ratings_per_row = np.ones(2)  # a stream is not measured: each rating weighs 1 there
        trainer.train()
        losses.append(logged(trainer, "loss"))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_a_streaming_dataset_cannot_be_cached(tmp_path, form):
    with pytest.raises(ValueError, match="streaming"):
        attribute_trainer(
            tmp_path, streaming(rated_rows(), form), standardize_labels=False, freeze_backbone=True, max_steps=1
        )


# Evaluation


def without_runtime(metrics: dict[str, float]) -> dict[str, float]:
    ignored = ("runtime", "samples_per_second", "steps_per_second", "num_tokens", "epoch", "preparation_time")
    return {name: value for name, value in metrics.items() if not name.endswith(ignored)}


@pytest.mark.parametrize("config", [{}, {"freeze_backbone": True}], ids=["tokens", "cached"])
def test_evaluation_metrics_are_those_of_the_outputs(tmp_path, config):
    held_out = rated_rows(10, seed=5, help=[[1, 2], 3, 0, 4, None, 2, [1, 1, 4], 0, 2, 3])
    trainer = attribute_trainer(
        tmp_path, rated_rows(), held_out, attribute_scales={"help": [0, 4, 1]}, per_device_eval_batch_size=4, **config
    )
    units = trainer.model.config
    ratings = np.full((10, 2, 3), np.nan)
    for i, row in enumerate(held_out):
        for k, name in enumerate(ATTRIBUTES):
            values = row[name] if isinstance(row[name], list) else [] if row[name] is None else [row[name]]
            ratings[i, k, : len(values)] = values
    expected = attribute_metrics(
        *forward(trainer.model, held_out),
        ratings,
        ATTRIBUTES,
        units.label_means,
        units.label_stds,
        {"help": [0, 4, 1]},
    )
    metrics = without_runtime(trainer.evaluate())
    metrics.pop("eval_loss")
    assert metrics == pytest.approx({f"eval_{k}": v for k, v in expected.items()}, rel=1e-4, abs=1e-6, nan_ok=True)


def test_the_evaluation_loss_is_the_sum_of_the_attributes_nll(tmp_path):
    held_out = rated_rows(8, seed=5)
    metrics = attribute_trainer(tmp_path, rated_rows(), held_out, per_device_eval_batch_size=4).evaluate()
    assert metrics["eval_loss"] == pytest.approx(metrics["eval_nll/help"] + metrics["eval_nll/depth"], rel=1e-5)


@pytest.mark.parametrize("config", [{}, {"freeze_backbone": True}], ids=["tokens", "cached"])
def test_another_dataset_can_be_evaluated(tmp_path, config):
    held_out, other = rated_rows(10, seed=5), rated_rows(9, seed=6)
    model = tiny_urm(attributes=ATTRIBUTES, label_means=[2, 2], label_stds=[1, 1.5])
    kwargs = {"model": model, "standardize_features": False} | config
    expected = attribute_trainer(tmp_path, rated_rows(), other, **kwargs).evaluate()
    trainer = attribute_trainer(tmp_path, rated_rows(), held_out, **kwargs)
    actual = trainer.evaluate(Dataset.from_list(other))
    assert without_runtime(actual) == pytest.approx(without_runtime(expected), nan_ok=True)
    assert actual["eval_nll"] != pytest.approx(trainer.evaluate()["eval_nll"])


def test_several_datasets_are_evaluated_by_name(tmp_path):
    first, second = rated_rows(6, seed=5), rated_rows(6, seed=6)
    both = {"a": Dataset.from_list(first), "b": Dataset.from_list(second)}
    metrics = attribute_trainer(tmp_path, rated_rows(), both).evaluate()
    alone = attribute_trainer(tmp_path, rated_rows(), second).evaluate()
    assert metrics["eval_b_nll"] == pytest.approx(alone["eval_nll"])
    assert metrics["eval_a_nll"] != pytest.approx(alone["eval_nll"])


# Loading


@pytest.fixture
def causal_lm(tmp_path) -> str:
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(tiny_backbone_config()).save_pretrained(tmp_path / "lm")
    tiny_tokenizer().save_pretrained(tmp_path / "lm")
    return str(tmp_path / "lm")


def test_a_causal_lm_becomes_a_urm_with_fresh_heads_on_its_backbone(tmp_path, causal_lm):
    model = attribute_trainer(tmp_path, rated_rows(), model=causal_lm, attributes=ATTRIBUTES).model
    assert type(model) is URMForRewardModeling
    assert (model.config.attributes, model.config.attribute_loss) == (ATTRIBUTES, "mle")
    expected = AutoModelForCausalLM.from_pretrained(causal_lm).model.state_dict()
    assert [name for name, tensor in model.model.state_dict().items() if not tensor.equal(expected[name])] == []


def test_fresh_heads_follow_the_seed(tmp_path, causal_lm):
    def head(seed: int) -> torch.Tensor:
        kwargs = {"model": causal_lm, "attributes": ATTRIBUTES, "seed": seed}
        return attribute_trainer(tmp_path, rated_rows(), **kwargs).model.score.value.weight

    assert head(1).equal(head(1))
    assert not head(1).equal(head(2))


def test_a_quantisation_is_for_loading_a_named_model(tmp_path, causal_lm, monkeypatch):
    seen, load, asked = [], URMForRewardModeling.from_backbone, object()

    def from_backbone(*args, quantization_config=None, **kwargs):
        seen.append(quantization_config)
        return load(*args, **kwargs)

    monkeypatch.setattr(URMForRewardModeling, "from_backbone", from_backbone)
    args = URMAttributeConfig(str(tmp_path), attributes=ATTRIBUTES, **QUIET)
    settings = {"train_dataset": dataset_of(rated_rows()), "quantization_config": asked}
    model = URMAttributeTrainer(causal_lm, args, **settings).model
    assert seen == [asked]
    with pytest.raises(ValueError, match="`quantization_config` is for loading a model by name"):
        URMAttributeTrainer(model, args, **settings)


def test_a_urm_is_loaded_with_its_head(tmp_path):
    model = tiny_urm(attributes=ATTRIBUTES)
    folder = save_with_tokenizer(model, tmp_path / "urm")
    loaded = attribute_trainer(tmp_path, rated_rows(), model=folder).model
    assert changed(snapshot(model), loaded) == LABELS


def test_a_urm_of_other_attributes_is_refused(tmp_path):
    folder = save_with_tokenizer(tiny_urm(attributes=ATTRIBUTES), tmp_path / "urm")
    with pytest.raises(ValueError, match=r"predicts \['help', 'depth'\], but `attributes` asks for \['tone'\]"):
        attribute_trainer(tmp_path, rated_rows(), model=folder, attributes=["tone"])


# Checkpoints


def test_every_epoch_s_checkpoint_is_complete(tmp_path):
    trainer = attribute_trainer(tmp_path, rated_rows(), **FULL | {"save_strategy": "epoch"})
    trainer.train()
    folders = sorted(tmp_path.glob("checkpoint-*"))
    assert [folder.name for folder in folders] == ["checkpoint-3", "checkpoint-6", "checkpoint-9"]
    needed = {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"}
    code = {"modeling_urm.py", "configuration_urm.py", "distributions_urm.py"}
    for folder in folders:
        assert needed | code <= {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("auto", [AutoModel, AutoModelForSequenceClassification])
def test_a_checkpoint_loads_as_the_model_that_was_trained(tmp_path, auto):
    trainer = attribute_trainer(tmp_path, rated_rows(), **FULL | {"save_strategy": "epoch"})
    trainer.train()
    model = auto.from_pretrained(tmp_path / "checkpoint-9")
    assert type(model) is URMForRewardModeling
    assert changed(snapshot(trainer.model), model) == []


def test_a_checkpoint_keeps_units_scales_and_loss_in_its_config(tmp_path):
    scales = {"help": [0, 4, 1]}
    trainer = attribute_trainer(
        tmp_path, rated_rows(), attribute_scales=scales, loss_type="beta_nll", **FULL | {"save_strategy": "epoch"}
    )
    trainer.train()
    config, saved = trainer.model.config, json.loads((tmp_path / "checkpoint-3" / "config.json").read_text())
    assert (saved["label_means"], saved["label_stds"]) == (config.label_means, config.label_stds)
    assert (saved["attribute_scales"], saved["attribute_loss"]) == (scales, "beta_nll")


def test_a_saved_model_has_the_template_it_was_trained_with(tmp_path):
    trainer = attribute_trainer(tmp_path, rated_rows())
    trainer.save_model(str(tmp_path / "saved"))
    assert (tmp_path / "saved" / "chat_template.jinja").read_text() == tiny_tokenizer().chat_template

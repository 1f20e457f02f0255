"""The attribute stage: its loss, its data, what it changes, what it saves and how it resumes."""

import numpy as np
import pytest
import torch
from scipy import stats
from transformers import TrainerCallback

from tests.conftest import pad_rows, tiny_tokenizer, tiny_urm
from tests.trainers.conftest import (
    ATTRIBUTES,
    attribute_trainer,
    changed,
    logged,
    random_texts,
    rated_rows,
    snapshot,
    whole_batch,
)
from urm_hf.modeling import URMForRewardModeling

HEAD = ["score.feature_mean", "score.feature_scale", "score.value.weight"]
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
    upper, lower = np.where(s == 4, np.inf, s + 0.5), np.where(s == 0, -np.inf, s - 0.5)
    expected = {
        "deterministic": (means - s) ** 2,
        "beta_nll": -stats.norm.logpdf(s, means, stds) * stds**2,
        "censored_mle": -np.log(stats.norm.cdf(upper, means, stds) - stats.norm.cdf(lower, means, stds)),
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
    assert {key for key in same if "gate" not in key} == {"score.feature_mean", "score.feature_scale"}
    assert {key for key in before if "gate" in key} <= same


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


def test_features_stay_as_they_are_on_request(tmp_path):
    model = tiny_urm(attributes=ATTRIBUTES)
    before = snapshot(model)
    attribute_trainer(tmp_path, rated_rows(), model=model, standardize_features=False, **FROZEN).train()
    assert changed(before, model) == ["score.value.weight"]


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


class HeadsAtEvaluation(TrainerCallback):
    """Remembers the value head as it was at each evaluation."""

    def __init__(self):
        self.heads: list[torch.Tensor] = []

    def on_evaluate(self, args, state, control, model=None, **kwargs):
        self.heads.append(model.score.value.weight.detach().clone())


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


@pytest.mark.parametrize("loss_type, metric", [("mle", "nll"), ("deterministic", "mse"), ("regression", "mse")])
def test_the_best_head_is_that_of_the_loss_s_own_metric(tmp_path, loss_type, metric):
    heads = HeadsAtEvaluation()
    config = FROZEN | {"num_train_epochs": 6, "learning_rate": 0.3, "loss_type": loss_type}
    trainer = attribute_trainer(tmp_path, rated_rows(), rated_rows(seed=3), callbacks=[heads], **config)
    trainer.train()
    values = logged(trainer, f"eval_{metric}")
    assert len(values) == 6 and np.argmin(values) < 5  # it does get worse
    assert trainer.model.score.value.weight.equal(heads.heads[int(np.argmin(values))])


# Rows that are refused


MESSAGES = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
GOOD = {"messages": MESSAGES, "help": 1.0, "depth": 2.0}


@pytest.mark.parametrize(
    "bad, message",
    {
        "outside its scale": ({"help": 5.0}, r"column `help` has the rating 5, outside its scale \[0, 4\]"),
        "no rating": ({"help": None, "depth": None}, "no rating at all: help, depth are all empty"),
        "NaN": ({"depth": float("nan")}, "column `depth` has nan. Use null"),
        "infinite": ({"depth": float("inf")}, "column `depth` has inf"),
        "no answer": ({"messages": MESSAGES[:1]}, "the last message has the role 'user'"),
        "empty answer": (
            {"messages": [MESSAGES[0], {"role": "assistant", "content": " "}]},
            r"message 1 \(assistant\) is empty",
        ),
        "roles out of order": (
            {"messages": [MESSAGES[0], {"role": "system", "content": "x"}, MESSAGES[1]]},
            "message 1 is a system turn.*roles out of order",
        ),
        "unknown role": (
            {"messages": [{"role": "human", "content": "hi"}, MESSAGES[1]]},
            "message 0 has the role 'human'",
        ),
    }.items(),
)
def test_a_bad_row_is_refused_with_its_number_and_reason(tmp_path, bad, message):
    _, message = message if isinstance(message, tuple) else (None, message)
    rows = [GOOD, GOOD, GOOD | bad]
    with pytest.raises(ValueError, match=f"row 2 of the train dataset: .*{message}"):
        attribute_trainer(tmp_path, rows, attribute_scales={"help": [0, 4]})

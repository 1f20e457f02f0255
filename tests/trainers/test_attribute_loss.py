"""The loss of the attribute stage, against closed forms."""

import numpy as np
import pytest
import torch
from scipy import stats

from tests.helpers.attribute_runs import forward, loss_of_all, nll, ratings_of
from tests.helpers.tiny import tiny_urm
from tests.helpers.tolerances import assert_close
from tests.helpers.training import ATTRIBUTES, attribute_trainer, logged, random_texts, rated_rows
from urm_hf.trainers.noise import draw_noise


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
    actual = loss_of_all(trainer).item()
    noise = draw_noise(torch.zeros(means.shape), trainer.args.seed, step=0, micro_step=0, rank=0).numpy()
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
        assert_close(one[name], two[name])


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


def test_a_weight_may_be_text_of_a_number_as_in_csv_and_nothing_else(tmp_path):
    trainer = attribute_trainer(tmp_path / "text", rated_rows(3, weight=["1", "0.5", "2"]))
    assert list(trainer.train_dataset["weight"]) == [1.0, 0.5, 2.0]
    for weights in (["1", "much", "1"], [[1], [2], [1]], [True, True, True]):
        with pytest.raises(ValueError, match="column `weight` has .*; it must be a finite number >= 0"):
            attribute_trainer(tmp_path, rated_rows(3, weight=weights))


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
    assert_close(states[0], states[1])


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

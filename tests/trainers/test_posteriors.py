"""Where a posterior comes from: the attribute stage on a frozen backbone, and `urm posterior`."""

import json
import logging

import numpy as np
import pytest
import torch
from transformers import LlamaForSequenceClassification

from tests.helpers.commands import write
from tests.helpers.tiny import save_with_tokenizer, tiny_backbone_config, tiny_urm
from tests.helpers.training import attribute_trainer, gating_trainer, pair_rows, rated_rows
from urm_hf import RewardScorer, URMEnsemble, URMForRewardModeling
from urm_hf.checkpoints.merging import merge_checkpoints
from urm_hf.cli import main
from urm_hf.modeling.configuration_urm import POSTERIOR_FIELDS
from urm_hf.trainers import rated_states
from urm_hf.trainers.posteriors import fit_head_intervals, fit_head_posterior
from urm_hf.trainers.rated_states import RatedStates
from urm_hf.uncertainty.conformal import assign_folds, measure_coverage
from urm_hf.uncertainty.measures import compute_uncertainty
from urm_hf.uncertainty.moments import Moments
from urm_hf.uncertainty.posterior import fit_posterior, measure_noise

FROZEN = {"freeze_backbone": True, "max_steps": 3}


@pytest.fixture
def trained(tmp_path) -> URMForRewardModeling:
    trainer = attribute_trainer(tmp_path / "run", rated_rows(40), **FROZEN)
    trainer.train()
    return trainer.model


def test_a_frozen_backbone_gives_the_posterior_of_its_rows(tmp_path):
    trainer = attribute_trainer(tmp_path, rated_rows(40), **FROZEN)
    hidden = trainer._features["train"][np.array(trainer.train_dataset["feature"])]
    ratings = np.array(trainer.train_dataset["ratings"])

    def assert_epistemic(weights):
        with torch.no_grad():
            output = trainer.model.eval()(pooled_hidden=torch.from_numpy(hidden))
        weighed = RatedStates(trainer.model, hidden, ratings, trainer.train_dataset["prompt"], weights is not None)
        shares = weighed.cross_fit(None).shares
        expected = fit_posterior(Moments(hidden.shape[1], 2).add(hidden, ratings, weights), share=shares)
        np.testing.assert_allclose(output.attribute_epistemic_stds**2, expected.epistemic(hidden), rtol=1e-3)
        return output

    assert_epistemic(None)  # so that checkpoints of the run hold one
    trainer.train()
    with torch.no_grad():
        stds = trainer.model(pooled_hidden=torch.from_numpy(hidden)).attribute_stds.numpy()
    # noisy rows count for less, now that sigma is trained
    output = assert_epistemic(1 / np.square(stds / trainer.model.config.label_stds).mean(-1))
    levels = list(trainer.model.config.interval_factors)
    assert levels == ["0.5", "0.68", "0.8", "0.9", "0.95"] and output.attribute_intervals.shape == (40, 5, 2, 2)


def make_states(rows: int = 60, prompts: int = 12, seed: int = 0) -> RatedStates:
    """Of a tiny model: hidden states that rows of a prompt have in common in part, and noisy ratings of them."""
    generator = np.random.default_rng(seed)
    model = tiny_urm(attributes=["help", "depth"])
    groups = generator.integers(prompts, size=rows)
    hidden = generator.normal(size=(prompts, 64))[groups] + generator.normal(size=(rows, 64))
    ratings = hidden[:, :2, None] + 2 * generator.normal(size=(rows, 2, 2))
    return RatedStates(model, hidden.astype(np.float32), ratings, list(groups), weigh=False)


def test_each_row_is_predicted_from_other_prompts(monkeypatch):
    monkeypatch.setattr(rated_states, "ROWS", 7)  # several batches, which cut through folds
    states = make_states()
    folds = assign_folds(states.prompts)
    shares, noise, means, unknown = states.cross_fit(None)
    for row in (0, 17, 59):
        others = folds != folds[row]
        assert states.prompts[row] not in set(np.array(states.prompts)[others])
        moments = Moments(64, 2).add(states.hidden[others], states.ratings[others])
        posterior = fit_posterior(moments, share=shares)
        np.testing.assert_allclose(means[row], posterior.predict(states.hidden[[row]])[0], rtol=1e-5)
        np.testing.assert_allclose(unknown[row], posterior.epistemic(states.hidden[[row]])[0], rtol=1e-5)


def predict_with_stds(states: RatedStates) -> tuple[np.ndarray, np.ndarray]:
    """Means and standard deviations of ratings, as the model's own posterior predicts them."""
    means, unknown = states.predict()
    return means, np.sqrt(states.model.score.posterior_noise.double().numpy() + unknown)


@pytest.mark.parametrize("weigh", [True, False])
def test_intervals_hold_also_far_from_what_was_rated_whatever_sigma_says(weigh):
    """A head that was never trained gives sigma at random: rows are weighed badly, and noise is known nevertheless."""
    held = []
    for seed in range(12):
        states, far = make_states(200, 200, seed), make_states(400, 400, seed + 100)
        states.weighs = weigh
        with torch.no_grad():
            states.model.score.value.weight.normal_(std=0.05, generator=torch.Generator().manual_seed(seed))
        fit_head_posterior(states, levels=[0.8])
        # as far as ten rows: what is not known is then most of it
        noise = far.ratings - far.hidden[:, :2, None]
        far.hidden = far.hidden * 10
        far.model, far.ratings = states.model, far.hidden[:, :2, None] + noise
        means, stds = predict_with_stds(far)
        assert stds.mean() > 3 * states.model.score.posterior_noise.sqrt().mean()
        (factors,) = states.model.config.interval_factors.values()
        held.append(measure_coverage(means, stds, far.ratings, np.array(factors)).mean())
    assert np.mean(held) == pytest.approx(0.8, abs=0.1)


def make_prompts(seed: int, common: float, prompts: int = 50) -> RatedStates:
    """Six rows of a prompt, three ratings of a row; `common` is what a prompt and a row add that nothing explains."""
    generator = np.random.default_rng(seed)
    hidden = np.repeat(generator.normal(size=(prompts, 1, 64)), 6, axis=1) + generator.normal(size=(prompts, 6, 64))
    truth = np.random.default_rng(0).normal(size=(64, 2)) * 0.15
    added = generator.normal(size=(prompts, 1, 2, 1)) + generator.normal(size=(prompts, 6, 2, 1))
    ratings = (hidden @ truth)[..., None] + common * added + generator.normal(size=(prompts, 6, 2, 3))
    groups = np.repeat(np.arange(prompts), 6)
    shape = 6 * prompts
    return RatedStates(
        tiny_urm(attributes=["help", "depth"]),
        hidden.reshape(shape, 64).astype(np.float32),
        ratings.reshape(shape, 2, 3),
        list(groups),
        weigh=False,
    )


@pytest.mark.parametrize("common", [0.0, 2.0])
def test_ratings_that_have_something_in_common_count_for_less(common):
    """Taken for independent, they promise more than the means hold; the share is found without being told of it."""
    found, losses, promised, held = [], {}, {}, {}
    for seed in range(6):
        states, new = make_prompts(seed, common), make_prompts(seed + 100, common, 200)
        crossed = states.cross_fit(None)
        found.append(crossed.shares)
        moments = Moments(64, 2).add(states.hidden, states.ratings)
        truth = new.hidden @ (np.random.default_rng(0).normal(size=(64, 2)) * 0.15)
        for name, share in (("whole", 1.0), ("chosen", crossed.shares)):
            posterior = fit_posterior(moments, share=share)
            means, unknown = posterior.predict(new.hidden), posterior.epistemic(new.hidden)
            variance = (measure_noise(means, unknown, new.ratings) + unknown)[..., None]
            loss = np.log(variance) + (new.ratings - means[..., None]) ** 2 / variance
            losses.setdefault(name, []).append(loss.mean())
            promised.setdefault(name, []).append(unknown.mean())
            held.setdefault(name, []).append(np.square(means - truth).mean())
    wrong = {name: np.mean(held[name]) / np.mean(promised[name]) for name in held}
    if common:
        assert np.mean(found) < 0.5 and np.mean(losses["chosen"]) < np.mean(losses["whole"]) - 0.1
        assert wrong["whole"] > 3 and wrong["chosen"] < 1.5
    else:
        assert np.mean(found) > 0.5 and wrong["whole"] == pytest.approx(1, rel=0.3)


def test_cross_fitted_intervals_hold_new_ratings_where_those_of_fitted_rows_do_not():
    levels, held = np.array([0.5, 0.8]), {True: [], False: []}
    for seed in range(8):
        states, new = make_states(200, 40, seed), make_states(1000, 200, seed + 100)
        fit_head_posterior(states, levels=[])
        new.model = states.model
        means, stds = predict_with_stds(new)
        for cross in held:
            _, factors = fit_head_intervals(states, levels, cross=cross)
            held[cross].append([measure_coverage(means, stds, new.ratings, row).mean() for row in factors])
    np.testing.assert_allclose(np.mean(held[True], axis=0), levels, atol=0.025)
    assert (np.mean(held[False], axis=0) < levels - 0.03).all()  # flattered by the rows that were fitted on


def test_intervals_can_be_fitted_again_for_other_levels():
    states = make_states(prompts=24)  # 19 for a level of 0.95
    with pytest.raises(ValueError, match="has no posterior"):
        fit_head_intervals(states)
    fit_head_posterior(states)
    fitted = states.model.config.interval_factors
    fit_head_intervals(states, [0.8])
    assert states.model.config.interval_factors == {"0.8": pytest.approx(fitted["0.8"])}


def test_a_level_is_stored_as_it_was_given():
    states = make_states()
    fit_head_posterior(states, levels=[])
    states.model.config.set_interval_factors([0.1234567891], [[0.0, 1.0]])
    config = type(states.model.config).from_dict(states.model.config.to_dict())
    assert config.interval_factors == {"0.1234567891": [0.0, 1.0]}


def test_ratings_that_float32_cannot_hold_are_told():
    for scale in (1e-22, 1e20):
        states = make_states(prompts=24)
        states.ratings *= scale
        with pytest.raises(ValueError, match="The posterior: the ratings of 'help' .*: give them on another scale"):
            fit_head_posterior(states)


def test_sigma_weighs_rows_only_where_it_means_something():
    states = make_states()
    for loss, weighs in (("mle", True), (None, True), ("regression", False), ("deterministic", False)):
        states.model.config.attribute_loss = loss
        assert RatedStates(states.model, states.hidden, states.ratings).weighs == weighs


def test_too_few_rows_leave_out_the_widest_intervals_and_say_so(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        trainer = attribute_trainer(tmp_path, rated_rows(12), standardize_features=False, **FROZEN)
    assert list(trainer.model.config.interval_factors) == ["0.5", "0.68", "0.8", "0.9"]
    assert "Ratings of 12 prompts are too few for intervals of 0.95 and above, which take 19" in caplog.text
    rows = [row if number < 2 else {**row, "depth": None} for number, row in enumerate(rated_rows(12))]
    with caplog.at_level(logging.WARNING):
        trainer = attribute_trainer(tmp_path, rows, standardize_features=False, **FROZEN)
    assert trainer.model.score.has_posterior and trainer.model.config.interval_factors is None
    assert "`attribute_intervals`" in caplog.text


def test_it_is_saved_kept_by_the_gating_stage_and_dropped_where_the_body_trains(tmp_path, trained):
    trained.save_pretrained(tmp_path / "attributes")
    loaded = URMForRewardModeling.from_pretrained(tmp_path / "attributes")
    gating = gating_trainer(tmp_path / "gating", pair_rows(12), model=loaded)
    gating.train()
    assert gating.model.score.has_posterior
    again = attribute_trainer(tmp_path / "full", rated_rows(12), model=loaded, max_steps=1)
    assert not again.model.score.has_posterior


def test_it_can_be_left_out_and_asking_for_what_cannot_be_is_an_error(tmp_path):
    trainer = attribute_trainer(tmp_path / "without", rated_rows(40), fit_posterior=False, **FROZEN)
    assert not trainer.model.score.has_posterior
    with pytest.raises(ValueError, match="`fit_posterior=True` needs hidden states .* `urm posterior MODEL"):
        attribute_trainer(tmp_path / "full", rated_rows(40), fit_posterior=True)


def test_ratings_that_are_all_alike_leave_none_and_say_so(tmp_path, caplog):
    rows = rated_rows(40, depth=2)
    with caplog.at_level(logging.WARNING):
        trainer = attribute_trainer(tmp_path / "default", rows, **FROZEN)
    assert not trainer.model.score.has_posterior
    assert "the ratings of 'depth' are all alike (2): " in caplog.text and "Train without 'depth'" in caplog.text
    assert "`epistemic`" in caplog.text
    with pytest.raises(ValueError, match="the ratings of 'depth' are all alike"):
        attribute_trainer(tmp_path / "asked", rows, fit_posterior=True, **FROZEN)


def test_the_command_fits_it_after_the_fact(tmp_path, capsys):
    rows = rated_rows(40)
    model = save_with_tokenizer(tiny_urm(attributes=["help", "depth"]), tmp_path / "model")
    data = write(tmp_path / "rated.jsonl", rows)
    assert main(["posterior", model, "--data", data, "--out", str(tmp_path / "out"), "--rank", "8"]) == 0
    assert "posterior of 40 rows, 8 directions" in capsys.readouterr().out
    before, after = (RewardScorer(folder).score([row["text"] for row in rows]) for folder in (model, tmp_path / "out"))
    assert [score.reward for score in after] == pytest.approx([score.reward for score in before])
    epistemic = compute_uncertainty(after, "epistemic")
    assert (epistemic > 0).all()
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["posterior_rank"] == 8 and set(config["interval_factors"]) == {"0.5", "0.68", "0.8", "0.9", "0.95"}
    low, high = after[0].attribute_intervals()["help"]
    assert low < high


def test_the_command_leaves_out_intervals_that_rows_are_too_few_for(tmp_path, capsys, caplog):
    model = save_with_tokenizer(tiny_urm(attributes=["help", "depth"]), tmp_path / "model")
    rows = [row if number < 2 else {**row, "depth": None} for number, row in enumerate(rated_rows(12))]
    command = ["posterior", model, "--data", write(tmp_path / "rated.jsonl", rows), "--out", str(tmp_path / "out")]
    assert main([*command, "--levels", "0.5"]) == 2
    assert "without the rows of one in 5 prompts, 'depth' has" in capsys.readouterr().err
    with caplog.at_level(logging.WARNING):
        assert main(command) == 0
    assert "The model will give no `attribute_intervals`" in caplog.text
    assert "interval_factors" not in json.loads((tmp_path / "out" / "config.json").read_text())


def test_rows_without_ratings_are_left_out_as_in_training(tmp_path, capsys):
    model = save_with_tokenizer(tiny_urm(attributes=["help", "depth"]), tmp_path / "model")
    rows = [*rated_rows(40), {"text": "Nobody rated this."}]
    command = ["posterior", model, "--data", write(tmp_path / "rated.jsonl", rows), "--out", str(tmp_path / "out")]
    assert main(command) == 2
    assert "row 40" in capsys.readouterr().err
    assert main([*command, "--skip-unrated"]) == 0
    assert "posterior of 40 rows" in capsys.readouterr().out


def test_the_check_tells_what_it_is_worth(tmp_path, capsys):
    rows = rated_rows(60)
    model = save_with_tokenizer(tiny_urm(attributes=["help", "depth"]), tmp_path / "model")
    data = write(tmp_path / "rated.jsonl", rows)
    command = ["posterior", model, "--data", data, "--out", str(tmp_path / "out"), "--levels", "0.8", "--check"]
    assert main(command) == 0
    told = capsys.readouterr().out
    assert "| help | " in told and "60 rows" in told and "AUROC" in told and "calibrated for 0.8." in told


def test_a_model_is_calibrated_on_rows_of_its_training_or_on_new_ones(tmp_path, capsys):
    model = save_with_tokenizer(tiny_urm(attributes=["help", "depth"]), tmp_path / "model")
    data, new = write(tmp_path / "rated.jsonl", rated_rows(60)), write(tmp_path / "new.jsonl", rated_rows(50, seed=9))
    fitted, out = str(tmp_path / "fitted"), [str(tmp_path / name) for name in ("cross", "split")]
    assert main(["calibrate", model, "--data", data, "--out", out[0]]) == 2
    assert "has no posterior" in capsys.readouterr().err
    assert main(["posterior", model, "--data", data, "--out", fitted]) == 0
    assert main(["calibrate", fitted, "--data", data, "--out", out[0]]) == 0
    configs = [json.loads((tmp_path / name / "config.json").read_text()) for name in ("fitted", "cross")]
    for level, factors in configs[0]["interval_factors"].items():
        assert configs[1]["interval_factors"][level] == pytest.approx(factors, rel=1e-4)
    capsys.readouterr()
    assert main(["calibrate", fitted, "--data", new, "--out", out[1], "--method", "split", "--levels", "0.7"]) == 0
    assert "50 rows" in capsys.readouterr().out
    config = json.loads((tmp_path / "split" / "config.json").read_text())
    assert list(config["interval_factors"]) == ["0.7"]
    # so many of the new ratings are inside: the definition of the factor
    scores = RewardScorer(out[1]).score([row["text"] for row in rated_rows(50, seed=9)])
    inside = [
        score.attribute_intervals(0.7)["help"][0] <= row["help"] <= score.attribute_intervals(0.7)["help"][1]
        for score, row in zip(scores, rated_rows(50, seed=9))
    ]
    assert np.mean(inside) == pytest.approx(np.ceil(51 * 0.7) / 50, abs=0.021)


@pytest.mark.parametrize(
    "change, message",
    [
        (["--rank", "0"], "--rank must be"),
        (["--data", "absent.jsonl"], "absent.jsonl"),
        (["--max-length", "3"], "3"),
    ],
)
def test_bad_input_of_the_command_is_told_in_one_line(tmp_path, capsys, change, message):
    model = save_with_tokenizer(tiny_urm(attributes=["help", "depth"]), tmp_path / "model")
    options = {"--data": write(tmp_path / "rated.jsonl", rated_rows(40)), "--out": str(tmp_path / "out")}
    options |= dict(zip(change[::2], change[1::2]))
    assert main(["posterior", model, *(part for pair in options.items() for part in pair)]) == 2
    told = capsys.readouterr().err
    assert message in told and "Traceback" not in told and not (tmp_path / "out" / "config.json").exists()


@pytest.mark.parametrize("command", ["posterior", "calibrate"])
def test_what_is_no_urm_is_told_by_what_it_is(tmp_path, capsys, command):
    data = write(tmp_path / "rated.jsonl", rated_rows(40))
    members = [save_with_tokenizer(tiny_urm(seed=seed), tmp_path / f"member-{seed}") for seed in range(2)]
    URMEnsemble.from_pretrained(members).save_pretrained(tmp_path / "ensemble")
    scalar = LlamaForSequenceClassification(tiny_backbone_config(num_labels=1))
    scalar.save_pretrained(tmp_path / "scalar")
    told = {"ensemble": "is an ensemble", "scalar": "is a llama model and no URM: train attributes on it first"}
    for name, message in told.items():
        assert main([command, str(tmp_path / name), "--data", data, "--out", str(tmp_path / "out")]) == 2
        assert message in capsys.readouterr().err


def test_a_folder_that_is_taken_is_refused(tmp_path, capsys):
    model = save_with_tokenizer(tiny_urm(attributes=["help", "depth"]), tmp_path / "model")
    data = write(tmp_path / "rated.jsonl", rated_rows(40))
    assert main(["posterior", model, "--data", data, "--out", model]) == 2
    assert "is not empty" in capsys.readouterr().err


def test_a_merged_model_has_none_and_says_so(tmp_path, trained, caplog):
    save_with_tokenizer(trained, tmp_path / "a")
    trained.score.drop_posterior()
    with torch.no_grad():
        trained.score.value.weight += 0.1
    plain = save_with_tokenizer(trained, tmp_path / "plain")
    with caplog.at_level(logging.WARNING):
        with pytest.raises(ValueError, match="log_std"):
            merge_checkpoints([tmp_path / "a", plain], tmp_path / "merged")
        assert "posterior of" not in caplog.text  # of a model that is not there, nothing is said
        merge_checkpoints([tmp_path / "a", plain], tmp_path / "merged", log_std="average")
    assert "posterior of" in caplog.text and "`urm posterior`" in caplog.text
    merged = URMForRewardModeling.from_pretrained(tmp_path / "merged")
    assert not merged.score.has_posterior
    assert not set(POSTERIOR_FIELDS) & set(json.loads((tmp_path / "merged" / "config.json").read_text()))

"""Where a posterior comes from: the attribute stage on a frozen backbone, and `urm posterior`."""

import json
import logging

import numpy as np
import pytest
import torch

from tests.helpers.commands import write
from tests.helpers.tiny import save_with_tokenizer, tiny_urm
from tests.helpers.training import attribute_trainer, gating_trainer, pair_rows, rated_rows
from urm_hf import RewardScorer, URMForRewardModeling
from urm_hf.checkpoints.merging import merge_checkpoints
from urm_hf.cli import main
from urm_hf.uncertainty.measures import compute_uncertainty
from urm_hf.uncertainty.posterior import fit_batches

FROZEN = {"freeze_backbone": True, "max_steps": 3}


@pytest.fixture
def trained(tmp_path) -> URMForRewardModeling:
    trainer = attribute_trainer(tmp_path / "run", rated_rows(40), **FROZEN)
    trainer.train()
    return trainer.model


def test_a_frozen_backbone_gives_the_posterior_of_its_rows(tmp_path):
    trainer = attribute_trainer(tmp_path, rated_rows(40), **FROZEN)
    hidden = trainer._features["train"][np.array(trainer.train_dataset["feature"])]
    expected = fit_batches([(hidden, np.array(trainer.train_dataset["ratings"]))])
    trainer.train()
    with torch.no_grad():
        output = trainer.model.eval()(pooled_hidden=torch.from_numpy(hidden))
    np.testing.assert_allclose(output.attribute_epistemic_stds**2, expected.epistemic(hidden), rtol=1e-3)


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
    assert "the ratings of 'depth' are all alike" in caplog.text and "`epistemic`" in caplog.text
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
    assert json.loads((tmp_path / "out" / "config.json").read_text())["posterior_rank"] == 8


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
        merge_checkpoints([tmp_path / "a", plain], tmp_path / "merged", log_std="average")
    assert "posterior of" in caplog.text and "`urm posterior`" in caplog.text
    assert not URMForRewardModeling.from_pretrained(tmp_path / "merged").score.has_posterior

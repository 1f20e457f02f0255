"""A run that diverges ends with the step, and leaves the last good checkpoint as it was."""

import pytest
import torch

from tests.helpers.commands import write
from tests.helpers.tiny import save_with_tokenizer, tiny_urm
from tests.helpers.training import ATTRIBUTES, attribute_trainer, gating_trainer, pair_rows, rated_rows
from urm_hf.cli import main
from urm_hf.trainers.divergence import Diverged, find_nonfinite


class BadStep(torch.autograd.Function):
    """The identity, whose gradient is NaN."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * float("nan")


def test_a_loss_that_is_not_finite_names_its_step(tmp_path):
    trainer = attribute_trainer(tmp_path, rated_rows(), max_steps=5, learning_rate=1e6, max_grad_norm=0.0)
    with pytest.raises(Diverged, match=r"in step \d of 5 the loss is (nan|inf).*`learning_rate` \(1e\+06\)"):
        trainer.train()


def test_a_gate_on_a_value_head_of_nan_is_refused_in_the_first_step(tmp_path):
    model = tiny_urm(attributes=ATTRIBUTES)
    with torch.no_grad():
        model.score.value.weight[0, 0] = float("nan")
    trainer = gating_trainer(tmp_path, pair_rows(), model=model, max_steps=4)
    with pytest.raises(Diverged, match="in step 1 of 4 the loss is nan"):
        trainer.train()


def test_an_update_that_no_loss_follows_is_found_before_anything_is_saved(tmp_path):
    trainer = attribute_trainer(tmp_path, rated_rows(4), max_steps=1, per_device_train_batch_size=4)
    trainer.save_model(str(tmp_path / "good"))
    before = (tmp_path / "good" / "model.safetensors").read_bytes()
    with torch.no_grad():
        trainer.model.score.value.weight[0, 0] = float("inf")
    assert find_nonfinite(trainer.model) == "score.value.weight"
    with pytest.raises(Diverged, match="score.value.weight are not finite"):
        trainer.save_model(str(tmp_path / "good"))
    assert (tmp_path / "good" / "model.safetensors").read_bytes() == before


def test_the_command_says_so_in_one_line_and_exits_with_2(tmp_path, capsys):
    data = write(tmp_path / "rows.jsonl", rated_rows())
    model = save_with_tokenizer(tiny_urm(attributes=ATTRIBUTES), tmp_path / "urm")
    flags = ["--learning_rate", "1e9", "--max_grad_norm", "0", "--max_steps", "6", "--report_to", "none"]
    out = ["--model_name_or_path", model, "--dataset_name", data, "--output_dir", str(tmp_path / "out")]
    assert main(["train", "attributes", *out, *flags, "--use_cpu", "--save_strategy", "no"]) == 2
    printed = capsys.readouterr().err
    (line,) = [line for line in printed.splitlines() if "error: " in line]
    assert "training diverged: in step" in line
    assert not (tmp_path / "out" / "model.safetensors").exists()

"""Models that are replaced while a job scores with them: told, and scores of two models are never in one output."""

import os
import shutil
from pathlib import Path

import pytest

from tests.helpers.adapters import edit, save_adapter
from tests.helpers.score_runs import ROWS, error_of, score, write
from tests.helpers.tiny import save_with_tokenizer, tiny_urm
from urm_hf import URMEnsemble
from urm_hf.evaluation.model_scores import OpenModel
from urm_hf.scoring.jobs.job import PartScorer, ScoreJob

SIZE = 10


@pytest.fixture
def data(tmp_path) -> Path:
    return write(tmp_path / "rows.jsonl", ROWS)


@pytest.fixture
def replacement(tmp_path) -> Path:
    return Path(save_with_tokenizer(tiny_urm(seed=5), tmp_path / "replacement"))


def replace_weights(folder: Path, by: Path):
    """As a training run does that writes to the same folder."""
    shutil.copy(by / "model.safetensors", folder / "model.safetensors")


def replace_folder(folder: Path, by: Path):
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(by, folder)


def remove_folder(folder: Path, by: Path):
    shutil.rmtree(folder)


def change_template(folder: Path, by: Path):
    (folder / "chat_template.jinja").write_text("{{ messages[0].content }}")


def run_changing(data: Path, out: Path, change, models: list[str], *argv, after: int = 3) -> int:
    """A job during which something changes when so many parts have been scored."""
    usual, worked = PartScorer.score_part, []

    def changing(self, number):
        usual(self, number)
        worked.append(number)
        if len(worked) == after:
            change()

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(PartScorer, "score_part", changing)
        return score(*models, "--data", data, "--out", out, "--rows-per-part", SIZE, *argv)


@pytest.mark.parametrize(
    ("change", "after"),
    # 3: between two parts; 6: after the last
    [(replace_weights, 3), (replace_weights, 6), (replace_folder, 3), (remove_folder, 6), (change_template, 3)],
)
def test_a_change_is_told_and_nothing_is_joined(saved_urm, replacement, data, tmp_path, capsys, change, after):
    out, whole, kept = tmp_path / "out.jsonl", tmp_path / "whole.jsonl", tmp_path / "kept"
    score(saved_urm, "--data", data, "--out", whole, "--rows-per-part", SIZE)
    shutil.copytree(saved_urm, kept)
    capsys.readouterr()
    assert run_changing(data, out, lambda: change(Path(saved_urm), replacement), [saved_urm], after=after) == 2
    assert "the model was changed, replaced or removed" in error_of(capsys) and not out.exists()
    replace_folder(Path(saved_urm), replacement)
    assert score(saved_urm, "--data", data, "--out", out, "--rows-per-part", SIZE) == 2  # another model goes not on
    assert "holds parts of another job" in error_of(capsys)
    replace_folder(Path(saved_urm), kept)
    assert score(saved_urm, "--data", data, "--out", out, "--rows-per-part", SIZE) == 0
    assert out.read_bytes() == whole.read_bytes()


def test_files_that_are_only_touched_are_no_change(saved_urm, data, tmp_path):
    def touch():
        for path in Path(saved_urm).iterdir():
            os.utime(path)

    assert run_changing(data, tmp_path / "out.jsonl", touch, [saved_urm]) == 0


@pytest.mark.parametrize("saved", [False, True], ids=["named", "saved"])
def test_members_of_ensembles_are_watched(data, replacement, tmp_path, capsys, saved):
    members = [save_with_tokenizer(tiny_urm(seed=seed), tmp_path / f"member{seed}") for seed in range(2)]
    models = members
    if saved:
        URMEnsemble.from_pretrained(members).save_pretrained(tmp_path / "ensemble")
        models = [str(tmp_path / "ensemble")]
    change = lambda: replace_weights(Path(members[1]), replacement)  # noqa: E731
    assert run_changing(data, tmp_path / "out.jsonl", change, models, "--strategy", "sequential") == 2
    assert f"{members[1]}: the model was changed" in error_of(capsys)


def test_the_base_of_an_adapter_is_watched(data, replacement, tmp_path, capsys):
    base = save_with_tokenizer(tiny_urm(), tmp_path / "base")
    adapter = save_adapter(tiny_urm(), tmp_path / "adapter", 1)
    edit(adapter, base_model_name_or_path=base)
    change = lambda: replace_weights(Path(base), replacement)  # noqa: E731
    assert run_changing(data, tmp_path / "out.jsonl", change, [str(adapter)]) == 2
    assert f"{base}: the model was changed" in error_of(capsys)


def test_a_model_that_changes_between_two_data_sets_of_an_evaluation_is_told(saved_urm, replacement, tmp_path):
    model = OpenModel(saved_urm, "urm")
    model.scores([ROWS[0]], tmp_path / "one")
    replace_weights(Path(saved_urm), replacement)
    with pytest.raises(ValueError, match="the model was changed"):
        model.scores([ROWS[1]], tmp_path / "two")


def test_processes_that_find_another_model_do_not_join_its_scores(saved_urm, replacement, data, tmp_path):
    job = ScoreJob([saved_urm], str(data), tmp_path / "out.jsonl", rows_per_part=SIZE)
    first = PartScorer(job, "cpu")
    first.score_part(0)
    replace_weights(Path(saved_urm), replacement)
    with pytest.raises(ValueError, match="holds parts of another job"):
        PartScorer(job, "cpu")

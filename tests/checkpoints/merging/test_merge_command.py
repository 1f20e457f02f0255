"""`urm merge`."""

import re
from pathlib import Path

import pytest
import torch

from tests.helpers.members import VALUE, assert_equal_states, mean_state, read_state, save_member
from urm_hf import cli
from urm_hf.modeling import URMForRewardModeling


def test_urm_merge_writes_a_model_and_tells_how_far_apart_the_members_were(members, tmp_path, capsys):
    out = str(tmp_path / "merged")
    assert cli.main(["merge", *members, "--out", out, "--weights", "0.25", "0.75"]) == 0
    assert_equal_states(read_state(out), mean_state(members, [0.25, 0.75]))
    printed = capsys.readouterr().out
    parameters = URMForRewardModeling.from_pretrained(out).num_parameters()
    assert f"{out}: 2 models merged, {parameters:,} parameters" in printed
    assert f"0.25 x {members[0]}\n" in printed
    assert f"0.75 x {members[1]}\n" in printed
    assert re.search(r"seed-0 - .*seed-1: all 1\.\d+, body 1\.\d+, value head 1\.\d+, gate 1\.\d+\n", printed)
    assert f"urm train gating --model_name_or_path {out}" in printed


def test_urm_merge_keeps_the_first_s_log_stds_and_shards(tmp_path, capsys):
    folders = [save_member(tmp_path / str(seed), seed, attribute_loss="mle") for seed in range(2)]
    out = str(tmp_path / "merged")
    assert cli.main(["merge", *folders, "--out", out, "--log-std", "first", "--max-shard-size", "70KB"]) == 0
    assert torch.equal(read_state(out)[VALUE][3:], read_state(folders[0])[VALUE][3:])
    assert f"log standard deviations: those of {folders[0]}" in capsys.readouterr().out
    assert (Path(out) / "model.safetensors.index.json").exists()


def test_urm_merge_keeps_the_first_s_gate(members, tmp_path, capsys):
    out = str(tmp_path / "merged")
    assert cli.main(["merge", *members, "--out", out, "--gate", "first"]) == 0
    assert torch.equal(read_state(out)["score.gate.0.weight"], read_state(members[0])["score.gate.0.weight"])
    printed = capsys.readouterr().out
    assert f"gate: that of {members[0]}\n" in printed
    assert "urm train gating" not in printed


def test_urm_merge_passes_revisions_and_tells_what_is_wrong_in_one_line(members, tmp_path, capsys):
    out = str(tmp_path / "merged")
    assert cli.main(["merge", *members, "--out", out, "--revision", "-", "v1"]) == 2
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 1
    assert error[0].startswith("urm merge: error: `revision` pins")
    assert cli.main(["merge", *members, "--out", out, "--revision", "-", "-"]) == 0


def test_urm_merge_is_listed_and_explains_itself(capsys):
    assert cli.main([]) == 0
    with pytest.raises(SystemExit) as exit:
        cli.main(["merge", "--help"])
    assert exit.value.code == 0
    printed = capsys.readouterr().out
    assert "  merge " in printed
    assert "--log-std" in printed

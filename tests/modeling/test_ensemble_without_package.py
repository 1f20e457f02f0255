"""A folder of an ensemble in a process that has transformers alone."""

import subprocess
import sys

from tests.helpers.tiny import WITHOUT_PACKAGE, save_members, tiny_urm
from urm_hf import URMEnsemble


def test_it_is_loaded_without_warnings_of_another_model(tmp_path):
    members = save_members(tmp_path, [tiny_urm(seed=seed) for seed in range(2)])
    URMEnsemble.from_pretrained(members).save_pretrained(tmp_path / "ensemble")
    program = (
        WITHOUT_PACKAGE
        + f"""
from transformers import AutoModel
print(len(AutoModel.from_pretrained({str(tmp_path / "ensemble")!r}, trust_remote_code=True).config.members))
"""
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0 and done.stdout.split() == ["2"], done.stderr
    assert "You are using a model of type" not in done.stderr

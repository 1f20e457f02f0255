"""The Slurm script and the workflows: what they name exists, and both stages of the script run in their order."""

import os
import stat
import subprocess
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "examples" / "slurm" / "train_urm.sbatch"


def run_script(folder: Path) -> list[str]:
    """The commands that the script gives, written down by programs of the same names."""
    programs = folder / "bin"
    programs.mkdir(exist_ok=True)
    for name in ("urm", "accelerate"):
        program = programs / name
        program.write_text(f'#!/bin/sh\necho "{name} $*" >> {folder}/told.txt\n')
        program.chmod(program.stat().st_mode | stat.S_IEXEC)
    environment = os.environ | {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "SLURM_SUBMIT_DIR": str(ROOT),
        "SLURM_GPUS_ON_NODE": "8",
    }
    command = ["bash", str(SCRIPT), str(folder / "out"), "rows.jsonl", "--seed", "3"]
    subprocess.run(command, env=environment, check=True, cwd=folder)
    told = (folder / "told.txt").read_text().splitlines()
    (folder / "told.txt").unlink()
    return told


def test_the_slurm_script_trains_both_stages_and_scores(tmp_path):
    attributes, gating, score = run_script(tmp_path)
    for line in (attributes, gating):
        named = [word for word in line.split() if word.endswith(".yaml")]
        assert len(named) == 2 and all(Path(name).is_file() for name in named) and line.endswith("--seed 3")
        assert "--resume_from_checkpoint false" in line
    assert " train attributes " in attributes and " train gating " in gating
    assert score.startswith(f"urm score {tmp_path}/out/urm --data rows.jsonl") and score.endswith("--num-processes 8")


def test_a_requeued_job_goes_on(tmp_path):
    (tmp_path / "out" / "attributes").mkdir(parents=True)
    (tmp_path / "out" / "attributes" / "config.json").touch()
    (tmp_path / "out" / "urm" / "checkpoint-10").mkdir(parents=True)
    gating, _ = run_script(tmp_path)
    assert " train gating " in gating and "--resume_from_checkpoint true" in gating


def test_workflows_call_targets_of_the_makefile():
    makefile = (ROOT / "Makefile").read_text()
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        for job in yaml.safe_load(path.read_text())["jobs"].values():
            for step in job["steps"]:
                for line in step.get("run", "").splitlines():
                    if line.startswith("make "):
                        assert f"\n{line.split()[1]}:" in makefile, (path.name, line)


def test_the_citation_names_this_version():
    import urm_hf

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == urm_hf.__version__ and citation["cff-version"] == "1.2.0"
    assert citation["references"][0]["url"].endswith("2410.00847")

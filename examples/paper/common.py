"""What the scripts of this folder share: the two scales, training commands, and scores that are computed once."""

import argparse
import json
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from datasets import Dataset

from urm_hf.cli import main as urm
from urm_hf.data import load_rows
from urm_hf.modeling import URMEnsemble
from urm_hf.scores import RewardScore, output_rows
from urm_hf.scoring import RewardScorer
from urm_hf.scoring.features import output_of_cached

HERE = Path(__file__).parent
LOSSES = ("mle", "regression", "deterministic")
MEMBERS = 3  # of URME: seeds of the likelihood loss


@dataclass(frozen=True)
class Run:
    """
    Args:
        settings (`dict`): of `SCALE/settings.yaml`.
        data (`Path`, *optional*): the folder of the open files; names of the Hub stand for themselves.
        out (`Path`): where everything goes.
        base (`str`): the backbone.
    """

    settings: dict[str, Any]
    data: Path | None
    out: Path
    base: str

    def source(self, name: str) -> str:
        """A dataset's file in the folder of data, or its name on the Hub."""
        return str(self.data / name) if self.data is not None and name.endswith(".gz") else name

    def rows(self, place: Sequence[str | None], most: int | None = None) -> Dataset:
        name, split = place
        rows = load_rows(self.source(str(name)), split)
        return rows.shuffle(seed=0).select(range(most)) if most and most < len(rows) else rows

    def model(self, name: str) -> str:
        return str(self.out / "models" / name)

    def urme(self) -> list[str]:
        return [self.model(f"mle-{seed}-gated") for seed in range(MEMBERS)]

    def merged(self, loss: str) -> list[int]:
        """The two seeds whose mean Fig. 7 looks at."""
        return self.settings["merged_mle"] if loss == "mle" else [0, 1]


def parse(about: str | None, argv: Sequence[str] | None = None) -> Run:
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", choices=["laptop", "paper"], default="laptop")
    parser.add_argument("--data", type=Path, help="the folder that examples/data/fetch.py writes")
    parser.add_argument("--base", help="another backbone than the scale's")
    parser.add_argument("--out", type=Path, default=Path("paper"))
    args = parser.parse_args(argv)
    settings = yaml.safe_load((HERE / args.scale / "settings.yaml").read_text())
    data = None if args.data is None else args.data.resolve()
    return Run(settings, data, args.out.resolve(), args.base or settings["base"])


@contextmanager
def timed(run: Run, step: str) -> Iterator[None]:
    """Adds the seconds of a step to OUT/seconds.json; a step that is only read again keeps its first time."""
    start = time.time()
    yield
    path = run.out / "seconds.json"
    known = json.loads(path.read_text()) if path.is_file() else {}
    known[step] = max(known.get(step, 0), round(time.time() - start))
    path.write_text(json.dumps(known, indent=1))


def train(run: Run, stage: str, name: str, *flags: str) -> str:
    """A folder with what one stage trains, unless it is there."""
    folder = run.model(name)
    if (Path(folder) / "config.json").is_file():
        return folder
    config = HERE / run.settings[f"train_{stage}"]
    data = yaml.safe_load(config.read_text())["dataset_name"]
    flags = ("--dataset_name", run.source(data), "--output_dir", folder, *flags)
    argv = ["train", stage, "--config", str(config), *flags]
    launcher = run.settings["launcher"]
    if launcher:
        subprocess.run([*launcher, "-m", "urm_hf", *argv], check=True, cwd=HERE)
    elif urm(argv):
        raise SystemExit(1)
    return folder


def score(run: Run, name: str, models: Sequence[str], conversations: Sequence[Any], data: str) -> Path:
    """
    OUT/scores/DATA/NAME.jsonl: a score of each conversation by one model, or by several as an ensemble.

    Hidden states of URMs are kept, so that heads on one frozen backbone share them.
    """
    path = run.out / "scores" / data / f"{name}.jsonl"
    if path.is_file():
        return path
    dtype, limits = run.settings["dtype"], {"truncation": "left"}
    first = RewardScorer(models[0], dtype=dtype, **limits)
    if first.attributes is None:
        rows = [dict(score.items()) for score in first.score(conversations, progress=True)]
    else:
        ids, pad = first.encode(conversations)[0], first.tokenizer.pad_token_id
        if len(models) > 1:
            ensemble = URMEnsemble.from_pretrained(list(models), dtype=dtype)
            output = ensemble.combine([output_of_cached(member, ids, pad) for member in ensemble.iter_members()])
        else:
            output = output_of_cached(first.model, ids, pad)
        rows = output_rows(output, first.attributes)
    lines = [json.dumps({"messages": c, **row}) for c, row in zip(conversations, rows, strict=True)]
    write_text(path, "\n".join(lines) + "\n")
    return path


def write_text(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def read_scores(path: Path) -> list[RewardScore]:
    known = RewardScore.__dataclass_fields__
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [RewardScore(**{name: row[name] for name in known if row.get(name) is not None}) for row in rows]


def models_of(run: Run) -> dict[str, list[str]]:
    """What stands in Table 1 and Fig. 4, by name: folders, of an ensemble several."""
    found = {
        "URM_MLE": [run.model("mle-0-gated")],
        "URM_Reg": [run.model("regression-merged-gated")],
        "Ablation": [run.model("deterministic-0-gated")],
        "URME": run.urme(),
    }
    base = run.model("bradley-terry") if run.settings["scalar_rows"] else run.base
    return found | {"base (Bradley-Terry)": [base]}


def messages_of(row: dict[str, Any], answer: str) -> list[dict[str, str]]:
    """A row's prompt with one of its answers, as messages."""
    said, prompt = row[answer], row["prompt"]
    if not isinstance(said, str):
        return list(said)
    asked = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
    return [*asked, {"role": "assistant", "content": said}]


def figure(columns: int, width: float = 4.2, height: float = 3.6, **kwargs: Any) -> Any:
    """A matplotlib figure with its axes, that needs no display."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    drawn, axes = plt.subplots(1, columns, figsize=(width * columns, height), squeeze=False, **kwargs)
    for axis in axes[0]:
        axis.grid(alpha=0.3)
    return drawn, axes[0]


def save(drawn: Any, path: Path) -> Path:
    from matplotlib import pyplot as plt

    path.parent.mkdir(parents=True, exist_ok=True)
    drawn.tight_layout()
    drawn.savefig(path, dpi=110)
    plt.close(drawn)
    return path

"""
Trains what the other scripts of this folder measure: URMs by each loss, their merges, and a Bradley-Terry model.

    python examples/paper/train.py --scale laptop --data DATA --base smollm2 --out paper

Nothing that is there is trained again. At `--scale paper` the same stages run under `accelerate launch`.
"""

from pathlib import Path

from common import LOSSES, MEMBERS, Run, parse, timed, train

from urm_hf import merge_checkpoints


def main():
    run = parse(__doc__)
    run.out.mkdir(parents=True, exist_ok=True)
    with timed(run, "training"):
        for seed in range(MEMBERS):
            train_urm(run, "mle", seed, alike=False)
        for loss in LOSSES:
            merge(run, loss)
        if run.settings["train_reward"]:
            train(run, "reward", "bradley-terry", "--model_name_or_path", run.base, "--seed", "0")


def train_urm(run: Run, loss: str, seed: int, alike: bool) -> str:
    """Both stages of one URM; `alike` ones see the same rows, as members of a merge must."""
    name = f"{loss}-{seed}"
    rows = ["--train_fraction", "1.0"] if alike else []
    flags = ["--model_name_or_path", run.base, "--loss_type", loss, "--seed", str(seed), *rows]
    attributes = train(run, "attributes", name, *flags)
    return train(run, "gating", f"{name}-gated", "--model_name_or_path", attributes, "--seed", str(seed))


def merge(run: Run, loss: str):
    """Two seeds, and the mean of their attribute stages, gated like each of them (Fig. 7)."""
    for seed in run.merged(loss):
        train_urm(run, loss, seed, alike=True)
    folder = Path(run.model(f"{loss}-merged"))
    if not (folder / "config.json").is_file():
        members = [run.model(f"{loss}-{seed}") for seed in run.merged(loss)]
        merge_checkpoints(members, folder, log_std="average")
    train(run, "gating", f"{loss}-merged-gated", "--model_name_or_path", str(folder), "--seed", "0")


if __name__ == "__main__":
    main()

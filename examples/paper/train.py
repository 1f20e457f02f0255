"""
Trains what the other scripts of this folder measure: URMs by each loss, their merges, and a Bradley-Terry model.

    python examples/paper/train.py --scale laptop --data DATA --base smollm2 --out paper

Nothing that is there is trained again. At `--scale paper` the same stages run under `accelerate launch`.
"""

from pathlib import Path

import torch
import yaml
from common import HERE, LOSSES, MEMBERS, Run, parse, timed, train
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from urm_hf import URMForRewardModeling, merge_checkpoints
from urm_hf.data.conversations import encode_conversation
from urm_hf.scoring.features import pooled_features


def main():
    run = parse(__doc__)
    run.out.mkdir(parents=True, exist_ok=True)
    with timed(run, "training"):
        for seed in range(MEMBERS):
            train_urm(run, "mle", seed, alike=False)
        for loss in LOSSES:
            merge(run, loss)
        if run.settings["scalar_rows"]:
            fit_scalar(run)


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


def fit_scalar(run: Run, decay: float = 1e-2, steps: int = 100) -> str:
    """
    The scalar reward model (Eq. 2) on the same frozen backbone and pairs: the linear head of highest likelihood, with
    a ridge, on standardised hidden states. transformers loads it as any other classifier of one label.
    """
    folder = run.model("bradley-terry")
    if (Path(folder) / "config.json").is_file():
        return folder
    urm = URMForRewardModeling.from_pretrained(run.model("mle-0"), dtype=run.settings["dtype"])
    tokenizer = AutoTokenizer.from_pretrained(run.model("mle-0"))
    config = yaml.safe_load((HERE / run.settings["train_gating"]).read_text())
    pairs = run.rows([config["dataset_name"], config["train_split"]], run.settings["scalar_rows"])
    ids = [encode_conversation(tokenizer, row, side) for side in ("chosen", "rejected") for row in pairs]
    hidden = torch.from_numpy(pooled_features(urm, ids, tokenizer.pad_token_id)[:])  # (2 pairs, H)
    difference = (hidden[: len(pairs)] - hidden[len(pairs) :]) / hidden.std(0)
    weight = torch.zeros(hidden.shape[1], requires_grad=True)
    optimizer = torch.optim.LBFGS([weight], max_iter=steps, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = -torch.nn.functional.logsigmoid(difference @ weight).mean() + decay * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    model = AutoModelForSequenceClassification.from_pretrained(run.base, num_labels=1, dtype=run.settings["dtype"])
    model.config.pad_token_id = tokenizer.pad_token_id
    with torch.no_grad():
        model.score.weight.copy_((weight / hidden.std(0))[None])
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


if __name__ == "__main__":
    main()

"""
GRPO with a URM or an ensemble as the reward, and a plot of reward, uncertainty and KL over the steps.

    python examples/grpo.py --policy HuggingFaceTB/SmolLM2-135M-Instruct --reward org/urm-a org/urm-b org/urm-c \\
        --measure reward_gap --coefficient 0.5 --prompts prompts.jsonl --max_steps 200 --output_dir policy

The policy maximises r - coefficient * u, less beta times its KL divergence from where it started (Eq. 3; in GRPO a
term of the loss). All other options are those of TRL's GRPOConfig, also from `--config FILE.yaml`; here `beta` is 0.04
and every step is logged unless you say otherwise. The plot is OUTPUT_DIR/training.png.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer, TrlParser

from urm_hf.data import load_rows
from urm_hf.demo.data import questions
from urm_hf.rewards import UncertaintyPenalizedReward


@dataclass
class Arguments:
    policy: str = field(metadata={"help": "Repository or folder of the model to train."})
    reward: list[str] = field(metadata={"help": "A URM or an ensemble; several URMs make an ensemble."})
    measure: str | None = field(
        default=None, metadata={"help": "Of uncertainty. Default: reward_gap for several rewards, else reward_std."}
    )
    coefficient: float = field(default=0.0, metadata={"help": "Of the penalty; at 0 uncertainty is only logged."})
    prompts: str | None = field(
        default=None, metadata={"help": "File or dataset with a column `prompt`. Default: those of `urm demo`."}
    )


def main():
    parser = TrlParser((Arguments, GRPOConfig))
    gpu = torch.accelerator.is_available()
    parser.set_defaults(beta=0.04, logging_steps=1, bf16=gpu, use_cpu=not gpu)  # TRL's own defaults need a GPU
    try:
        args, config = parser.parse_args_and_config()
    except ValueError as error:
        raise SystemExit(f"{parser.prog}: error: {' '.join(str(error).split())}") from error
    measure = args.measure or ("reward_gap" if len(args.reward) > 1 else "reward_std")
    scorer = args.reward if len(args.reward) > 1 else args.reward[0]
    reward = UncertaintyPenalizedReward(scorer, measure, args.coefficient)
    trainer = GRPOTrainer(args.policy, reward_funcs=reward, args=config, train_dataset=load_prompts(args.prompts))
    trainer.train()
    trainer.save_model()
    picture = plot(trainer.state.log_history, reward.__name__, measure, Path(config.output_dir) / "training.png")
    print(f"Saved the policy to {config.output_dir} and {picture}")


def load_prompts(name: str | None) -> Dataset:
    if name is not None:
        return load_rows(name, "train").select_columns("prompt")
    return Dataset.from_list([{"prompt": prompt} for prompt in questions()])


def plot(history: list[dict[str, Any]], name: str, measure: str, path: Path) -> Path:
    """Raw and penalised reward, uncertainty, and KL (per token), each the mean of a step; bands: one std."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    panels = {
        "reward": {"raw": f"{name}/reward", "as trained on": f"rewards/{name}"},
        f"uncertainty: {measure}": {measure: f"{name}/{measure}"},
        "KL from the start, per token": {"kl": "kl"},
    }
    figure, axes = plt.subplots(1, 3, figsize=(13, 3.6))
    for axis, (title, lines) in zip(axes, panels.items(), strict=True):
        for label, key in lines.items():
            steps = [entry for entry in history if f"{key}/mean" in entry or key in entry]
            mean = [entry.get(f"{key}/mean", entry.get(key)) for entry in steps]
            x = [entry["step"] for entry in steps]
            axis.plot(x, mean, label=label, marker="o" if len(x) < 30 else None, ms=3)
            if label != "kl":
                std = [entry[f"{key}/std"] for entry in steps]
                low, high = ([m + sign * s for m, s in zip(mean, std, strict=True)] for sign in (-1, 1))
                axis.fill_between(x, low, high, alpha=0.12, lw=0)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("step")
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8, frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path


if __name__ == "__main__":
    main()

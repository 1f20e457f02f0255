"""What the demo found, as a table, sentences and plots."""

from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import norm

from urm_hf.demo.data import ATTRIBUTES, TOPIC_NOISE
from urm_hf.demo.run import MEASURES, RECOMMENDED, DemoResult
from urm_hf.modeling import URMEnsemble
from urm_hf.scores import RewardScore
from urm_hf.scoring.scorer import RewardScorer


def print_report(result: DemoResult, plots: list[Path]):
    metrics = result.metrics
    print(f"\nBase model: {result.base}")
    print(
        f"Trained on {metrics['n_train']} conversations with three simulated annotators each; none below was seen.\n"
    )
    print_table(result)
    print("\nreward compares answers to one prompt.")
    print(f"* = looks unfamiliar: its {RECOMMENDED} is higher than that of 95 % of the held-out test conversations.\n")

    print(f"Held-out test ({metrics['n_test']} conversations of {metrics['n_prompts']} prompts):")
    print(
        "  predicted against true mean rating, Pearson r: "
        + ", ".join(f"{a} {r:.2f}" for a, r in metrics["pearson"].items())
    )
    grades = sorted(metrics["reward_by_grade"].items(), key=lambda item: -item[1])
    print("  mean reward by grade of the answer: " + ", ".join(f"{grade} {value:.2f}" for grade, value in grades))
    accuracy, pairs, (low, high) = metrics["pair_accuracy"], metrics["n_pairs"], metrics["pair_interval"]
    print(f"  preference pairs right: {accuracy:.2f} of {pairs} (95 % interval over prompts {low:.2f}-{high:.2f})")
    print_sigma(result)
    print("\nDoes it know what it does not know? AUROC of each measure, unfamiliar against held-out (0.5 = chance):")
    for measure, meaning in MEASURES.items():
        values = "  ".join(f"{name} {_tell_auroc(metrics['auroc'][f'{measure}/{name}'])}" for name in metrics["n_out"])
        print(f"  {measure:<19} {values}   {meaning}")
    values = "  ".join(f"{name} {_tell_auroc(value)}" for name, value in metrics["length_auroc"].items())
    print(f"  {'length of answer':<19} {values}   knows nothing; in its better direction")
    for name in metrics["n_out"]:
        print(f"  {verdict(result, name)}")
    print('  "Wrong way round": the measure is higher on what is familiar, and would keep the unfamiliar.')
    print("\nPlots:")
    for plot in plots:
        print(f"  {plot}")
    print(f"\nLoad what was trained ({len(result.members)} checkpoints, {_count_megabytes(result.members)} MB):\n")
    print("  from urm_hf import RewardScorer, URMEnsemble")
    print(f"  ensemble = URMEnsemble.from_pretrained({[str(member) for member in result.members]})")
    print('  RewardScorer(ensemble).score([{"prompt": "What is 2 + 2?", "response": "4, as two and two make four."}])')
    print(f"\n{result.seconds:.0f} s in all.")


def print_table(result: DemoResult):
    columns = ("reward", *MEASURES)
    limit = star_limit(result, RECOMMENDED)
    # members that share a backbone differ little: two digits would print zeros
    digits = {column: 4 if column == RECOMMENDED and limit < 0.05 else 2 for column in columns}
    widths = {column: max(len(column), 8) + 2 for column in columns}
    print(f"{'kind':<11}{'answer':<32}" + "".join(f"{column:>{widths[column]}}  " for column in columns))
    for kind, messages, score in result.showcase:
        answer = messages[-1]["content"]
        answer = answer if len(answer) <= 30 else answer[:29] + "…"
        cells = ""
        for column in columns:
            is_starred = column == RECOMMENDED and score[column] > limit
            cells += f"{score[column]:>{widths[column]}.{digits[column]}f}" + (" *" if is_starred else "  ")
        print(f"{kind:<11}{answer:<32}{cells}")


def star_limit(result: DemoResult, measure: str) -> float:
    """What 95 % of the held-out conversations stay below: higher values get a star."""
    return float(np.quantile([score[measure] for score in result.test_scores], 0.95))


def print_sigma(result: DemoResult):
    """The learnt spread beside the true one, by topic, and the error of the means, which the spread must cover."""
    print("  learnt sigma against the annotators' true noise, by topic (sigma covers the model's own error as well):")
    for topic in TOPIC_NOISE:
        rows = [(a, s) for a, s in zip(result.test, result.test_scores, strict=True) if a.topic == topic]
        learnt = np.mean([_read_attributes(score, "attribute_stds") for _, score in rows])
        true = np.mean([answer.true_std for answer, _ in rows])
        errors = [_read_attributes(score, "attribute_means") - answer.true_means for answer, score in rows]
        error = np.sqrt(np.mean(np.square(errors)))
        print(f"    {topic:<11} true {true:.2f}   learnt {learnt:.2f}   error of the mean {error:.2f}")
    metrics = result.metrics
    print(f"    correlation over conversations {metrics['sigma_correlation']:.2f}, n={metrics['n_test']}")


def _read_attributes(score: RewardScore, field: str) -> np.ndarray:
    return np.array([score[field][name] for name in ATTRIBUTES])


def verdict(result: DemoResult, name: str) -> str:
    """
    One honest sentence on whether a kind of unfamiliar conversation is flagged: whether the measure that is
    recommended, which was not chosen on these conversations, gives most of it a star.
    """
    auroc = {measure: result.metrics["auroc"][f"{measure}/{name}"] for measure in MEASURES}
    group = result.out_scores[name]
    starred = sum(score[RECOMMENDED] > star_limit(result, RECOMMENDED) for score in group)
    wrong = [measure for measure, value in auroc.items() if value < 0.5]
    rest = f"; wrong way round: {', '.join(wrong)}" if wrong else ""
    if 2 * starred >= len(group):
        return f"{name}: flagged by {RECOMMENDED}, which stars {starred} of {len(group)}{rest}."
    return (
        f"{name}: NOT reliably flagged: {RECOMMENDED} (AUROC {auroc[RECOMMENDED]:.2f}) stars {starred} of "
        f"{len(group)}{rest}."
    )


def _tell_auroc(value: float) -> str:
    """An AUROC in a column of its own width; below 0.5 a measure takes the unfamiliar for familiar."""
    return f"{value:.2f}" + (" (wrong way round)" if value < 0.5 else " " * 18)


def plot_report(result: DemoResult, folder: Path) -> list[Path]:
    """The paper's Fig. 5 / 8 for three conversations, and the distribution of each measure in and out."""
    import matplotlib

    matplotlib.use("Agg")  # draws without a display, which servers have none of
    return [plot_attributes(result, folder / "attributes.png"), plot_measures(result, folder / "uncertainty.png")]


def plot_attributes(result: DemoResult, path: Path) -> Path:
    """Predicted densities of each attribute for a familiar answer, arithmetic and gibberish; a line a member."""
    from matplotlib import pyplot as plt

    ensemble = URMEnsemble.from_pretrained([str(member) for member in result.members])
    scorer = RewardScorer(ensemble)
    kinds = ["good", "arithmetic", "gibberish"]
    examples: dict[str, Any] = {}
    for kind, messages, _ in result.showcase:
        examples.setdefault(kind, messages)  # the first of each kind
    shown = [(kind, examples[kind]) for kind in kinds]
    figure, axes = plt.subplots(len(shown), len(ATTRIBUTES), figsize=(15, 6.2), sharex=True, sharey="col")
    grid = np.linspace(-1.5, 5.5, 300)
    for row, (kind, messages) in enumerate(shown):
        output = score_members(scorer, messages)
        for column, attribute in enumerate(ATTRIBUTES):
            axis = axes[row, column]
            for member, color in zip(range(len(result.members)), ("#0b5394", "#b45f06", "#38761d"), strict=False):
                mean, std = output[0][member, column], output[1][member, column]
                axis.plot(grid, norm.pdf(grid, mean, std), color=color, label=f"member {member}")
            axis.axvspan(0, 4, color="#eeeeee", zorder=0)
            axis.set_yticks([])
            if row == 0:
                axis.set_title(attribute)
            if column == 0:
                axis.set_ylabel(f"{kind}\n“{messages[-1]['content'][:14]}…”", fontsize=9)
    axes[0, -1].legend(fontsize=8, frameon=False)
    figure.supxlabel("rating (grey: the scale 0..4)", fontsize=10)
    figure.suptitle("What each member predicts annotators would say", fontsize=12)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path


def score_members(scorer: RewardScorer, messages) -> tuple[np.ndarray, np.ndarray]:
    """Means and standard deviations (M, n) of one conversation."""
    import torch

    ids, _ = scorer.encode([messages])
    tokens = torch.tensor(ids)
    with torch.inference_mode():
        output = scorer.model(input_ids=tokens, attention_mask=torch.ones_like(tokens))
    return output.attribute_means[:, 0].numpy(), output.attribute_stds[:, 0].numpy()


def plot_measures(result: DemoResult, path: Path) -> Path:
    """Histograms of each measure: held-out test, arithmetic, gibberish."""
    from matplotlib import pyplot as plt

    groups = {"held-out test": result.test_scores, **result.out_scores}
    figure, axes = plt.subplots(1, len(MEASURES), figsize=(15, 3.6))
    for axis, measure in zip(axes, MEASURES, strict=True):
        values = {name: _read_measure(scores, measure) for name, scores in groups.items()}
        # the last bin holds all above the 99th percentile: one wild value would press the others into a single bar
        edges = np.linspace(0, np.quantile(np.concatenate(list(values.values())), 0.99), 25)
        for (name, numbers), color in zip(values.items(), ("#666666", "#0b5394", "#b45f06"), strict=False):
            clipped = np.clip(numbers, 0, edges[-1])
            axis.hist(clipped, edges, density=True, alpha=0.55, color=color, label=f"{name} (n={len(numbers)})")
        aurocs = {name: result.metrics["auroc"][f"{measure}/{name}"] for name in result.out_scores}
        texts = [
            f"{name} {value:.2f}" + (", wrong way round" if value < 0.5 else "") for name, value in aurocs.items()
        ]
        axis.set_title("\n".join([f"{measure}: AUROC", *texts]), fontsize=9)
        axis.set_yticks([])
        axis.set_xlabel("higher = less sure")
    axes[0].legend(fontsize=8, frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path


def _read_measure(scores: list[RewardScore], measure: str) -> np.ndarray:
    return np.array([score[measure] for score in scores])


def _count_megabytes(folders: list[Path]) -> int:
    files = chain.from_iterable(folder.glob("*.safetensors") for folder in folders)
    return round(sum(file.stat().st_size for file in files) / 1e6)

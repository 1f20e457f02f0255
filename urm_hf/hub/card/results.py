"""Measured results that lie beside a model, in one form: what was measured, how it came out, on how many rows."""

from dataclasses import dataclass

# keys of `urm_hf.statistics.rating_metrics` and of TRL: (kind, what a reader calls them)
METRICS = {
    "pearson": ("ratings", "Pearson r"),
    "spearman": ("ratings", "Spearman ρ"),
    "nll": ("ratings", "NLL"),
    "mse": ("ratings", "MSE"),
    "crps": ("ratings", "CRPS"),
    "single_pearson": ("ratings", "r with single ratings"),
    "noise_ceiling_pearson": ("ratings", "its noise ceiling"),
    "coverage50": ("spread", "in μ ± 0.674 σ"),
    "coverage68": ("spread", "in μ ± σ"),
    "coverage95": ("spread", "in μ ± 1.96 σ"),
    "residual_variance": ("spread", "mean of ((s − μ)/σ)²"),
    "spread_pearson": ("spread", "predicted and observed variance, r"),
    "accuracy": ("pairs", "accuracy"),
    "brier": ("probability", "Brier"),
    "pair_nll": ("probability", "NLL"),
    "ece": ("probability", "ECE"),
    "auroc_errors": ("trust", "AUROC for errors"),
    "accuracy_kept": ("trust", "accuracy of the 80 % kept"),
    "accuracy_gain": ("trust", "gain over all"),
}


@dataclass
class Result:
    """
    Args:
        kind: "ratings" (means against human ratings), "spread" (sigma against them), "pairs" (preference pairs),
            "probability" (of being preferred) or "trust" (whether uncertainty tells errors).
        metric: a key of `METRICS`. attribute: None for the average over attributes.
        interval: 95 %. n: rows or pairs. split: "test", or "validation" if the model was chosen by it.
        of: what was measured, where it is not the model itself ("equal weights", "length only").
        data: name of the data set, of results of `urm evaluate`. dataset: its repository on the Hub, if it has one.
        group: a section or domain of it. variant: kind of probability, or the uncertainty that rows are kept by.
    """

    kind: str
    metric: str
    value: float
    attribute: str | None = None
    interval: tuple[float, float] | None = None
    n: int | None = None
    split: str = "test"
    of: str | None = None
    data: str | None = None
    dataset: str | None = None
    group: str | None = None
    variant: str | None = None

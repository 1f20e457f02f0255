"""The content of `results.json` for simulated models: decisions are drawn, all else is computed from them."""

import json
import math

import numpy as np
from scipy.stats import binomtest

TEMPERED = ", tempered"


def model(name: str, kind: str = "urm", uncertainties=("reward_std",), **known) -> dict:
    about = {"source": f"org/{name}", "revision": None, "attributes": None} | known
    return {"name": name, "kind": kind, "uncertainties": list(uncertainties)} | about


def baseline(name: str) -> dict:
    return model(name, "baseline", (), source=None)


def preference_set(name: str, kind: str = "pairs", n: int = 648, **known) -> dict:
    about = {"source": f"{name}.jsonl", "revision": None, "split": "test", "rows": n, "prompts": n}
    return {"name": name, "kind": kind, "skipped": {}, "subsets": {}} | about | known


def normal_interval(values: np.ndarray) -> list[float]:
    """A mean lies among the values."""
    mean, half = values.mean(), 1.96 * values.std() / math.sqrt(len(values))
    return [float(max(mean - half, values.min())), float(min(mean + half, values.max()))]


def share(metric: str, values: np.ndarray, **where) -> dict:
    interval = normal_interval(values)
    return measured(metric, float(values.mean()), interval, len(values), **where)


def measured(metric: str, value, interval=None, n: int = 648, level=None, group=None, variant=None) -> dict:
    place = {"level": level, "group": group, "variant": variant}
    return {"metric": metric, "value": value, "interval": interval, "n": n, "prompts": n} | place


def compared(a: str, b: str, right_a: np.ndarray, right_b: np.ndarray) -> dict:
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    p = binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    difference = right_a.astype(float) - right_b
    counts = {"n": len(right_a), "prompts": len(right_a), "only_a": only_a, "only_b": only_b}
    found = {"difference": float(difference.mean()), "interval": normal_interval(difference)}
    return {"model_a": a, "model_b": b, **found, **counts, "p_value": p, "p_adjusted": p, "test": "McNemar, exact"}


def decisions(n: int, accuracy: float, seed: int) -> np.ndarray:
    """Right or wrong, items whose difficulty all models share; exactly `round(n * accuracy)` of them right."""
    shared, own = np.random.default_rng(0).normal(size=n), np.random.default_rng(seed).normal(size=n)
    order = np.argsort(0.8 * shared + 0.6 * own)
    right = np.zeros(n, bool)
    right[order[: round(n * accuracy)]] = True
    return right


def trust(right: np.ndarray, variant: str, signal: float, seed: int) -> tuple[list[dict], dict]:
    """Metrics and the risk-coverage curve of a measure that is higher by `signal` for errors."""
    uncertainty = np.random.default_rng([seed, 1]).normal(size=len(right)) + signal * ~right
    kept = right[np.argsort(uncertainty)]
    wins = (uncertainty[~right][:, None] > uncertainty[right]).mean()
    half = 1.96 * math.sqrt(wins * (1 - wins) / min((~right).sum(), right.sum()))
    auroc = measured(
        "auroc_errors", float(wins), [float(wins - half), float(wins + half)], len(right), variant=variant
    )
    errors = 1 - np.cumsum(kept) / np.arange(1, len(kept) + 1)
    x = np.linspace(0.05, 1, 39)
    at = np.maximum(1, np.round(x * len(kept)).astype(int))
    y = errors[at - 1]
    half = 1.96 * np.sqrt(y * (1 - y) / at)
    curve = {"curve": "risk_coverage", "variant": variant, "x": x.tolist(), "y": y.tolist()}
    curve |= {"low": np.maximum(y - half, 0).tolist(), "high": (y + half).tolist()}
    metrics = [auroc, measured("aurc", float(errors.mean()), None, len(right), variant=variant)]
    ideal = np.sort(~right).cumsum() / np.arange(1, len(right) + 1)
    metrics.append(measured("excess_aurc", float(errors.mean() - ideal.mean()), None, len(right), variant=variant))
    for part in ("0.9", "0.8", "0.5"):
        rows = kept[: round(float(part) * len(kept))]
        place = {"level": "kept", "group": part, "variant": variant}
        metrics.append(share("accuracy_kept", rows, **place))
        gain, half = float(rows.mean() - right.mean()), 0.02 * (1 - float(part))
        metrics.append(measured("accuracy_gain", gain, [gain - half, gain + half], len(right), **place))
    return metrics, curve


def probabilities(right: np.ndarray, kind: str, temperature: float, seed: int) -> tuple[list[dict], list[dict]]:
    """Metrics and reliability of confidences that are calibrated once their logits are divided by `temperature`."""
    low, high = max(0.5, 2 * right.mean() - 0.99), min(0.99, max(0.55, 2 * right.mean() - 0.5))
    rng, grid = np.random.default_rng([seed, 2]), np.linspace(low, high, 200)
    sure = rng.choice(
        grid, len(right), p=grid / grid.sum()
    )  # calibrated: a share p of those with confidence p is right
    confidence = np.where(right, sure, rng.choice(grid, len(right), p=(1 - grid) / (1 - grid).sum()))
    logit = np.log(confidence / np.maximum(1 - confidence, 1e-3))
    metrics, curves = [measured("temperature", temperature, None, len(right), variant=kind)], []
    for variant, factor in ((kind, temperature), (kind + TEMPERED, 1.0)):
        p = 1 / (1 + np.exp(-factor * logit))
        nll = -np.log(np.where(right, p, 1 - p))
        bins = np.minimum((10 * (2 * p - 1)).astype(int), 9)
        rows = [(p[bins == b].mean(), right[bins == b].mean(), int((bins == b).sum())) for b in np.unique(bins)]
        x, y, n = (list(map(float, column)) for column in zip(*rows))
        half = [1.96 * math.sqrt(max(v * (1 - v), 0.01) / m) for v, m in zip(y, n)]
        ece = sum(m * abs(a - b) for a, b, m in zip(x, y, n)) / len(right)
        metrics += [share("nll", nll, variant=variant), share("brier", (right - p) ** 2, variant=variant)]
        metrics.append(measured("ece", ece, None, len(right), variant=variant))
        metrics.append(measured("ece_of_perfect", 0.03, None, len(right), variant=variant))
        low, high = ([max(0.0, v - h) for v, h in zip(y, half)], [min(1.0, v + h) for v, h in zip(y, half)])
        curves.append({"curve": "reliability", "variant": variant, "x": x, "y": y, "low": low, "high": high, "n": n})
    return metrics, curves


def rating_metrics(attributes: list[str], pearson: float, coverage: float, seed: int, n: int = 144) -> list[dict]:
    """Of a model whose 95 % intervals hold a share `coverage` of the ratings."""
    rng = np.random.default_rng(seed)
    found = []
    for attribute in (None, *attributes):
        place = {"n": n} | ({"level": "attribute", "group": attribute} if attribute else {})
        r, c = pearson + 0.05 * rng.normal(), coverage + 0.01 * rng.normal()
        rows = [("pearson", r, 0.11), ("spearman", r - 0.02, 0.11), ("nll", 1.35 + 0.05 * rng.normal(), 0.09)]
        rows += [("crps", 0.53, 0.03), ("coverage50", c - 0.38, 0.03), ("coverage68", c - 0.2, 0.03)]
        rows += [("coverage95", min(c, 0.99), 0.01), ("sharpness", 0.97, 0.02), ("spread_pearson", r / 2, 0.15)]
        rows += [("single_pearson", r - 0.06, 0.1)]
        found += [measured(name, float(v), [float(v - h), float(v + h)], **place) for name, v, h in rows]
    return found


def noise_ceilings(attributes: list[str], pearson: float, nll: float) -> list[dict]:
    places = [{}, *({"level": "attribute", "group": attribute} for attribute in attributes)]
    rows = (("noise_ceiling_pearson", pearson, 0.06), ("noise_ceiling_nll", nll, 0.05))
    return [measured(name, v, [v - h, v + h], **place) for place in places for name, v, h in rows]


class Simulated:
    """Puts an evaluation together; `content` is what `results.json` would hold."""

    def __init__(self, *models: dict, baselines=("longest answer", "random")):
        self.models = [*models, *map(baseline, baselines)]
        self.content = {
            "schema": "urm-hf evaluation",
            "version": 1,
            "urm_hf": "0.1.0",
            "created": "2026-11-22T08:00:00Z",
            "command": "urm evaluate " + " ".join(m["name"] for m in models) + " --data data.jsonl --out evaluation",
            "seed": 0,
            "bootstrap_samples": 1000,
            "models": self.models,
            "data": [],
            "metrics": [],
            "comparisons": [],
            "curves": [],
        }

    def add(self, data: str, name: str, metrics=(), curves=()):
        self.content["metrics"] += [{"data": data, "model": name, **found} for found in metrics]
        self.content["curves"] += [{"data": data, "model": name, **found} for found in curves]

    def preferences(
        self, data: dict, right: dict[str, np.ndarray], chance: float = 0.5, parts=None, adjust: float = 1
    ):
        """
        Args:
            right: decisions by model and baseline. parts: level -> group -> items.
            adjust: what p-values are multiplied by for the number of comparisons.
        """
        self.content["data"].append(data)
        for name, decided in right.items():
            self.add(data["name"], name, [share("accuracy", decided), measured("tied", 0.0, None, len(decided))])
            for level, groups in (parts or {}).items():
                found = [share("accuracy", decided[items], level=level, group=g) for g, items in groups.items()]
                self.add(data["name"], name, found)
        if any(m["name"] == "random" for m in self.models):
            self.add(data["name"], "random", [measured("accuracy", chance)])
        names = list(right)
        for place, a in enumerate(names):
            for b in names[place + 1 :]:
                found = {"data": data["name"], **compared(a, b, right[a], right[b])}
                found["p_adjusted"] = min(1.0, adjust * found["p_value"])
                self.content["comparisons"].append(found)
        return self

    def known(
        self, data: str, name: str, right: np.ndarray, signals: dict[str, float], temperatures: dict[str, float]
    ):
        """What a model says of its own decisions: measures by how much higher they are for errors; probabilities."""
        for seed, (variant, signal) in enumerate(signals.items()):
            metrics, curve = trust(right, variant, signal, seed)
            self.add(data, name, metrics, [curve])
        for seed, (kind, temperature) in enumerate(temperatures.items()):
            self.add(data, name, *probabilities(right, kind, temperature, seed))
        return self

    def rated(self, data: dict, **metrics: list[dict]):
        self.content["data"].append(data)
        for name, found in metrics.items():
            self.add(data["name"], name, found)
        return self

    def done(self) -> dict:
        return json.loads(json.dumps(self.content))

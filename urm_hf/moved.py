"""Former names of modules and functions, which still work: `urm_hf.clusters` is now `urm_hf.statistics.bootstrap`."""

import functools
import importlib
import sys
import warnings
from collections.abc import Callable
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

MOVED = {
    "conversations": "data.conversations",
    "score_rows": "data.answers",
    "score_source": "data.source",
    "ratings": "data.ratings",
    "evaluation.conversation_keys": "data.conversation_keys",
    "clusters": "statistics.bootstrap",
    "evaluation.resampling": "statistics.bootstrap",
    "trainers.metrics": "statistics.rating_metrics",
    "checkpoint_files": "checkpoints.files",
    "merging": "checkpoints.merging",
    "published": "checkpoints.published",
    "published_layout": "checkpoints.published_layout",
    "trainers.adapters": "checkpoints.adapters",
    "thresholds": "uncertainty.thresholds",
    "ood_plot": "uncertainty.ood_plot",
    "loading": "scoring.loading",
    "features": "scoring.features",
    "scoring_bar": "scoring.progress",
    "model_pass": "scoring.engine.model_pass",
    "model_batches": "scoring.engine.batches",
    "prefixes": "scoring.engine.prefixes",
    "packed_attention": "scoring.engine.packed_attention",
    "batching": "scoring.engine.padding",
    "score_job": "scoring.jobs.job",
    "score_parts": "scoring.jobs.parts",
    "score_processes": "scoring.jobs.processes",
    "preference_pairs": "rl.preference_pairs",
    "evaluation.rewardbench": "evaluation.benchmarks.rewardbench",
    "evaluation.rewardbench2": "evaluation.benchmarks.rewardbench2",
    "evaluation.rmbench": "evaluation.benchmarks.rmbench",
    "evaluation.group_means": "evaluation.benchmarks.group_means",
    "evaluation.preference_rows": "evaluation.benchmarks.rows",
    "evaluation.preference_data": "evaluation.pairs.data",
    "evaluation.scored_pairs": "evaluation.pairs.scored_pairs",
    "evaluation.accuracy": "evaluation.pairs.accuracy",
    "evaluation.calibration": "evaluation.pairs.calibration",
    "evaluation.temperature": "evaluation.pairs.temperature",
    "evaluation.selective": "evaluation.pairs.selective",
    "evaluation.baselines": "evaluation.pairs.baselines",
    "evaluation.rating_data": "evaluation.ratings.data",
    "evaluation.rating_metrics": "evaluation.ratings.metrics",
    "evaluation.rating_baselines": "evaluation.ratings.baselines",
    "evaluation.preferences": "evaluation.benchmarks.benchmark",
    "evaluation.found": "evaluation.measurements",
    "report.results_view": "evaluation.results",
    "evaluation.output": "report.output",
    "text_table": "evaluation.text_table",
    "hub_upload": "hub.upload",
    "hub_errors": "hub.errors",
    "model_folder": "hub.folder",
    "adapter_base": "hub.adapter_base",
    "reference": "hub.reference",
    "card": "hub.card.card",
    "card_sections": "hub.card.sections",
    "card_loading": "hub.card.loading",
    "card_evaluation": "hub.card.evaluation",
    "results": "hub.card.result_files",
    "report.card_results": "hub.card.evaluate_results",
    "training": "trainers.runs",
    "plots": "trainers.plot",
}


class MovedModules(MetaPathFinder, Loader):
    """Gives a moved module under its former name, and says `DeprecationWarning` once for each."""

    def find_spec(self, fullname: str, path=None, target=None) -> ModuleSpec | None:
        package, _, name = fullname.partition(".")
        return ModuleSpec(fullname, self) if package == "urm_hf" and name in MOVED else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        new = f"urm_hf.{MOVED[spec.name.partition('.')[2]]}"
        # the frames of the import system do not count, so that the warning is of the line that imports
        warnings.warn(f"{spec.name} is now {new}.", DeprecationWarning, stacklevel=2)
        return importlib.import_module(new)

    def exec_module(self, module: ModuleType):
        pass  # it was executed under its own name


def find_moved_modules():
    """Looks for former names where no module of that name is found. Last in line: it costs nobody else anything."""
    if not any(isinstance(finder, MovedModules) for finder in sys.meta_path):
        sys.meta_path.append(MovedModules())


def renamed(former: str, function: Callable[P, R]) -> Callable[P, R]:
    """`function` under its former dotted name: the same, with a `DeprecationWarning` at each call."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        warnings.warn(f"{former} is now {function.__name__}.", DeprecationWarning, stacklevel=2)
        return function(*args, **kwargs)

    return call

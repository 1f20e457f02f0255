"""The members of an ensemble, trained one after the other."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

from urm_hf.modeling import URMEnsemble
from urm_hf.trainers.data_checks import check_stage_data
from urm_hf.trainers.outputs import check_run_folder

# (train, data, args, model): a function, and what it is called with: DataArguments, the config of the stage and TRL's
# ModelConfig
Stage: TypeAlias = tuple[Any, ...]


def train_members(stages: Sequence[Stage], members: int, output_dir: str | Path) -> Path:
    """
    An ensemble: each member runs all stages with a seed of its own (head initialization, batch order, drawn rows).

    Args:
        stages (`list[tuple]`): (function, data, args, model) of one or two stages, as [`train_attributes`] and
            [`train_gating`] take.
        members (`int`): how many, at least two.
        output_dir (`str` or `Path`): gets a folder for each member, and `ensemble`.

    Returns:
        The folder of the ensemble, which names its members and holds no weights.

    Raises:
        ValueError: fewer than two members, stages of two precisions, or two members that ended with equal heads.
    """
    if members < 2:
        raise ValueError(f"an ensemble needs at least two members, got {members}.")
    if any(args.dry_run for _, _, args, _ in stages):
        raise ValueError("`dry_run` is for one stage: `urm train attributes --dry_run`, `urm train gating --dry_run`.")
    _check_one_precision(stages)
    output_dir = Path(output_dir)
    _check_folders(stages, members, output_dir)
    _check_data(stages, members, output_dir)
    paths = [str(_train_member(stages, member, output_dir)) for member in range(members)]
    # "sequential" loads no member: what is needed here is the config, and that equal heads are refused
    ensemble = URMEnsemble.from_pretrained(paths, strategy="sequential")
    _, data, args, _ = stages[0]
    # how it will be loaded by default: members on one frozen backbone, or on one base with adapters, can share it
    ensemble.config.strategy = "shared" if data.save_adapter or args.freeze_backbone else "resident"
    ensemble.save_pretrained(output_dir / "ensemble")
    return output_dir / "ensemble"


def _train_member(stages: Sequence[Stage], member: int, output_dir: Path) -> Path:
    """Runs all stages of one member, each on what the one before it saved; the folder of the last."""
    path: Path | None = None
    for number, (train, data, stage_args, stage_model) in enumerate(stages):
        # copies: trainers write into their arguments, and the next member starts from the same ones
        args, model = copy.deepcopy(stage_args), copy.deepcopy(stage_model)
        args.seed += member
        args.data_seed = args.seed
        is_last = number == len(stages) - 1
        args.output_dir = str(output_dir / _name_folder(member, is_last))
        if path is not None:
            model.model_name_or_path = str(path)
        print(f"Member {member}, stage {number + 1} of {len(stages)}, seed {args.seed}")
        path = train(data, args, model)
    assert path is not None  # there is at least one stage
    return path


def _name_folder(member: int, is_last: bool) -> str:
    return f"member-{member}" if is_last else f"member-{member}-attributes"


def _check_folders(stages: Sequence[Stage], members: int, output_dir: Path):
    """All that would be written, before the first member trains."""
    for member in range(members):
        for number, (_, data, stage_args, model) in enumerate(stages):
            args = copy.copy(stage_args)
            args.output_dir = str(output_dir / _name_folder(member, number == len(stages) - 1))
            check_run_folder(data, args, model.model_name_or_path)


def _check_data(stages: Sequence[Stage], members: int, output_dir: Path):
    """The rows of all stages, before minutes of training are lost to a file of the second."""
    _, _, first_args, first_model = stages[0]
    base = first_model.model_name_or_path
    if not base:  # its stage tells
        return
    base_args = copy.copy(first_args)
    if first_model.model_revision is not None:
        base_args.model_init_kwargs = {"revision": first_model.model_revision, **(first_args.model_init_kwargs or {})}
    for number, (_, data, stage_args, _) in enumerate(stages):
        args = copy.copy(stage_args)
        args.output_dir = str(
            output_dir / _name_folder(0, number == len(stages) - 1)
        )  # what is left out is told there
        check_stage_data(data, args, base, base_args, [stage_args.seed + member for member in range(members)])


def _check_one_precision(stages: Sequence[Stage]):
    """accelerate keeps one precision for a whole process: a second stage with another would fail at its start."""
    precisions = {_read_precision(args) for _, _, args, _ in stages}
    if len(precisions) > 1:
        raise ValueError(
            f"the stages ask for different precisions ({', '.join(sorted(precisions))}): set `bf16` (and `fp16`) "
            "alike in both config files. The gating stage computes its hidden states under the same autocast."
        )


def _read_precision(args: Any) -> str:
    if args.bf16:
        return "bf16"
    return "fp16" if args.fp16 else "float32"

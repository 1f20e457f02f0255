"""`urm train reward`, `attributes`, `gating`, `ensemble`: the flags are those of TRL's configs."""

import atexit
import os
import sys
import warnings
from pathlib import Path
from typing import Any

from urm_hf.cli.parser import Parser, suggest

USAGE = """usage: urm train {reward,attributes,gating,ensemble} [--config FILE.yaml] [options]

  reward      Train a scalar reward model on preference pairs: a base for a URM, or a model by itself.
  attributes  Train the value head (and the backbone) on rated conversations.
  gating      Train the gate on preference pairs; all else is frozen.
  ensemble    Run both stages for each of several members, from the two stages' config files.

`urm train attributes --help` lists all options. Flags override those of a --config file."""

STAGES = ("reward", "attributes", "gating", "ensemble")

ENSEMBLE_FILES = """
The two files hold the options of the stages, one a line, under the names that `urm train attributes --help` and
`urm train gating --help` list: `model_name_or_path: BASE`, `dataset_name: ratings.jsonl`, `freeze_backbone: true`.
docs/ensembles.md shows both. What differs between members, the seed and the output folder, and in the second file the
model, is set for each.
"""


def main(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE)
        return 0
    stage, *options = argv
    if stage not in STAGES:
        print(USAGE)
        print(f"urm train: error: there is no stage {stage!r}{suggest(stage, STAGES)}")
        return 2
    with warnings.catch_warnings():
        # peft asks transformers by a former name, which a user can do nothing about; can go when peft says the new one
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        folder = train_ensemble(options) if stage == "ensemble" else train_stage(stage, options)
    # of the processes that a launcher started, one speaks
    if folder is not None and int(os.environ.get("RANK", 0)) == 0:
        print(f"Saved to {folder}")
    end_processes()
    return 0


def end_processes() -> None:
    """
    Ends a process that a launcher started, together with the others, and at once: the threads of gloo, which DeepSpeed
    keeps alive, may abort an interpreter that takes itself apart, and a launcher takes that for a failed training.
    """
    from accelerate import PartialState
    from torch.distributed import is_available, is_initialized

    if not (is_available() and is_initialized() and "RANK" in os.environ):
        return
    PartialState().wait_for_everyone()
    PartialState().destroy_process_group()
    atexit._run_exitfuncs()  # what tracking tools have registered; `os._exit` leaves it out
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def train_stage(stage: str, argv: list[str]) -> Path | None:
    function, *parsed = parse_stage(stage, argv)
    return function(*parsed)


def train_ensemble(argv: list[str]) -> Path:
    args = build_ensemble_parser().parse_args(argv)
    from urm_hf.trainers.runs import train_members

    # the output folders are made from --out; the stages' configs need one all the same, as transformers wants it
    shared = ["--output_dir", args.out, *(["--overwrite"] if args.overwrite else [])]
    stages = [parse_stage("attributes", ["--config", args.attributes_config, *shared])]
    if args.gating_config:
        stages.append(parse_stage("gating", ["--config", args.gating_config, *shared]))
    return train_members(stages, args.members, args.out)


def build_ensemble_parser() -> Parser:
    # their former names; elsewhere `--attributes` takes the names of attributes
    former = {"--attributes": "--attributes-config", "--gating": "--gating-config"}
    parser = Parser(
        prog="urm train ensemble",
        description="Train the members of an ensemble.",
        epilog=ENSEMBLE_FILES,
        aliases=former,
    )
    parser.add_argument(
        "--attributes-config",
        required=True,
        metavar="FILE.yaml",
        help="The options of `urm train attributes`, one a line: `learning_rate: 1.0e-3`.",
    )
    parser.add_argument(
        "--gating-config", metavar="FILE.yaml", help="The options of `urm train gating`, in the same form."
    )
    parser.add_argument("--members", type=int, default=3, help="How many to train. The default is 3.")
    parser.add_argument("--out", required=True, help="The folder that gets one for each member and the ensemble's.")
    parser.add_argument("--overwrite", action="store_true", help="Replace members that are there from another run.")
    return parser


def parse_stage(stage: str, argv: list[str]) -> tuple[Any, ...]:
    """The stage's function and its three groups of arguments."""
    from urm_hf.trainers.runs import train_attributes, train_gating, train_reward

    function = {"reward": train_reward, "attributes": train_attributes, "gating": train_gating}[stage]
    return function, *parser_of(stage).parse_args_and_config(args=argv)


def parser_of(stage: str) -> Any:
    """The parser of a stage, "reward", "attributes" or "gating"."""
    # TRL takes seconds to import, which `urm train --help` should not
    from urm_hf.cli.training_parser import TrainingParser
    from urm_hf.trainers import URMAttributeConfig, URMGatingConfig, URMRewardConfig

    configs = {"reward": URMRewardConfig, "attributes": URMAttributeConfig, "gating": URMGatingConfig}
    return TrainingParser(stage, configs[stage])

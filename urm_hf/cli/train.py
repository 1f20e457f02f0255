"""`urm train attributes`, `urm train gating`, `urm train ensemble`: the flags are those of TRL's configs."""

import argparse

USAGE = """usage: urm train {attributes,gating,ensemble} [--config FILE.yaml] [options]

  attributes  value head (and backbone) on rated conversations
  gating      gate on preference pairs, all else frozen
  ensemble    both stages for each of several members, from the two stages' config files

`urm train attributes --help` lists all options. Those of a --config file are overridden by flags."""


def main(argv: list[str]) -> int:
    stages = {"attributes": _stage, "gating": _stage, "ensemble": _ensemble}
    if not argv or argv[0] not in stages:
        print(USAGE)
        return 0 if not argv or argv[0] in ("-h", "--help") else 2
    print(f"Saved to {stages[argv[0]](argv[0], argv[1:])}")
    return 0


def _stage(stage: str, argv: list[str]):
    function, *parsed = parse_stage(stage, argv)
    return function(*parsed)


def _ensemble(stage: str, argv: list[str]):
    parser = argparse.ArgumentParser(prog="urm train ensemble", description="Train the members of an ensemble.")
    parser.add_argument("--attributes", required=True, help="YAML file with the options of `urm train attributes`")
    parser.add_argument("--gating", help="YAML file with the options of `urm train gating`")
    parser.add_argument("--members", type=int, default=3, help="how many (default 3)")
    parser.add_argument("--output_dir", required=True, help="gets a folder for each member, and one for the ensemble")
    args = parser.parse_args(argv)
    from urm_hf.trainers.runs import train_members

    # the output folders are made from --output_dir; the stages' configs need one all the same
    placeholder = ["--output_dir", args.output_dir]
    stages = [parse_stage("attributes", ["--config", args.attributes, *placeholder])]
    if args.gating:
        stages.append(parse_stage("gating", ["--config", args.gating, *placeholder]))
    return train_members(stages, args.members, args.output_dir)


def parse_stage(stage: str, argv: list[str]) -> tuple:
    """The stage's function and its three groups of arguments."""
    from trl import ModelConfig, TrlParser

    from urm_hf.trainers import URMAttributeConfig, URMGatingConfig
    from urm_hf.trainers.runs import DataArguments, train_attributes, train_gating

    function, config = {
        "attributes": (train_attributes, URMAttributeConfig),
        "gating": (train_gating, URMGatingConfig),
    }[stage]
    parser = TrlParser((DataArguments, config, ModelConfig), prog=f"urm train {stage}")
    return function, *parser.parse_args_and_config(args=argv)

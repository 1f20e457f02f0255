"""
`urm serve`: rewards with uncertainty over HTTP, for your programs and for OpenRLHF, slime, verl, NeMo Gym and TRL.
"""

import argparse
import math
import os
import shlex
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from urm_hf.cli.model_arguments import (
    add_model_arguments,
    check_positive,
    read_ensemble,
    read_limits,
    read_model_kwargs,
    short_names,
    split_members,
)
from urm_hf.cli.parser import Parser
from urm_hf.cli.printable import printable

if TYPE_CHECKING:
    from fastapi import FastAPI

    from urm_hf.modeling.members_urm import MemberSource
    from urm_hf.scoring.scorer import RewardScorer
    from urm_hf.serving.settings import Settings

EPILOG = """
The token that clients have to show is read from URM_SERVE_TOKEN or from --token-file, and from nowhere else: arguments
are seen by everybody on the machine. docs/serving.md shows what each framework has to be told.
"""


def build_parser() -> Parser:
    parser = Parser(prog="urm serve", description=__doc__, epilog=EPILOG)
    parser.add_argument("model", metavar="MODEL", help="A repository or folder. A,B,C are the members of an ensemble.")
    parser.add_argument("--host", default="127.0.0.1", help="Where to listen. The default is 127.0.0.1: this machine.")
    parser.add_argument("--port", type=int, default=8770, help="The port, 0 for a free one. The default is 8770.")
    access = parser.add_argument_group("access")
    access.add_argument("--token-file", type=Path, help="The file with the token that clients have to show.")
    access.add_argument(
        "--no-auth", action="store_true", help="Answer other machines without a token: everybody there may ask."
    )

    add_model_arguments(parser)
    parser.add_argument(
        "--engine",
        default="local",
        choices=["local", "vllm"],
        help="What runs the model: this package (local, the default), or vLLM, which is printed and started. It takes "
        "a URM, heads on one backbone, or LoRA adapters of one base.",
    )
    parser.add_argument(
        "--vllm-arguments",
        metavar="TEXT",
        default="",
        help='Further arguments of vLLM\'s own server: --vllm-arguments="--tensor-parallel-size 2".',
    )

    parser.add_argument(
        "--replicas",
        type=int,
        default=1,
        help="Copies of the model behind one port, by Ray Serve, each on a GPU of its own where there are any. The "
        "default is 1, without Ray.",
    )
    limits = parser.add_argument_group("limits")
    limits.add_argument(
        "--max-body-mb", type=int, default=32, help="The largest request in megabytes. The default is 32."
    )
    limits.add_argument(
        "--max-rows", type=int, default=4096, help="The most conversations of one request. The default is 4096."
    )
    limits.add_argument(
        "--max-queued-tokens",
        type=int,
        default=4_000_000,
        help="Tokens that may wait at once; further requests are told to come again. The default is 4000000.",
    )
    limits.add_argument(
        "--prefix-memory-mb",
        type=int,
        help="Memory for keys and values of prompts that were scored before. The default is 512, on a GPU 0.",
    )

    rewards = parser.add_argument_group("rewards of frameworks")
    rewards.add_argument(
        "--unscorable",
        default="error",
        metavar="VALUE|error",
        help="The reward of what cannot be scored (empty, too long): a number, or an error (the default).",
    )
    rewards.add_argument("--measure", help="The uncertainty that rewards pay for, such as reward_gap.")
    rewards.add_argument(
        "--coefficient", type=float, help="What one unit of the measure costs, with --measure. The default is 1."
    )
    return parser


def check_prefix_memory(megabytes: int):
    """Refuses less than none, and more than the machine has, which torch would tell at the first request."""
    import psutil

    if megabytes < 0:
        raise ValueError(f"--prefix-memory-mb must not be negative, got {megabytes}.")
    most = psutil.virtual_memory().total // 2**20
    if megabytes >= most:
        raise ValueError(f"--prefix-memory-mb {megabytes} is more than this machine has, {most} MB: ask for less.")


def main(argv: list[str]) -> int:
    args = build_parser().parse_args(argv)
    limits = ("max_body_mb", "max_rows", "max_queued_tokens", "max_tokens_per_batch", "max_length")
    check_positive(args, "replicas", *limits)
    if args.prefix_memory_mb is not None:
        check_prefix_memory(args.prefix_memory_mb)
    unscorable = read_unscorable(args.unscorable)
    if args.coefficient is None:
        args.coefficient = 1.0
    elif args.measure is None:
        raise ValueError(f"--coefficient {args.coefficient:g} is what a --measure costs: name one, or leave it out.")
    if not 0 <= args.coefficient < math.inf:
        raise ValueError(f"--coefficient must be finite and not negative, got {args.coefficient}.")
    # all that can be told without a model is told before one is loaded
    from urm_hf.serving.access import check_host, read_token
    from urm_hf.serving.server import open_socket, serve
    from urm_hf.uncertainty.measures import MEASURES

    if args.measure is not None and args.measure not in MEASURES:
        raise ValueError(f"--measure must be one of {', '.join(MEASURES)}, got {args.measure!r}.")
    token = read_token(args.token_file)
    if args.no_auth and token is not None:
        raise ValueError("--no-auth and a token contradict each other: leave out --no-auth, or unset the token.")
    check_host(args.host, token, args.no_auth)
    if args.vllm_arguments and args.engine != "vllm":
        raise ValueError("--vllm-arguments needs --engine vllm.")
    if args.replicas > 1 and args.engine == "vllm":
        raise ValueError("--replicas is not for --engine vllm: say --vllm-arguments=--data-parallel-size=N.")
    if args.engine == "vllm":
        with open_socket(args.host, args.port) as opened:  # free now, or told now
            args.port = opened.getsockname()[1]
        return run_vllm(args, unscorable)
    if args.replicas > 1:
        return run_copies(args, read_settings(args, token, unscorable))
    opened = open_socket(args.host, args.port)
    with opened:
        from urm_hf.serving.app import create_app

        scorer = load_scorer(args)
        warn_of_untrained_gates(args)
        settings = read_settings(args, token, unscorable)
        app = create_app(scorer, settings, args.model if os.path.isdir(args.model) else None)
        host, port = opened.getsockname()[:2]
        place = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        trouble = app.state.readiness.trouble_of_model
        if trouble is not None:
            print(printable(f"urm serve: warning: {trouble}"), file=sys.stderr)
        told = f"urm serve: {settings.name} at {place}, {'with' if token else 'without'} a token; Ctrl+C stops it."
        serve(app, opened, lambda: print(printable(told), file=sys.stderr, flush=True))
    return 0


def read_settings(args: argparse.Namespace, token: str | None, unscorable: float | None) -> "Settings":
    """What the server was told."""
    from urm_hf.scoring.jobs.models import digest_heads
    from urm_hf.serving.settings import MEGABYTE, Settings

    return Settings(
        name=short_names([args.model])[0],
        token=token,
        max_body=args.max_body_mb * MEGABYTE,
        max_rows=args.max_rows,
        max_queued_tokens=args.max_queued_tokens,
        unscorable=unscorable,
        measure=args.measure,
        coefficient=args.coefficient,
        heads=digest_heads(read_served_sources(args)),
    )


def read_served_sources(args: argparse.Namespace) -> "list[MemberSource]":
    """Where the model, or its members, come from."""
    from urm_hf.scoring.jobs.models import read_ensemble_config, read_sources

    models, revisions = split_members([args.model], args.revision)
    loading = read_model_kwargs(args)
    ensemble = read_ensemble_config(models, revisions, loading, read_ensemble(args))
    return read_sources(models, revisions, loading, ensemble)


def warn_of_untrained_gates(args: argparse.Namespace):
    """Says so where rewards are those of a gate as it was drawn."""
    from urm_hf.checkpoints.trained_gate import UNTRAINED_GATE
    from urm_hf.scoring.jobs.models import count_untrained_gates

    if count_untrained_gates(read_served_sources(args)):
        print(printable(f"urm serve: warning: {UNTRAINED_GATE}."), file=sys.stderr)


def run_copies(args: argparse.Namespace, settings: "Settings") -> int:
    """Serves several copies of the model until it is told to stop."""
    from functools import partial

    from urm_hf.scoring.jobs.processes import default_device
    from urm_hf.serving.replicas import run_replicas
    from urm_hf.serving.server import open_socket

    warn_of_untrained_gates(args)
    with open_socket(args.host, args.port) as opened:  # free now, or told now
        port = opened.getsockname()[1]
    device = args.device or default_device()
    told = f"urm serve: {settings.name} at http://{args.host}:{port}, {args.replicas} replicas; Ctrl+C stops them."
    run_replicas(
        partial(build_copy, args, settings),
        args.replicas,
        args.host,
        port,
        1 if device and device != "cpu" else 0,
        lambda: print(printable(told), file=sys.stderr, flush=True),
    )
    return 0


def build_copy(args: argparse.Namespace, settings: "Settings") -> "FastAPI":
    """The application of one replica."""
    from urm_hf.serving.app import create_app

    return create_app(load_scorer(args), settings, args.model if os.path.isdir(args.model) else None)


def run_vllm(args: argparse.Namespace, unscorable: float | None) -> int:
    """Prints the command by which vLLM serves the model with the plugin, and runs it until it ends."""
    for name in ("compile", "trust_remote_code", "max_tokens_per_batch", "device"):
        if getattr(args, name):
            raise ValueError(f"--{name.replace('_', '-')} is not for --engine vllm: leave it out.")
    if args.truncation != "error" or args.strategy not in (None, "shared"):
        raise ValueError("--engine vllm cuts nothing and shares one backbone: leave out --truncation and --strategy.")
    from urm_hf.serving.vllm import command as vllm_command
    from urm_hf.serving.vllm.served import read_served_model

    vllm_command.find_version()
    members, revisions = split_members([args.model], args.revision)
    with TemporaryDirectory(prefix="urm-vllm-") as folder:
        if len(members) > 1:
            model = vllm_command.write_ensemble(members, revisions, folder, args.aggregation)
            served = read_served_model(model)
        elif args.aggregation is not None:
            raise ValueError("--aggregation with --engine vllm is for members, A,B,C; a folder has its own.")
        else:
            served = read_served_model(members[0], revisions[0] if revisions else None)
        settings = read_settings(args, None, unscorable)
        command = vllm_command.build_command(served, args.host, args.port, settings.name, args.dtype, args.max_length)
        added = vllm_command.build_environment(settings, args.no_auth, args.token_file)
        shown = " ".join([f"{name}={shlex.quote(value)}" for name, value in added.items()] + [shlex.join(command)])
        print(printable(f"urm serve: {shown}"), file=sys.stderr, flush=True)
        return vllm_command.run(command, added)


def read_unscorable(value: str) -> float | None:
    """
    The reward that was agreed on for what cannot be scored; None of "error".

    Raises:
        ValueError: it is neither "error" nor a finite number.
    """
    if value == "error":
        return None
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f'--unscorable must be a finite number or "error", got {value!r}.')
    return number


def load_scorer(args: argparse.Namespace) -> "RewardScorer":
    """The model of the command, on a GPU if there is one."""
    from urm_hf.modeling import URMEnsemble
    from urm_hf.scoring.jobs.processes import default_device
    from urm_hf.scoring.scorer import RewardScorer
    from urm_hf.serving.settings import MEGABYTE

    members, revisions = split_members([args.model], args.revision)
    device = args.device or default_device()
    loading = read_model_kwargs(args) | ({"device_map": {"": device}} if device else {})
    ensemble, limits = read_ensemble(args), read_limits(args)
    memory = getattr(args, "prefix_memory_mb", None)  # `urm app` has no such flag
    if memory is None:  # on GPUs, where spans cost a kernel each, it was not measured
        memory = 0 if device and device != "cpu" else 512
    limits["prefix_memory"] = memory * MEGABYTE
    if len(members) > 1:
        return RewardScorer(URMEnsemble.from_pretrained(members, revisions=revisions, **loading, **ensemble), **limits)
    revision = revisions[0] if revisions else None
    return RewardScorer(members[0], revision=revision, **loading, **ensemble, **limits)

"""
The command line `urm`: a table of contents. Each command is a module of this package with a `main(argv)`.

Nothing heavy is imported until a command is chosen.
"""

import importlib
import os
import sys
from contextlib import redirect_stdout
from typing import Any

from urm_hf.cli.printable import PrintableStream, printable
from urm_hf.cli.progress_bars import hide_bars_in_logs

COMMANDS = {
    "data": ("urm_hf.cli.data", "Show what is in a file of rows: format, lengths, ratings, what looks wrong."),
    "demo": ("urm_hf.cli.demo", "Train an ensemble of three on built-in conversations and show what it knows."),
    "train": ("urm_hf.cli.train", "Train the attribute stage, the gating stage or an ensemble."),
    "score": ("urm_hf.cli.score", "Score the conversations of a file or dataset with a model or an ensemble."),
    "filter": ("urm_hf.cli.filter", "Keep what the model is sure of, of a file that was scored: rows or pairs."),
    "ood": ("urm_hf.cli.ood", "See whether uncertainty tells unfamiliar conversations from familiar ones."),
    "evaluate": ("urm_hf.cli.evaluate", "Measure how good reward models are, and how honest their uncertainty is."),
    "bestofn": ("urm_hf.cli.bestofn", "Choose the best of each prompt's candidates, and see how good that is."),
    "judge": ("urm_hf.cli.judge", "Ask an LLM which of two answers is better, both ways round."),
    "serve": ("urm_hf.cli.serve", "Answer HTTP requests for rewards, from programs and frameworks that train."),
    "app": ("urm_hf.cli.app", "Open a page in your browser to try a model on answers that you write or upload."),
    "posterior": (
        "urm_hf.cli.posterior",
        "Teach a trained model what it does not know, from the rows of its training.",
    ),
    "cache": ("urm_hf.cli.cache", "See and remove the hidden states that are kept between runs."),
    "calibrate": ("urm_hf.cli.calibrate", "Make a model's intervals hold as many human ratings as they say."),
    "merge": ("urm_hf.cli.merge", "Average the weights of two or more models into one."),
    "convert": ("urm_hf.cli.convert", "Rewrite a URM of the published layout as one of this package, or back."),
    "push": ("urm_hf.cli.push", "Publish a model or an ensemble on the Hub with its code, card and scores."),
    "verify": ("urm_hf.cli.verify", "Check a model: files, code, tensors, and the scores that it was pushed with."),
}


# what brings the modules that are optional
EXTRAS = {
    "peft": "urm-hf[peft]",
    "matplotlib": "urm-hf[report]",
    "ray": "urm-hf[ray]",
    "gradio": "urm-hf[app]",
    **dict.fromkeys(("fastapi", "uvicorn", "prometheus_client"), "urm-hf[serve]"),
}


def describe_missing_module(error: ImportError) -> str | None:
    """One line on an optional module that is not installed; None for all other faults of importing, which are ours."""
    cause: BaseException | None = error
    while isinstance(cause, ImportError) and not isinstance(cause, ModuleNotFoundError):
        cause = cause.__cause__
    if not isinstance(cause, ModuleNotFoundError) or cause.name not in EXTRAS:
        return None
    if cause is not error:  # whoever caught it says more
        return str(error)
    return f"{cause.name} is not installed: `pip install '{EXTRAS[cause.name]}'`."


def usage() -> str:
    """What `urm --help` prints."""
    width = max(map(len, COMMANDS))
    lines = ["usage: urm COMMAND [options]", "", "Uncertainty-aware reward models.", "", "commands:"]
    lines += [f"  {name:<{width}}  {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join([*lines, "", "`urm COMMAND --help` explains a command. `urm --version` prints the version."])


def main(argv: list[str] | None = None) -> int:
    """Runs a command. What a user did wrong is printed in one line (URM_DEBUG=1: with its traceback); returns 2."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help"):
        print(usage())
        return 0
    if argv[0] == "--version":
        from urm_hf import __version__

        print(f"urm-hf {__version__}")
        return 0
    if argv[0] not in COMMANDS:
        from urm_hf.cli.parser import suggest

        known = f"The commands are {', '.join(COMMANDS)}; `urm --help` explains them."
        print(f"urm: unknown command {argv[0]!r}{suggest(argv[0], COMMANDS)}\n{known}", file=sys.stderr)
        return 2
    module, _ = COMMANDS[argv[0]]
    # training prints the colors of other libraries' tables, the others what they read
    stdout: Any = sys.stdout if argv[0] == "train" else PrintableStream(sys.stdout)
    try:
        with redirect_stdout(stdout), hide_bars_in_logs():
            return importlib.import_module(module).main(argv[1:]) or 0
    except (ValueError, OSError) as error:
        if os.environ.get("URM_DEBUG"):
            raise
        from urm_hf.cli.flags_in_errors import spell_for_command
        from urm_hf.hub.errors import one_line

        line = spell_for_command(one_line(error), argv[0], argv[1:], importlib.import_module(module))
        print(f"urm {argv[0]}: error: {printable(line)}", file=sys.stderr)
        return 2
    except ImportError as error:
        told = describe_missing_module(error)
        if told is None or os.environ.get("URM_DEBUG"):
            raise
        print(f"urm {argv[0]}: error: {printable(told)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"urm {argv[0]}: interrupted.", file=sys.stderr)
        return 130

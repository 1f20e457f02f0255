"""
Errors of the library name arguments of Python, `on_error="skip"`; on the command line these are flags,
`--on-error skip`.
"""

import re
from collections.abc import Collection, Sequence
from typing import Any

from urm_hf.cli.parser import list_flags

ARGUMENT = re.compile(r"""`(\w+)=(True|False|None|"[^"`]*"|'[^'`]*'|\{[^`]*\}|-?[\d.]+)`""")
TWICE = re.compile(r"`(--[^`]+)`(?:, `\1`| \(`?\1`?\))")


def spell_for_command(message: str, command: str, argv: Sequence[str], module: Any) -> str:
    """
    The message with arguments as this command takes them; what is no flag of it stays.

    Args:
        message (`str`): of an error. command (`str`): such as "score". argv (`list[str]`): what follows it.
        module (`module`): of the command.
    """
    if ARGUMENT.search(message) is None:
        return message
    if command == "train":
        return _spell_for_training(message, argv[0] if argv else "")
    flags = list_flags(module.build_parser()) if hasattr(module, "build_parser") else []
    return spell_as_flags(message, flags)


def spell_as_flags(message: str, flags: Collection[str]) -> str:
    """
    Args:
        message (`str`): with arguments as `name=value`, between backticks.
        flags (`list[str]`): of the command, of words with hyphens or underscores.
    """

    def spell(found: re.Match[str]) -> str:
        value = found[2].strip("\"'")
        if value.startswith("{"):  # JSON, as a shell takes it
            value = "'" + value.replace("'", '"') + "'"
        for flag in (f"--{found[1]}", f"--{found[1].replace('_', '-')}"):
            if flag in flags and value != "None":
                underscored = "_" in flag  # of training, where switches take a value
                if value == "True":
                    return f"`{flag}`"
                if value != "False" or underscored:
                    return f"`{flag} {value.lower() if value == 'False' else value}`"
        return found[0]

    return TWICE.sub(r"`\1`", ARGUMENT.sub(spell, message))


def _spell_for_training(message: str, stage: str) -> str:
    """Options of training are flags of their stage; those of an ensemble stand in the stages' config files."""
    from urm_hf.cli.train import parser_of

    if stage != "ensemble":
        return spell_as_flags(message, list_flags(parser_of(stage)))

    def write(found: re.Match[str]) -> str:
        value = found[2].strip("\"'")
        return f"`{found[1]}: {value.lower() if value in ('True', 'False') else value}`"

    return ARGUMENT.sub(write, message)

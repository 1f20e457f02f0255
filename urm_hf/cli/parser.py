"""
The parser that all commands share: a flag under each of its usual spellings, and errors of two lines.

`--max-length` and `--max_length` are one flag; so are `--data` and `--dataset_name`. Help lists one spelling, that of
the command's documentation.
"""

import argparse
import difflib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn

# what transformers and TRL call a flag of ours
THEIR_NAMES = {
    "--dataset-name": "--data",
    "--dataset-config": "--data-config",
    "--dataset-revision": "--data-revision",
    "--output-dir": "--out",
    "--model-revision": "--revision",
    "--torch-dtype": "--dtype",
}


class Parser(argparse.ArgumentParser):
    """
    An `ArgumentParser` for flags of words with hyphens, which takes their other spellings too.

    Args:
        aliases (`dict[str, str]`, *optional*): further names of this command's flags, which help does not list.
        kwargs: as of `argparse.ArgumentParser`.
    """

    def __init__(self, *, aliases: Mapping[str, str] | None = None, **kwargs: Any):
        self.aliases, self.given = THEIR_NAMES | dict(aliases or {}), list[str]()
        with_help = kwargs.pop("add_help", True)  # argparse's own help is no sentence
        super().__init__(add_help=False, **kwargs)
        if with_help:
            self.add_argument("-h", "--help", action="help", help="Show this help and exit.")

    def spell(self, flag: str) -> str:
        """The documented spelling of a flag."""
        hyphens = "--" + flag[2:].replace("_", "-")
        return self.aliases.get(hyphens, hyphens)

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        self.given = spell_flags(sys.argv[1:] if args is None else args, self.spell)
        return super().parse_known_args(self.given, namespace)

    def error(self, message: str) -> NoReturn:
        """Two lines: a whole usage would push what is wrong out of sight."""
        places = [str(action.metavar or action.dest.upper()) for action in self._get_positional_actions()]
        usage = f"usage: {' '.join([self.prog, *places])} [options]; `{self.prog} --help` lists them"
        # a word that is none of the choices comes first: with another one other flags may be known
        unknown = None if "invalid choice" in message else describe_unknown(self.given, list_flags(self))
        self.exit(2, f"{usage}\n{self.prog}: error: {unknown or message}\n")


def spell_flags(argv: Iterable[str], spell: Callable[[str], str]) -> list[str]:
    """
    The arguments with all flags in their documented spelling; what follows `--` is left as it is.

    Args:
        argv (`Iterable[str]`): as they were typed.
        spell (`Callable`): the documented spelling of a flag.
    """
    spelled: list[str] = []
    for word in argv:
        if word.startswith("--") and word != "--" and "--" not in spelled:
            flag, equals, value = word.partition("=")
            word = spell(flag) + equals + value
        spelled.append(word)
    return spelled


def list_flags(parser: argparse.ArgumentParser) -> list[str]:
    """The flags of a parser and of its subcommands."""
    flags = list(parser._option_string_actions)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for subparser in action.choices.values():
                flags += list_flags(subparser)
    return flags


def describe_unknown(given: Iterable[str], flags: Sequence[str]) -> str | None:
    """A sentence on the first flag that nobody knows, with what may have been meant; None if all are known."""
    for word in given:
        if word == "--":
            return None
        flag = word.partition("=")[0]
        # argparse would take a beginning of a flag for the flag: a slip of the finger would set another number
        if flag.startswith("--") and flag not in flags:
            return f"there is no {flag}{suggest(flag, flags)}"
    return None


def suggest(word: str, known: Iterable[str]) -> str:
    """The end of a sentence that says what is unknown: `; did you mean ...?`, or a full stop."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else "."

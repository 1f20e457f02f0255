"""The parser of one training stage: TRL's, with our spellings, our groups of help, and errors of two lines."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml
from trl import ModelConfig, RewardConfig, TrlParser

from urm_hf.cli.parser import describe_unknown, list_flags, spell_flags, suggest
from urm_hf.trainers.packing import PackingConfig
from urm_hf.trainers.runs import DataArguments

# what the other commands call a flag, and what the configs of TRL and transformers call it
OUR_NAMES = {
    "--data": "--dataset_name",
    "--data_config": "--dataset_config",
    "--data_revision": "--dataset_revision",
    "--split": "--train_split",
    "--out": "--output_dir",
    "--model": "--model_name_or_path",
    "--revision": "--model_revision",
    "--torch_dtype": "--dtype",
}


class Formatter(argparse.ArgumentDefaultsHelpFormatter):
    """Tells the defaults, as TRL does, and one spelling of a flag: transformers' parser adds that with hyphens."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        # what has no default, or one that depends on others, says so in its own words
        return action.help if action.default is None else super()._get_help_string(action)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        flags = action.option_strings
        long = [flag for flag in flags if flag.startswith("--")]
        shown = [flag for flag in flags if flag not in long] + long[:1]
        if action.nargs == 0:
            return ", ".join(shown)
        return f"{', '.join(shown)} {self._format_args(action, self._get_default_metavar_for_optional(action))}"


class TrainingParser(TrlParser):
    """
    Args:
        stage (`str`): "attributes" or "gating".
        config (`type`): the dataclass of the stage's settings.
    """

    def __init__(self, stage: str, config: type):
        self.config, self.given = config, list[str]()
        super().__init__((DataArguments, config, ModelConfig), prog=f"urm train {stage}", formatter_class=Formatter)
        # in a log bars are unfinished lines, and what is logged would stand among them
        self.set_defaults(disable_tqdm=not sys.stderr.isatty())

    def spell(self, flag: str) -> str:
        """The documented spelling of a flag."""
        underscores = "--" + flag[2:].replace("-", "_")
        return OUR_NAMES.get(underscores, underscores)

    def parse_args_and_config(self, args: Sequence[str] | None = None, **kwargs: Any) -> tuple[Any, ...]:
        return super().parse_args_and_config(args=_split_config(args or []), **kwargs)

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:
        self.given = spell_flags(args or [], self.spell)
        unknown = describe_unknown(self.given, list_flags(self))
        if unknown is not None:
            self.error(unknown)
        return super().parse_known_args(self.given, namespace)

    def set_defaults_with_config(self, **config: Any) -> list[str]:
        """The options of a config file, each under any of its spellings; one that nobody knows is an error."""
        spelled = {self.spell(f"--{name}").removeprefix("--"): value for name, value in config.items()}
        known = [flag.removeprefix("--") for flag in list_flags(self)]
        for name in spelled:
            if name not in known:
                raise ValueError(f"the config file has an option {name!r} that does not exist{suggest(name, known)}")
        return super().set_defaults_with_config(**spelled)

    def error(self, message: str) -> NoReturn:
        usage = f"usage: {self.prog} [--config FILE.yaml] [options]; `{self.prog} --help` lists them"
        print(f"{usage}\n{self.prog}: error: {message}", file=sys.stderr)
        raise SystemExit(2)

    def format_help(self) -> str:
        """The flags in groups, ours first: the configs' own order mixes them with two hundred of transformers'."""
        ours: set[str] = set()
        for config in self.config.__mro__:
            if issubclass(config, PackingConfig):
                ours |= set(config.__annotations__)
        groups: dict[str, set[str] | None] = {
            "data": set(DataArguments.__annotations__),
            "this stage": ours | {"output_dir", "seed"},
            "model and adapter (TRL's ModelConfig)": set(ModelConfig.__annotations__),
            "reward training (TRL's RewardConfig)": set(RewardConfig.__annotations__),
            "training (transformers' TrainingArguments)": None,  # the rest
        }
        formatter = self._get_formatter()
        formatter.add_text(f"usage: {self.prog} [--config FILE.yaml] [options]")
        formatter.add_text("Options may stand in the --config file, one a line: `learning_rate: 1.0e-3`.")
        waiting = list(self._actions)
        for title, names in groups.items():
            chosen = [action for action in waiting if names is None or action.dest in names]
            waiting = [action for action in waiting if action not in chosen]
            formatter.start_section(title)
            formatter.add_arguments(chosen)
            formatter.end_section()
        return formatter.format_help()


def _split_config(argv: Sequence[str]) -> list[str]:
    """`--config=FILE` as two words, which TRL looks for; a file that is missing or no YAML is told at once."""
    words: list[str] = []
    for word in argv:
        words += word.split("=", 1) if word.startswith("--config=") else [word]
    if "--config" in words:
        place = words.index("--config") + 1
        if place == len(words) or words[place].startswith("--"):
            raise ValueError("--config needs a file with options, one a line: `learning_rate: 1.0e-3`.")
        _check_yaml(Path(words[place]))
    return words


def _check_yaml(path: Path):
    if not path.is_file():
        raise ValueError(f"--config {path} does not exist, or is no file.")
    try:
        yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"--config {path} is no YAML: {' '.join(str(error).split())}") from error

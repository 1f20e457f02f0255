"""What a survey found, for people to read in a terminal and, as JSON, for programs."""

from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text
from transformers import PreTrainedTokenizerBase

from urm_hf.data.conversations import Conversation
from urm_hf.data.formats.reading import BY_NAME
from urm_hf.data.survey.columns import OTHER_ROLES
from urm_hf.data.survey.numbers import NumberColumn
from urm_hf.data.survey.survey import Problem, Survey

WIDTH = 110  # where there is no terminal
MOST_CHARACTERS = 1000  # of a conversation that is shown
GAP = 3  # characters between columns of a table
SPARE_NUMBERS = ("spread", "a row", "ratings", "ICC(1)", "std", "rows")  # what narrow terminals go without
LEAST_EXAMPLE, MOST_EXAMPLE = 12, 60  # characters of an example in the table of columns
MOST_LISTED = 12  # problems, reasons, splits
BARS = "▁▂▃▄▅▆▇█"
KINDS = {
    "conversation": "conversations",
    "pair": "pairs of a better and a worse answer",
    "answers": "prompts with several right and wrong answers",
    "candidates": "prompts with candidate answers",
    "prompt": "prompts without answers",
}
FORMS = {
    "chat": "a chat, written by the model's chat template",
    "text": "plain text, without a chat template: strings in `chosen`, `rejected` or `completion` beside a string "
    'prompt continue it, as in TRL; prompts in messages, [{"role": "user", "content": "..."}], make it a chat',
    "exact": "exactly the text or the token ids that stand there",
}
QUANTILES = {"median": 0.5, "90 %": 0.9, "99 %": 0.99, "longest": 1.0}


def print_survey(
    found: Survey, name: str, tokenizer: PreTrainedTokenizerBase | None = None, file: TextIO | None = None
):
    """
    Args:
        name (`str`): of the data, for the heading.
        tokenizer (`PreTrainedTokenizerBase`, *optional*): writes the conversations that are shown.
    """
    console = Console(file=file, highlight=False, soft_wrap=False)
    if not console.is_terminal:
        console = Console(file=file, highlight=False, width=WIDTH)
    console.print(Text(_heading(found, name), style="bold"))
    for format_name, count in found.formats.most_common(MOST_LISTED):
        console.print(Text(f"  {format_name} ({BY_NAME[format_name].source}): {_plural(count, 'row')}"))
    _print_columns(console, found)
    _print_conversations(console, found, tokenizer)
    _print_lines(console, "Read as", describe_forms(found.forms))
    _print_lengths(console, found)
    _print_numbers(console, found)
    _print_lines(console, "Prompts, pairs and splits", describe_repeats(found))
    _print_lines(console, "Looks wrong", describe_warnings(found))
    _print_lines(console, "Cannot be scored as it is", describe_problems(found.problems))
    _print_lines(console, "What you can do with it", suggest_commands(found, name))


def to_json(found: Survey, name: str) -> dict[str, Any]:
    """The same as an object for `json.dumps`."""
    return {
        "data": name,
        "rows": found.rows,
        "formats": dict(found.formats),
        "kinds": dict(found.kinds),
        "columns": {
            column: {"read_as": one.role, "filled": one.filled, "types": dict(one.types)}
            for column, one in found.columns.items()
        },
        "conversations": found.conversations,
        "read_as": dict(found.forms),
        "lengths": {label: found.quantile(share) for label, share in QUANTILES.items()} if found.lengths else {},
        "limit": found.limit,
        "over_limit": found.over_limit,
        "numbers": {attribute: _number_entry(column) for attribute, column in found.numbers.items() if column.rows},
        "prompts": found.prompts,
        "repeated_prompts": found.repeated_prompts,
        "repeated_conversations": found.repeated_conversations,
        "splits": dict(found.splits),
        "prompts_in_two_splits": found.shared_prompts,
        "undecided": dict(found.undecided),
        "warnings": {told: {"rows": one.count, "first": one.rows} for told, one in found.warnings.items()},
        "unread_numbers": dict(found.unread_numbers),
        "problems": {told: {"rows": one.count, "first": one.rows} for told, one in found.problems.items()},
    }


def describe_forms(forms: Mapping[str, int]) -> list[str]:
    """What conversations are to a model, one line for each form: the same words get other rewards in another one."""
    return [f"{_plural(forms[form], 'conversation')}: {told}" for form, told in FORMS.items() if forms.get(form)]


def describe_repeats(found: Survey) -> list[str]:
    """What repeats, and how pairs and splits are made."""
    lines = []
    if found.prompts:
        lines.append(
            f"{_plural(found.prompts, 'distinct prompt')}; {_plural(found.repeated_prompts, 'row')} repeat one"
        )
    if found.repeated_conversations:
        lines.append(f"{_plural(found.repeated_conversations, 'conversation')} occurred before, word for word")
    undecided = sum(found.undecided.values())
    if undecided:
        lines.append(f"left out where pairs are wanted, as no answer is preferred: {_plural(undecided, 'row')}")
        lines += [f"  {count}: {why}" for why, count in found.undecided.most_common(MOST_LISTED)]
    if found.compared:
        share = found.longer_chosen / found.compared
        lines.append(f"the better answer is the longer one in {share:.0%} of {_plural(found.compared, 'pair')}")
    if found.splits:
        listed = ", ".join(f"{split} {count:,}" for split, count in found.splits.most_common(MOST_LISTED))
        lines.append(f"splits: {listed}")
    if found.shared_prompts:
        lines.append(f"in more than one split: {_plural(found.shared_prompts, 'prompt')}")
    return lines


def describe_warnings(found: Survey) -> list[str]:
    lines = [*describe_problems(found.warnings), *found.unread_numbers.values()]
    for attribute, column in found.numbers.items():
        lines += [f"{attribute}: {told}" for told in column.suspicions()]
    if found.over_limit:
        share = found.over_limit / found.conversations
        lines.append(
            f"{_plural(found.over_limit, 'conversation')} ({share:.1%}) are longer than {found.limit} tokens: they "
            "are errors unless you say how to cut or drop them (`truncation`)"
        )
    return lines


def describe_problems(problems: dict[str, Problem]) -> list[str]:
    """One line for each fault, the most frequent first."""
    ordered = sorted(problems.items(), key=lambda item: -item[1].count)
    lines = []
    for told, one in ordered[:MOST_LISTED]:
        more = ", ..." if one.count > len(one.rows) else ""
        rows = "row" if one.count == 1 else "rows"
        lines.append(f"{_plural(one.count, 'row')}: {told} ({rows} {', '.join(map(str, one.rows))}{more})")
    if len(ordered) > MOST_LISTED:
        rest = sum(one.count for _, one in ordered[MOST_LISTED:])
        lines.append(f"{_plural(rest, 'row')} with {len(ordered) - MOST_LISTED} other faults")
    return lines


def suggest_commands(found: Survey, name: str) -> list[str]:
    """Commands that take rows of this kind."""
    kinds = set(found.kinds)
    if not kinds or kinds == {"prompt"}:
        return []
    lines = [f"urm score MODEL --data {name} --out scores.jsonl"]
    if "conversation" in kinds and found.numbers:
        given = [attribute for attribute, column in found.numbers.items() if column.rows]
        attributes = [attribute for attribute in given if attribute not in OTHER_ROLES]  # a weight is no rating
        if attributes:
            lines.append(f"urm train attributes --dataset_name {name} --attributes {' '.join(attributes)} ...")
    if "pair" in kinds:
        lines.append(f"urm train gating --dataset_name {name} ...")
    if kinds & {"pair", "answers"}:
        lines.append(f"urm evaluate MODEL --data {name} --out evaluation")
    if "candidates" in kinds:
        lines.append(f"urm bestofn MODEL --data {name} --out bestofn")
    return lines


def render_conversation(conversation: Conversation, tokenizer: PreTrainedTokenizerBase | None) -> str:
    """What a model reads, with a tokenizer; without one the turns, each after its role."""
    if tokenizer is not None:
        return str(tokenizer.decode(conversation.encode(tokenizer)))
    if conversation.ids is not None:
        return f"token ids {list(conversation.ids)}"
    if conversation.text is not None:
        return conversation.text
    return "\n".join(_render_turn(turn) for turn in conversation.turns or ())


def _heading(found: Survey, name: str) -> str:
    kinds = " and ".join(KINDS[kind] for kind, _ in found.kinds.most_common()) or "nothing that can be read"
    return f"{name}: {_plural(found.rows, 'row')}, {kinds}"


def _print_columns(console: Console, found: Survey):
    headings = ["column", "read as", "filled", "holds", "for example"]
    rows = []
    for column, one in found.columns.items():
        holds = " or ".join(kind for kind, _ in one.types.most_common(3)) or "nothing"
        rows.append([column, one.role, f"{one.filled / found.rows:.0%}", holds])
    room = console.width - _width(headings[:-1], rows) - GAP
    cut = max(LEAST_EXAMPLE, min(room, MOST_EXAMPLE))
    for cells, one in zip(rows, found.columns.values(), strict=True):
        cells.append(one.example[:cut])
    if rows:
        _print_table(console, "Columns", headings, rows, ("for example", "holds"))


def _print_conversations(console: Console, found: Survey, tokenizer: PreTrainedTokenizerBase | None):
    for number, conversation in enumerate(found.shown):
        written = "as the model reads it" if tokenizer is not None else "as messages"
        if conversation.turns is None:
            written = "as it is"
        text = render_conversation(conversation, tokenizer)
        if len(text) > 2 * MOST_CHARACTERS:
            cut = len(text) - MOST_CHARACTERS
            text = f"{text[: MOST_CHARACTERS // 2]}\n[... {cut:,} characters ...]\n{text[-MOST_CHARACTERS // 2 :]}"
        which = "First conversation" if number == 0 else f"Conversation {number + 1}"
        console.print(Text(f"\n{which}, {written}", style="bold"))
        console.print(Text("\n".join(f"  {line}" for line in text.splitlines())))


def _print_lengths(console: Console, found: Survey):
    if not found.lengths:
        return
    unit = "tokens" if found.limit is not None else "characters"
    quantiles = ", ".join(f"{label} {found.quantile(share):,}" for label, share in QUANTILES.items())
    limit = f"; {found.over_limit:,} are over the limit of {found.limit:,}" if found.limit is not None else ""
    line = f"{_plural(found.conversations, 'conversation')}: {quantiles} {unit}{limit}"
    _print_lines(console, "Lengths", [line])


def _print_numbers(console: Console, found: Survey):
    headings = ["name", "rows", "ratings", "lowest", "mean", "highest", "std", "a row", "ICC(1)", "spread"]
    rows = []
    for name, column in found.numbers.items():
        if not column.rows:
            continue
        icc = "" if column.agreement.icc is None else f"{column.agreement.icc:.2f}"
        figures = [f"{value:.4g}" for value in (column.low, column.mean, column.high, column.std)]
        per_row = f"{column.numbers / column.rows:.3g}"
        rows.append(
            [name, f"{column.rows:,}", f"{column.numbers:,}", *figures, per_row, icc, _bars(column.histogram())]
        )
    if rows:
        _print_table(console, "Ratings and other numbers", headings, rows, SPARE_NUMBERS)


def _number_entry(column: NumberColumn) -> dict[str, Any]:
    return {
        "rows": column.rows,
        "ratings": column.numbers,
        "lowest": column.low,
        "mean": column.mean,
        "highest": column.high,
        "std": column.std,
        "most_per_row": column.most_per_row,
        "scale": column.scale,
        "icc1": column.agreement.icc,
        "suspicions": column.suspicions(),
    }


def _render_turn(turn: dict[str, Any]) -> str:
    other = {name: value for name, value in turn.items() if name not in ("role", "content")}
    rest = f" {other}" if other else ""
    return f"{turn.get('role')}: {turn.get('content') or ''}{rest}"


def _bars(counts: Sequence[int]) -> str:
    most = max(counts)
    return "".join(BARS[round((len(BARS) - 1) * count / most)] if count else " " for count in counts)


def _width(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """Characters that a table needs in a line."""
    widths = [max(cell_len(row[place]) for row in [headings, *rows]) for place in range(len(headings))]
    return sum(widths) + GAP * len(widths)


def _print_table(
    console: Console, title: str, headings: Sequence[str], rows: Sequence[Sequence[str]], spare: Sequence[str]
):
    """A table; where the terminal is too narrow for it, columns that are `spare` are left out, the first first."""
    for heading in spare:
        if _width(headings, rows) <= console.width:
            break
        place = headings.index(heading)
        headings, *rows = ([*row[:place], *row[place + 1 :]] for row in [headings, *rows])
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for heading in headings:
        figures = heading in ("rows", "ratings", "lowest", "mean", "highest", "std", "a row", "ICC(1)", "filled")
        table.add_column(heading, justify="right" if figures else "left", no_wrap=True, overflow="ellipsis")
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(Text(f"\n{title}", style="bold"))
    console.print(table)


def _print_lines(console: Console, title: str, lines: Sequence[str]):
    if not lines:
        return
    console.print(Text(f"\n{title}", style="bold"))
    for line in lines:
        console.print(Text(f"  {line}"), soft_wrap=True)


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"

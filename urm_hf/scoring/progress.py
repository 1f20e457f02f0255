"""The progress bar of scoring, and the statistics that it shows."""

import time

from urm_hf.data.progress import ProgressBar

STATISTICS = (
    "conversations",
    "duplicates",
    "truncated",
    "tokens",
    "distinct_tokens",
    "passes",
    "computed_tokens",
    "seconds",
)


class ScoringBar(ProgressBar):
    """
    Counts conversations, and shows tokens per second and the share of tokens that was not computed.

    Args:
        total (`int` or `None`): conversations, times the passes over them; None: nobody knows how many will come.
        stats (`dict`): by [`STATISTICS`]; what is computed is added to it.
        name (`str`): stands before the bar. "Scoring" stays on the screen when it is done, as parts of a job do not.
        disable (`bool`): whether only the statistics are kept.
    """

    def __init__(self, total: int | None, stats: dict[str, float], name: str, *, disable: bool):
        super().__init__(total=total, unit="conv", desc=name, leave=name == "Scoring", disable=disable)
        self.stats, self.passed, self.started = stats, 0, time.perf_counter()

    def advance(self, conversations: int, tokens: int, computed: int):
        """
        A batch is done.

        Args:
            conversations (`int`): with their duplicates.
            tokens (`int`): of all of them, as if nothing were shared.
            computed (`int`): tokens that passed the model, with padding.
        """
        self.passed += tokens
        self.stats["computed_tokens"] += computed
        self.stats["seconds"] = time.perf_counter() - self.started
        saved = 1 - self.stats["computed_tokens"] / self.passed
        speed = self.passed / self.stats["seconds"]
        self.set_postfix_str(f"{self.format_sizeof(speed)} tokens/s, {saved:.0%} of tokens saved", refresh=False)
        self.update(conversations)

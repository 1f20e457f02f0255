"""The progress bar of scoring, and the statistics that it shows."""

import time

from tqdm import tqdm

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


class ScoringBar(tqdm):
    """Counts conversations, and shows tokens per second and the share of tokens that was not computed."""

    def __init__(self, total: int | None, stats: dict[str, float], name: str, *, disable: bool):
        super().__init__(total=total, unit="conv", desc=name, leave=name == "Scoring", disable=disable)
        self.stats, self.passed, self.started = stats, 0, time.perf_counter()

    def advance(self, conversations: int, tokens: int, computed: int):
        """A batch is done: so many conversations of so many tokens, of which so many were computed."""
        self.passed += tokens
        self.stats["computed_tokens"] += computed
        self.stats["seconds"] = time.perf_counter() - self.started
        saved = 1 - self.stats["computed_tokens"] / self.passed
        speed = self.passed / self.stats["seconds"]
        self.set_postfix_str(f"{self.format_sizeof(speed)} tokens/s, {saved:.0%} of tokens saved", refresh=False)
        self.update(conversations)

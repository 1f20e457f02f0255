"""A request that is not answered with a reward, and what its sender is told."""

import json
from collections.abc import Mapping
from typing import Any

from fastapi.responses import JSONResponse


class Refusal(Exception):
    """
    Args:
        status (`int`): of HTTP.
        message (`str`): what is wrong, where, and what to do.
        row (`int`, *optional*): the conversation that is at fault.
        rows (`list[int]`, *optional*): all that are, where these are known.
        headers (`dict[str, str]`, *optional*): further ones of the answer.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        row: int | None = None,
        rows: list[int] | None = None,
        headers: Mapping[str, str] | None = None,
    ):
        super().__init__(message)
        self.status, self.row, self.rows, self.headers = status, row, rows, dict(headers or {})

    def body(self) -> dict[str, Any]:
        """What is sent as JSON."""
        told: dict[str, Any] = {"message": str(self), "row": self.row}
        return {"error": told | ({"rows": self.rows} if self.rows is not None else {})}


class JSONAnswer(JSONResponse):
    """JSON in ASCII: what an error quotes, or a model is called, may hold half of a surrogate pair, no UTF-8."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()


class ClientGone(Exception):
    """Nobody waits for the answer any more."""

"""What a server was told when it was started."""

from dataclasses import dataclass

MEGABYTE = 2**20


@dataclass(frozen=True)
class Settings:
    """
    Args:
        name (`str`): what the model is called in answers.
        token (`str`, *optional*): what clients have to show; None asks for nothing.
        max_body (`int`): bytes of one request.
        max_rows (`int`): conversations of one request.
        max_queued_tokens (`int`): tokens that wait at once; more are refused until some are scored.
        body_seconds (`float`): how long a request may take to arrive.
        unscorable (`float`, *optional*): the reward that frameworks get for what cannot be scored; None is an error.
        measure (`str`, *optional*): the uncertainty that frameworks' rewards pay for.
        coefficient (`float`): what one unit of it costs.
        heads (`list[str]`, *optional*): digests of the heads of the model or of its members, where they are known.
    """

    name: str = "urm"
    token: str | None = None
    max_body: int = 32 * MEGABYTE
    max_rows: int = 4096
    max_queued_tokens: int = 4_000_000
    body_seconds: float = 30.0
    unscorable: float | None = None
    measure: str | None = None
    coefficient: float = 1.0
    heads: list[str] | None = None

"""The body of a request: read within bounds of size and time, and parsed."""

import asyncio
import json
from typing import Any

from fastapi import Request
from starlette.requests import ClientDisconnect

from urm_hf.serving.refusals import ClientGone, Refusal

CLOSE = {"Connection": "close"}
TOO_DEEP = "the body is nested too deeply: send conversations as messages or text."


async def read_body(request: Request, max_body: int, seconds: float) -> bytes:
    """
    All of a request's body.

    Args:
        request (`Request`): nothing of it has been read.
        max_body (`int`): most bytes.
        seconds (`float`): how long they may take to arrive.

    Raises:
        Refusal: it is too large, also where its length was not announced, or arrives too slowly.
        ClientGone: the sender went away before its end.
    """
    encoding = request.headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise Refusal(415, f"a body with Content-Encoding {encoding[:40]!r} is not read: send it as it is.")
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > 2 * max_body:
        raise _too_large(max_body)
    try:
        return await asyncio.wait_for(_collect(request, max_body), seconds)
    except (asyncio.TimeoutError, TimeoutError) as error:
        raise Refusal(408, f"the body did not arrive within {seconds:g} seconds.", headers=CLOSE) from error
    except ClientDisconnect as error:
        raise ClientGone from error


async def _collect(request: Request, max_body: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size <= max_body:
            parts.append(part)
        else:
            # Read on for as much again, and keep nothing: a client that is still sending when its connection is closed
            # sees a broken pipe, and never the answer that says why.
            parts.clear()
            if size > 2 * max_body:
                break
    if size > max_body:
        raise _too_large(max_body)
    return b"".join(parts)


def _too_large(max_body: int) -> Refusal:
    told = f"the body has more than {max_body} bytes (--max-body-mb): send fewer conversations at once."
    return Refusal(413, told, headers=CLOSE)


def parse_body(body: bytes) -> dict[str, Any]:
    """
    The JSON object of a body.

    Raises:
        Refusal: it is no JSON, has NaN or Infinity, which JSON does not know, is nested too deeply, or is no object.
    """
    try:
        value = json.loads(body, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise Refusal(400, TOO_DEEP) from error
    except json.JSONDecodeError as error:
        raise Refusal(400, f"the body is not JSON: {error.msg} at character {error.pos}.") from error
    except ValueError as error:  # bytes that are no UTF-8, or a number of thousands of digits
        raise Refusal(400, "the body is not JSON in UTF-8, or has a number that is too long.") from error
    if not isinstance(value, dict):
        raise Refusal(400, f"the body must be a JSON object, got {type(value).__name__}.")
    return value


def _refuse_constant(name: str):
    raise Refusal(400, f"the body has {name}, which is no JSON.")

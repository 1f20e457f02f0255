"""Who may ask: where the token comes from, which hosts need one, and how a request shows it."""

import base64
import binascii
import hmac
import ipaddress
import os
from pathlib import Path

from fastapi import Request

from urm_hf.serving.refusals import Refusal

TOKEN_VARIABLE = "URM_SERVE_TOKEN"


def read_token(file: str | os.PathLike[str] | None = None) -> str | None:
    """
    The token of a file, or else of the environment; None if there is neither.

    Args:
        file (`str` or `PathLike`, *optional*): its content, without white space around it, is the token.

    Raises:
        ValueError: the token is empty, or has characters that no header can carry, or the file cannot be read.
    """
    if file is not None:
        try:
            token, origin = Path(file).read_text(encoding="utf-8", errors="replace").strip(), str(file)
        except (OSError, ValueError) as error:  # the latter of a name that can be none
            told = getattr(error, "strerror", None) or str(error)
            raise ValueError(
                f"--token-file {str(file)!r} cannot be read ({told}): name the file with the token."
            ) from error
    elif TOKEN_VARIABLE in os.environ:
        token, origin = os.environ[TOKEN_VARIABLE], TOKEN_VARIABLE
    else:
        return None
    # the value is not repeated: errors end up in logs
    if not token or not all("!" <= character <= "~" for character in token):
        raise ValueError(
            f"the token in {origin} must be one or more printable ASCII characters without spaces; write one with "
            "`python -c 'import secrets; print(secrets.token_urlsafe())'`."
        )
    return token


def is_loopback(host: str) -> bool:
    """Whether only programs of this machine reach a host. A name is not looked up: others may decide what it means."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_host(host: str, token: str | None, no_auth: bool = False):
    """
    Args:
        host (`str`): where the server listens.
        token (`str`, *optional*): what clients will have to show.
        no_auth (`bool`, *optional*, defaults to `False`): whether everybody is meant to be answered.

    Raises:
        ValueError: other machines would be answered without a token.
    """
    if token is None and not no_auth and not is_loopback(host):
        raise ValueError(
            f"--host {host!r} is reached from other machines, and there is no token: set {TOKEN_VARIABLE} or "
            "--token-file, or say --no-auth if everybody there may ask."
        )


class Guard:
    """
    Refuses requests that do not show the token, as `Bearer TOKEN` or as the password of `Basic`.

    Frameworks post to a URL and cannot be told to send a header; `http://any:TOKEN@host` makes their clients send
    Basic by themselves.

    Args:
        token (`str`, *optional*): None lets everybody pass.
    """

    def __init__(self, token: str | None):
        self.token = None if token is None else token.encode()

    def __call__(self, request: Request):
        if self.token is None:
            return
        shown = read_shown(request.headers.get("authorization", ""))
        # in constant time: how long a comparison takes must not tell how much of a guess was right
        if not hmac.compare_digest(shown, self.token):
            raise Refusal(
                401,
                "the token is missing or wrong: send `Authorization: Bearer TOKEN`, or use a URL like "
                "http://any:TOKEN@host. Commands of urm take it from URM_SERVE_TOKEN, RemoteScorer as `token`.",
                headers={"WWW-Authenticate": 'Bearer realm="urm", Basic realm="urm"'},
            )


def read_shown(header: str) -> bytes:
    """The token in a header `Authorization`; empty where there is none."""
    scheme, _, value = header.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip().encode("latin-1", "replace")
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value.strip(), validate=True).partition(b":")[2]
        except (binascii.Error, ValueError):
            return b""
    return b""

"""One line for what goes wrong between here and the Hub. Light to import."""

import errno
import re
from typing import Any
from urllib.parse import urlsplit

ENDPOINTS = "resolve|revision|tree|refs|commit|branch|tag|preupload|paths-info|info"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # disk, quota, largest size of a file
LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"


class HubError(OSError):
    """A push, or a look at a repository, that failed; the message says what is on the Hub now."""


def one_line(error: BaseException) -> str:
    """What a user should read of an error: the Hub's answer if it comes from there, else its own message."""
    told = explained(error) or " ".join(str(error).split())
    if isinstance(error, FileNotFoundError) and error.filename is not None:  # of `open`, with its number in front
        told = f"{error.filename}: no such file."
    if isinstance(error, OSError) and error.errno in FULL:
        told += ": free space there, or write elsewhere"
    return told


def explained(error: BaseException) -> str | None:
    """What the Hub's answer means and what to do, if the error comes from there."""
    if isinstance(error, HubError):
        return str(error)
    return next((told for cause in _chain(error) if (told := _from_hub(cause))), None)


def first_line(error: BaseException) -> str:
    """The first line of an error's message that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _chain(error: BaseException | None):
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _from_hub(error: BaseException) -> str | None:
    """By the class's name, so that huggingface_hub is not imported for it."""
    url = urlsplit(str(getattr(getattr(error, "response", None), "url", ""))).path
    path = re.sub("^/(?:api/models|api(?=/datasets))?/?", "", url)
    repository = re.split(rf"(?:\.git)?/(?:{ENDPOINTS})(?:/|$)", path)[0] or "the repository"
    names = [kind.__name__ for kind in type(error).__mro__]
    if "HFValidationError" in names:  # of what can only be meant as a path, as /data/model or ./model
        name = re.search(r": '([^']*)'", str(error))
        return f"{name[1] if name else 'the model'} is no folder here, and no name of a repository, 'org/name'."
    if str(error).startswith("We couldn't connect to"):  # transformers' words, which name no model
        return "the Hub cannot be asked for what is not here: there is no connection, or the offline mode is on."
    if "GatedRepoError" in names:
        return f"{repository} is gated: ask for access on its page, then {LOG_IN}."
    if "RevisionNotFoundError" in names:
        revision = re.search(r"/(?:resolve|revision|tree)/([^/?]+)", url)
        return f"{repository} has no revision {revision[1] if revision else 'of that name'}."
    if "RepositoryNotFoundError" in names:
        return f"{repository} does not exist, or is private: check its name; if it is private, {LOG_IN}."
    response: Any = getattr(error, "response", None)
    if "HfHubHTTPError" in names and getattr(response, "status_code", None) in (401, 403):
        why = response.headers.get("X-Error-Message") or first_line(error)
        return f"the Hub refused access ({why}): {LOG_IN} with a token that has it."
    return None

"""Where on the Hub a repository's files are taken from, and with which access. This file travels with checkpoints."""

import os
import re
from dataclasses import dataclass, fields, replace
from typing import Any

from transformers.utils.hub import cached_file, try_to_load_from_cache

SERVER = re.compile(r"[\w.-]+:\d+(/|$)", re.ASCII)  # host:port
REPOSITORY = re.compile(r"(\b[\w.-]{1,96}\b/)?\b[\w.-]{1,96}\b", re.ASCII)  # as huggingface_hub has it


def check_name(name: str):
    """
    Whether a model can have this name; of one that cannot, libraries tell the rules of names, and not that there is no
    such folder.

    Args:
        name (`str`): a folder, or a repository.

    Raises:
        FileNotFoundError: it is neither.
    """
    if os.path.isdir(name):
        return
    if os.path.isfile(name):
        raise FileNotFoundError(f"{name} is a file: name the folder of a model, or a repository, 'org/name'.")
    if REPOSITORY.fullmatch(name) is None or "--" in name or ".." in name or name.endswith(".git"):
        server = " A server is named with http:// before it." if SERVER.match(name) else ""
        told = f"{name or repr(name)} is no folder here, and no name of a repository, 'org/name'.{server}"
        raise FileNotFoundError(told)


@dataclass(frozen=True)
class HubPlace:
    """
    One state of a repository and the means to reach it; every field is an argument of `from_pretrained`.

    ```python
    place = HubPlace.take(kwargs)  # the rest of `kwargs` is for the model
    AutoConfig.from_pretrained(name, **place.kwargs())
    ```

    Args:
        revision (`str`, *optional*): commit, branch or tag. Pin a commit where results must not change.
        subfolder (`str`, *optional*): folder inside the repository.
        token (`str` or `bool`, *optional*): of an account that may read it; default: the one that is logged in.
        cache_dir (`str`, *optional*): where downloads are kept.
        force_download (`bool`, *optional*): downloads also what is in the cache.
        local_files_only (`bool`, *optional*): takes what is in the cache, and downloads nothing.
        proxies (`dict`, *optional*): proxy for each protocol, read by transformers 4 alone.
    """

    revision: str | None = None
    subfolder: str | None = None
    token: str | bool | None = None
    cache_dir: Any = None
    force_download: bool | None = None
    local_files_only: bool | None = None
    proxies: dict[str, str] | None = None

    @classmethod
    def read(cls, kwargs: dict[str, Any]) -> "HubPlace":
        """The place that is among the arguments of a `from_pretrained`, which stay as they are."""
        return cls(**{field.name: kwargs[field.name] for field in fields(cls) if field.name in kwargs})

    @classmethod
    def take(cls, kwargs: dict[str, Any]) -> "HubPlace":
        """As `read`, and removes it from them."""
        place = cls.read(kwargs)
        for field in fields(cls):
            kwargs.pop(field.name, None)
        return place

    def kwargs(self) -> dict[str, Any]:
        """The arguments of `from_pretrained` that say all this; those that were not given are left out."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in given.items() if value is not None}

    def at(self, revision: str | None) -> "HubPlace":
        """The same place at another state."""
        return replace(self, revision=revision)

    def of_another(self, revision: str | None = None) -> "HubPlace":
        """The same access to another repository, of which neither revision nor subfolder are known from here."""
        return replace(self, revision=revision, subfolder=None)

    def find_file(self, name: str, file: str) -> str | None:
        """
        The path of a file of the repository or folder `name`, downloaded if need be; None where it is known to be
        absent.

        Raises:
            OSError: `name` is neither a folder nor a repository, or the Hub cannot be asked and the cache has nothing
                of it.
        """
        check_name(name)
        found = cached_file(name, file, _raise_exceptions_for_missing_entries=False, **self.kwargs())
        # without a connection, too, transformers gives None: a typing error would be told as a missing weight file
        if found is None and not os.path.isdir(name) and not self._is_cached(name, file):
            raise OSError(describe_unreachable(name))
        return found

    def _is_cached(self, name: str, file: str) -> bool:
        """Whether the cache has something of a repository, if only that this file is not there."""
        files = ("config.json", "adapter_config.json", file)
        paths = [path if self.subfolder is None else f"{self.subfolder}/{path}" for path in files]
        return any(try_to_load_from_cache(name, path, self.cache_dir, self.revision) is not None for path in paths)


def describe_unreachable(name: str) -> str:
    """What is to be said of a name that is no folder, and that the Hub cannot be asked for."""
    return (
        f"{name} is no folder here, and the Hub cannot be asked for a repository of that name: there is no "
        "connection, or the offline mode is on, and nothing of it is in the cache. Correct the name, or connect and "
        "try again."
    )

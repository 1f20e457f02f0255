"""What a row gives to the chat template besides its turns."""

import json
from collections.abc import Mapping
from typing import Any

from urm_hf.data.content import plain_value
from urm_hf.data.errors import RowError


def read_template_columns(row: Mapping[str, Any]) -> dict[str, Any]:
    """The columns `tools` and `chat_template_kwargs`, as TRL hands them to the chat template."""
    tools, kwargs = row.get("tools"), row.get("chat_template_kwargs")
    tools = json.loads(tools) if isinstance(tools, str) and tools.strip() else tools
    kwargs = json.loads(kwargs) if isinstance(kwargs, str) and kwargs.strip() else kwargs
    if tools is not None and not isinstance(tools, str) and not isinstance(tools, Mapping):
        tools = plain_value(tools)
    if tools and not isinstance(tools, list):
        raise RowError(f"`tools` must be a list of tool definitions, got {type(tools).__name__}.", column="tools")
    if kwargs and not isinstance(kwargs, Mapping):
        raise RowError(
            f"`chat_template_kwargs` must map names to values, got {type(kwargs).__name__}.",
            column="chat_template_kwargs",
        )
    return {"tools": tools or None, "chat_template_kwargs": plain_value(kwargs or {})}

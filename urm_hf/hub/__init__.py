"""Publishing on the Hub: push, verify, model cards."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from urm_hf.hub.publish import push

__all__ = ["push"]


def __getattr__(name: str):
    if name != "push":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from urm_hf.hub.publish import push  # only when needed: it brings scoring and evaluation along

    return push

"""How far apart two computations of the same floating-point numbers may lie: some roundings of their scale."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pytest
import torch

# The order in which sums are taken depends on the processor, its kernels and the shape of the batch. A sum of 64
# terms, as in the tiny models, is off by 64 roundings at worst; about a dozen such sums lie one behind the other
# between a token and its reward, and their errors add up like independent ones: 64 * sqrt(12), rounded up.
ROUNDINGS = 256
# The terms of the sums in the tiny models: a reward near 0 is a difference of such terms, no sum of small ones.
TERM = 1.0


def largest(values: Any) -> float:
    """The largest absolute value that is finite in a number, an array, a tensor, or a list or mapping of them."""
    if isinstance(values, Mapping):
        values = list(values.values())
    if isinstance(values, list | tuple):
        return max(map(largest, values), default=0.0)
    if isinstance(values, torch.Tensor):
        values = values.detach().double().numpy()
    found = np.abs(np.asarray(values, dtype=np.float64))
    return float(np.max(found, initial=0.0, where=np.isfinite(found)))


def tolerance(
    expected: Any, *, dtype: torch.dtype = torch.float32, roundings: float = ROUNDINGS, term: float = TERM
) -> float:
    """
    The absolute difference that is no fault in numbers as large as these.

    Args:
        dtype: in which the less exact of the two was computed.
        roundings: how many roundings, in the worst case, one may be off.
        term: what the terms of the sums are at least, where they cancel.
    """
    return roundings * torch.finfo(dtype).eps * max(term, largest(expected))


def close(expected: Any, **precision: Any) -> Any:
    """`pytest.approx` with one tolerance for all of `expected`: `assert found == close(expected)`."""
    return pytest.approx(expected, rel=0, abs=tolerance(expected, **precision))


def _as_tensor(values: Any) -> torch.Tensor:
    """A tensor of arrays and lists, too; torch takes no array that runs backwards, so that such a one is copied."""
    return torch.as_tensor(values.copy() if isinstance(values, np.ndarray) else values)


def assert_close(actual: Any, expected: Any, *, msg: str = "", **precision: Any):
    """Raises unless tensors or arrays, or lists or mappings of them, agree in shape and within their tolerances."""
    if isinstance(expected, Mapping):
        assert actual.keys() == expected.keys()
        for key in expected:
            assert_close(actual[key], expected[key], msg=f"{msg} {key}", **precision)
    elif isinstance(expected, list | tuple) and isinstance(expected[0], Iterable):
        for found, wanted in zip(actual, expected, strict=True):
            assert_close(found, wanted, msg=msg, **precision)
    else:
        found, wanted = (_as_tensor(values).detach().double() for values in (actual, expected))
        assert found.shape == wanted.shape, f"{msg}: {found.shape} is not {wanted.shape}"
        atol = tolerance(wanted, **precision)
        np.testing.assert_allclose(found.numpy(), wanted.numpy(), rtol=0, atol=atol, err_msg=msg)

"""Members to merge, and what is asked of state dicts."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.helpers.tiny import tiny_tokenizer, tiny_urm
from urm_hf.checkpoints import files as checkpoint_files

VALUE = "score.value.weight"


def save_member(folder: Path, seed: int, *, max_shard_size: str = "5GB", dtype=None, **kwargs) -> str:
    """A URM with its tokenizer; heads count as trained by regression unless `kwargs` say otherwise."""
    model = tiny_urm(seed=seed, **{"attribute_loss": "regression", "attributes": ["a", "b", "c"]} | kwargs)
    if dtype is not None:
        model.model.to(dtype)
        model.config.dtype = dtype
    model.save_pretrained(folder, max_shard_size=max_shard_size)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


def read_state(folder) -> dict[str, torch.Tensor]:
    """All tensors of a folder, whatever its shards."""
    return {
        key: tensor for file in sorted(Path(folder).glob("*.safetensors")) for key, tensor in load_file(file).items()
    }


def mean_state(folders: list[str], weights: list[float]) -> dict[str, torch.Tensor]:
    states = [read_state(folder) for folder in folders]
    return {
        key: sum(weight * state[key].double() for weight, state in zip(weights, states)).to(states[0][key].dtype)
        for key in states[0]
    }


def assert_equal_states(actual: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]):
    """Equal names, dtypes and values, but for the last bit where the order of a sum decides."""
    assert actual.keys() == expected.keys()
    for key in expected:
        rtol = {torch.bfloat16: 2**-8, torch.float16: 2**-11}.get(expected[key].dtype, 2**-23)
        torch.testing.assert_close(
            actual[key], expected[key], rtol=rtol, atol=0, msg=lambda text, key=key: f"{key}: {text}"
        )


def edit_json(file: Path, **changes):
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def edit_weights(folder: str, change: Callable[[dict[str, torch.Tensor]], None]):
    state = read_state(folder)
    change(state)
    save_file(state, Path(folder) / "model.safetensors", metadata={"format": "pt"})


def interrupt_second_shard(monkeypatch: pytest.MonkeyPatch, out: Path):
    """The run ends, as it were, before the second file of weights; until then nothing stands under the final name."""

    def fail_at_the_second(tensors, path, **kwargs):
        assert not out.exists()
        if "00002" in path.name:
            raise KeyboardInterrupt
        save_file(tensors, path, **kwargs)

    monkeypatch.setattr(checkpoint_files, "save_file", fail_at_the_second)

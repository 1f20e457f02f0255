"""The cache of hidden states: the model's own values, computed once, never those of other weights or tokens."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers.tiny import PAD, pad_rows, random_rows, tiny_backbone_config, tiny_urm
from tests.helpers.tolerances import assert_close
from urm_hf.modeling import URMForRewardModeling
from urm_hf.scoring import features
from urm_hf.scoring.engine.batches import Packs, PaddedBatches
from urm_hf.scoring.features import deduplicate, pooled_features, weights_fingerprint

ROWS = random_rows([5, 12, 3, 8, 20, 1, 9, 9])


@pytest.fixture
def model() -> URMForRewardModeling:
    return tiny_urm()


@torch.no_grad()
def hidden_alone(model: URMForRewardModeling, rows: list[list[int]]) -> np.ndarray:
    return torch.cat([model(**pad_rows([row])).pooled_hidden for row in rows]).numpy()


def count_pooled(monkeypatch, fail_after: int | None = None) -> list[int]:
    """The number of rows of each batch that is computed, as a list that grows; that after `fail_after` fails."""
    calls, run = [], Packs.run

    def counting(self, start, stop):
        if len(calls) == fail_after:
            raise KeyboardInterrupt
        calls.append(stop - start)
        return run(self, start, stop)

    monkeypatch.setattr(Packs, "run", counting)
    monkeypatch.setattr(PaddedBatches, "run", lambda *args: pytest.fail("padded"))
    return calls


PROMPT = random_rows([30], seed=1)[0]
BRANCHES = [[*PROMPT, *row] for row in ROWS]


def test_a_common_beginning_is_computed_once(model, tmp_path):
    computed, forward = [], model.model.forward

    def counting(input_ids, **kwargs):
        computed.append(input_ids.numel())
        return forward(input_ids=input_ids, **kwargs)

    model.model.forward = counting
    cached = pooled_features(model, BRANCHES, PAD, tmp_path)
    assert computed[-1] == len(PROMPT) + sum(map(len, ROWS))  # the first two try out whether the model allows it
    model.model.forward = forward
    assert_close(cached[:], hidden_alone(model, BRANCHES))


def test_a_window_shorter_than_a_conversation_is_kept_to(tmp_path):
    model = tiny_urm("mistral")  # every token sees four
    cached = pooled_features(model, BRANCHES + ROWS, PAD, tmp_path)
    assert_close(cached[:], hidden_alone(model, BRANCHES + ROWS))


@pytest.mark.parametrize("max_tokens_per_batch", [1, 40, 4096])
def test_features_equal_the_hidden_states_that_the_model_pools(model, tmp_path, max_tokens_per_batch):
    cached = pooled_features(model, ROWS, PAD, tmp_path, max_tokens_per_batch)
    assert cached[:].dtype == np.float32
    assert_close(cached[:], hidden_alone(model, ROWS))


def test_features_give_the_rewards_of_the_model(model, tmp_path):
    cached = pooled_features(model, ROWS, PAD, tmp_path)
    with torch.no_grad():
        rewards = model(pooled_hidden=torch.from_numpy(cached[:])).logits
        expected = torch.cat([model(**pad_rows([row])).logits for row in ROWS])
    assert_close(rewards, expected)


def test_features_of_a_bfloat16_backbone_are_its_own_in_float32(tmp_path):
    model = tiny_urm().to(torch.bfloat16)
    cached = pooled_features(model, ROWS[:3], PAD, tmp_path, max_tokens_per_batch=1)
    with torch.no_grad():
        expected = torch.cat([model.pool(**pad_rows([row])) for row in ROWS[:3]]).float().numpy()
    np.testing.assert_array_equal(cached[:], expected)


def test_the_second_time_the_model_does_not_run(model, tmp_path, monkeypatch):
    first = pooled_features(model, ROWS, PAD, tmp_path)
    calls = count_pooled(monkeypatch)
    second = pooled_features(model, ROWS, PAD, tmp_path)
    assert calls == []
    np.testing.assert_array_equal(first[:], second[:])


def test_the_cache_serves_a_model_that_was_loaded_anew(tmp_path, monkeypatch):
    pooled_features(tiny_urm(), ROWS, PAD, tmp_path)
    again = tiny_urm()
    calls = count_pooled(monkeypatch)
    pooled_features(again, ROWS, PAD, tmp_path)
    assert calls == []


def test_other_heads_on_the_same_backbone_share_the_features(model, tmp_path, monkeypatch):
    pooled_features(model, ROWS, PAD, tmp_path)
    other = URMForRewardModeling.from_backbone(model.model, attributes=["one"])
    calls = count_pooled(monkeypatch)
    pooled_features(other, ROWS, PAD, tmp_path)
    assert calls == []


def test_changed_weights_are_not_served_old_features(model, tmp_path):
    before = pooled_features(model, ROWS, PAD, tmp_path)[:]
    with torch.no_grad():
        model.model.norm.weight[0] += 1
    after = pooled_features(model, ROWS, PAD, tmp_path)[:]
    assert_close(after, hidden_alone(model, ROWS))
    assert np.abs(after - before).max() > 0.1


def test_another_precision_is_not_served_features_of_float32(model, tmp_path):
    pooled_features(model, ROWS, PAD, tmp_path)
    half = tiny_urm().to(torch.bfloat16)
    cached = pooled_features(half, ROWS[:1], PAD, tmp_path)[:]
    with torch.no_grad():
        np.testing.assert_array_equal(cached, half.pool(**pad_rows(ROWS[:1])).float().numpy())


def test_ids_that_differ_in_one_token_are_not_served_each_other(model, tmp_path):
    changed = [[*row[:-1], (row[-1] + 1) % 256] for row in ROWS]
    pooled_features(model, ROWS, PAD, tmp_path)
    cached = pooled_features(model, changed, PAD, tmp_path)[:]
    assert_close(cached, hidden_alone(model, changed))


def test_datasets_that_overlap_compute_only_what_is_new(model, tmp_path, monkeypatch):
    expected = hidden_alone(model, ROWS[3:])
    pooled_features(model, ROWS[:5], PAD, tmp_path)
    calls = count_pooled(monkeypatch)
    cached = pooled_features(model, ROWS[3:], PAD, tmp_path)
    assert sum(calls) == 3
    assert_close(cached[:], expected)


def test_a_sequence_that_occurs_twice_is_computed_once(model, tmp_path, monkeypatch):
    calls = count_pooled(monkeypatch)
    cached = pooled_features(model, [ROWS[0], ROWS[1], ROWS[0]], PAD, tmp_path)
    assert sum(calls) == 2
    np.testing.assert_array_equal(cached[[0]], cached[[2]])


def test_an_interrupted_computation_goes_on_where_it_stopped(model, tmp_path, monkeypatch):
    expected = hidden_alone(model, ROWS)
    monkeypatch.setattr(features, "ROWS_PER_FILE", 2)
    with monkeypatch.context() as patch:
        count_pooled(patch, fail_after=5)  # one row a batch: two files of two are whole, the fifth row is lost
        with pytest.raises(KeyboardInterrupt):
            pooled_features(model, ROWS, PAD, tmp_path, max_tokens_per_batch=1)
    calls = count_pooled(monkeypatch)
    cached = pooled_features(model, ROWS, PAD, tmp_path, max_tokens_per_batch=1)
    assert calls == [1] * (len(ROWS) - 4)
    assert_close(cached[:], expected)


def folder_of(cache: Path) -> Path:
    (folder,) = cache.iterdir()
    return folder


def test_a_file_that_was_not_written_to_its_end_is_ignored(model, tmp_path):
    expected = pooled_features(model, ROWS[:4], PAD, tmp_path)[:]
    for kind in ("features", "keys"):
        (folder_of(tmp_path) / f"0123456789ab.{kind}.tmp").write_bytes(b"\x93NUMPY half a file")
    np.testing.assert_allclose(pooled_features(model, ROWS, PAD, tmp_path)[:4], expected, rtol=0, atol=0)


def test_features_whose_keys_were_not_written_are_computed_again(model, tmp_path, monkeypatch):
    expected = pooled_features(model, ROWS, PAD, tmp_path)[:]
    (keys,) = folder_of(tmp_path).glob("*.keys.npy")
    keys.unlink()
    calls = count_pooled(monkeypatch)
    assert_close(pooled_features(model, ROWS, PAD, tmp_path)[:], expected)
    assert sum(calls) == len(ROWS)


def test_nothing_temporary_is_left_and_keys_number_their_features(model, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "ROWS_PER_FILE", 3)
    pooled_features(model, ROWS, PAD, tmp_path, max_tokens_per_batch=1)
    files = sorted(folder_of(tmp_path).iterdir())
    assert {"".join(path.suffixes) for path in files} == {".features.npy", ".keys.npy"}
    shapes = [np.load(path).shape for path in files]  # features and keys of one file are neighbours
    assert sorted(shapes) == [(2, 16), (2, 64), (3, 16), (3, 16), (3, 64), (3, 64)]
    assert all(first[0] == second[0] for first, second in zip(shapes[::2], shapes[1::2]))


def test_hidden_states_that_are_not_finite_are_an_error_and_not_kept(model, tmp_path, monkeypatch):
    with torch.no_grad():
        model.model.norm.weight[0] = float("nan")
    with pytest.raises(ValueError, match="hidden states that are not finite"):
        pooled_features(model, ROWS, PAD, tmp_path)
    assert list(folder_of(tmp_path).iterdir()) == []


@pytest.mark.parametrize("training", [True, False])
def test_dropout_is_off_meanwhile_and_the_mode_of_the_model_is_as_before(tmp_path, training):
    model = tiny_urm(backbone=tiny_backbone_config("gpt2", resid_pdrop=0.5, embd_pdrop=0.5))
    expected = hidden_alone(model, ROWS)
    model.train(training)
    assert_close(pooled_features(model, ROWS, PAD, tmp_path)[:], expected)
    assert model.training is training


def test_files_that_a_killed_computation_left_are_removed(model, tmp_path):
    pooled_features(model, ROWS[:1], PAD, tmp_path)
    folder, before = folder_of(tmp_path), sorted(folder_of(tmp_path).iterdir())
    (folder / "0123456789ab.features.npy.01234567.tmp").write_bytes(b"half")
    pooled_features(model, ROWS[:1], PAD, tmp_path)
    assert sorted(folder.iterdir()) == before


def test_without_a_folder_features_are_in_the_one_of_the_environment(model, tmp_path, monkeypatch):
    monkeypatch.setenv("URM_CACHE", str(tmp_path))
    pooled_features(model, ROWS[:1], PAD)
    (folder,) = (tmp_path / "features").iterdir()
    assert folder.name == f"{weights_fingerprint(model.model)}-float32-sdpa"


# Indices


@pytest.fixture
def scattered(model, tmp_path, monkeypatch) -> tuple[features.Features, np.ndarray]:
    """Features over several files, and what they should hold."""
    monkeypatch.setattr(features, "ROWS_PER_FILE", 3)
    cached = pooled_features(model, ROWS, PAD, tmp_path, max_tokens_per_batch=1)
    assert len(list(folder_of(tmp_path).glob("*.features.npy"))) == 3
    return cached, hidden_alone(model, ROWS)


@pytest.mark.parametrize(
    "indices",
    [slice(None), slice(2, 6), slice(None, None, -2), [0], [7, 0, 3], [2, 2, 5, 2], np.array([6, 1]), [-1]],
    ids=str,
)
def test_indices_select_rows_across_files(scattered, indices):
    cached, expected = scattered
    assert_close(cached[indices], expected[indices])


def test_features_have_a_length(scattered):
    assert len(scattered[0]) == len(ROWS)


def test_sequences_are_deduplicated_in_order_of_appearance():
    assert deduplicate([[1, 2], [3], (1, 2), [], [3]]) == ([(1, 2), (3,), ()], [0, 1, 0, 2, 1])


# Fingerprints of weights


def changed_value(state):
    state["weight"][0, 0] += 1


def changed_name(state):
    state["weights"] = state.pop("weight")


def changed_shape(state):
    state["weight"] = state["weight"].reshape(2, 6)


def changed_dtype(state):
    state["weight"] = state["weight"].view(torch.int32)


def fingerprint(change=lambda state: None) -> str:
    state = {"weight": torch.arange(12.0).reshape(3, 4), "bias": torch.zeros(3)}
    change(state)
    module = torch.nn.Module()
    for name, tensor in state.items():
        module.register_buffer(name, tensor)
    return weights_fingerprint(module)


def test_equal_weights_have_one_fingerprint():
    assert fingerprint() == fingerprint()


@pytest.mark.parametrize("change", [changed_value, changed_name, changed_shape, changed_dtype])
def test_a_change_of_weights_changes_the_fingerprint(change):
    assert fingerprint(change) != fingerprint()

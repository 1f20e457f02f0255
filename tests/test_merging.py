"""Merging of checkpoints against means of state dicts that are computed here; what is refused; and `urm merge`."""

import json
import re
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoTokenizer

from tests.conftest import (
    OpenedFile,
    pad_rows,
    random_rows,
    tiny_backbone_config,
    tiny_tokenizer,
    tiny_urm,
)
from urm_hf import checkpoint_files, cli, merge_checkpoints, merging
from urm_hf.modeling import URMForRewardModeling

ROWS = random_rows([5, 12, 3, 8])
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


@pytest.fixture
def members(tmp_path) -> list[str]:
    return [save_member(tmp_path / f"seed-{seed}", seed) for seed in range(2)]


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


# The merged weights


@pytest.mark.parametrize("weights", [None, [0.5, 0.5], [0.25, 0.75], [1.0, 0.0]])
def test_the_weights_are_the_weighted_mean(members, tmp_path, weights):
    result = merge_checkpoints(members, tmp_path / "merged", weights=weights)
    assert result.weights == pytest.approx(weights or [0.5, 0.5])
    assert_equal_states(read_state(tmp_path / "merged"), mean_state(members, weights or [0.5, 0.5]))


def test_weights_that_sum_to_one_but_for_rounding_are_normalised(members, tmp_path):
    result = merge_checkpoints(members, tmp_path / "merged", weights=[0.3333333, 0.6666664])
    assert sum(result.weights) == pytest.approx(1, abs=1e-12)
    assert_equal_states(read_state(tmp_path / "merged"), mean_state(members, result.weights))


@pytest.mark.parametrize("weights", [None, [0.2, 0.3, 0.5]])
def test_three_members_and_chunks_smaller_than_a_tensor(tmp_path, monkeypatch, weights):
    monkeypatch.setattr(merging, "CHUNK", 1000)
    folders = [save_member(tmp_path / str(seed), seed) for seed in range(3)]
    merge_checkpoints(folders, tmp_path / "merged", weights=weights)
    assert_equal_states(read_state(tmp_path / "merged"), mean_state(folders, weights or [1 / 3] * 3))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_half_precision_body_keeps_its_dtype_and_the_head_float32(tmp_path, dtype):
    folders = [save_member(tmp_path / str(seed), seed, dtype=dtype) for seed in range(2)]
    merge_checkpoints(folders, tmp_path / "merged")
    state = read_state(tmp_path / "merged")
    dtypes = {part: {x.dtype for key, x in state.items() if key.startswith(part)} for part in ("model.", "score.")}
    assert dtypes == {"model.": {dtype}, "score.": {torch.float32}}
    assert_equal_states(state, mean_state(folders, [0.5, 0.5]))


@pytest.mark.parametrize("written", ["5GB", "60KB"])
def test_members_and_result_may_be_sharded_in_different_places(tmp_path, written):
    sizes = ["5GB", "50KB", "90KB"]
    folders = [save_member(tmp_path / str(i), i, max_shard_size=size) for i, size in enumerate(sizes)]
    shards = [len(list(Path(folder).glob("*.safetensors"))) for folder in folders]
    assert shards[0] == 1 < shards[2] < shards[1]
    merge_checkpoints(folders, tmp_path / "merged", max_shard_size=written)
    assert_equal_states(read_state(tmp_path / "merged"), mean_state(folders, [1 / 3] * 3))
    assert (tmp_path / "merged" / "model.safetensors.index.json").exists() == (written == "60KB")


def test_shards_are_bounded_and_the_index_names_where_each_tensor_is(members, tmp_path):
    merge_checkpoints(members, tmp_path / "merged", max_shard_size="70KB")
    index = json.loads((tmp_path / "merged" / "model.safetensors.index.json").read_text())
    files = sorted((tmp_path / "merged").glob("*.safetensors"))
    found = {}
    for file in files:
        state = load_file(file)
        assert len(state) == 1 or sum(x.nbytes for x in state.values()) <= 70_000, file.name
        found |= dict.fromkeys(state, file.name)
    assert len(files) > 1
    assert index["weight_map"] == found
    assert index["metadata"]["total_size"] == sum(x.nbytes for x in read_state(members[0]).values())


@pytest.mark.parametrize("max_shard_size", ["5GB", "70KB"])
def test_the_merged_folder_scores_as_a_model_with_the_mean_weights(members, tmp_path, max_shard_size):
    merge_checkpoints(members, tmp_path / "merged", max_shard_size=max_shard_size)
    expected = URMForRewardModeling.from_pretrained(members[0])
    expected.load_state_dict(mean_state(members, [0.5, 0.5]))
    merged = AutoModel.from_pretrained(tmp_path / "merged")
    with torch.no_grad():
        ours, theirs = merged(**pad_rows(ROWS)), expected(**pad_rows(ROWS))
    for name in ("logits", "attribute_means", "attribute_stds", "reward_std"):
        torch.testing.assert_close(ours[name], theirs[name], msg=name)


def test_members_without_a_gate_are_merged(tmp_path):
    folders = [save_member(tmp_path / str(seed), seed, reward_weights=[0.5, 0.3, 0.2]) for seed in range(2)]
    result = merge_checkpoints(folders, tmp_path / "merged")
    assert_equal_states(read_state(tmp_path / "merged"), mean_state(folders, [0.5, 0.5]))
    assert "gate" not in result.differences


# Log standard deviations


@pytest.mark.parametrize("loss", ["mle", "beta_nll", "censored_mle", None])
def test_heads_that_model_a_distribution_are_not_averaged_unasked(tmp_path, loss):
    folders = [save_member(tmp_path / str(seed), seed, attribute_loss=loss) for seed in range(2)]
    with pytest.raises(ValueError, match=r'`log_std` must.*geometric mean.*C\.1.*"average".*"first"') as error:
        merge_checkpoints(folders, tmp_path / "merged")
    assert str([loss, loss]) in str(error.value)


def test_average_makes_sigma_a_geometric_mean(tmp_path):
    body = tiny_urm().model.state_dict()
    folders = []
    for seed in range(2):  # the same body, so that both heads read the same hidden state
        folders.append(save_member(tmp_path / str(seed), seed, attribute_loss="mle", log_std_bounds=None))
        edit_weights(folders[-1], lambda state: state.update({f"model.{key}": x.clone() for key, x in body.items()}))
    merge_checkpoints(folders, tmp_path / "merged", weights=[0.3, 0.7], log_std="average")
    models = [AutoModel.from_pretrained(folder) for folder in (*folders, tmp_path / "merged")]
    with torch.no_grad():
        stds = [model(**pad_rows(ROWS)).attribute_stds for model in models]
    torch.testing.assert_close(stds[2], stds[0] ** 0.3 * stds[1] ** 0.7)


@pytest.mark.parametrize("losses", [("mle", "mle"), ("mle", "regression"), ("regression", "regression")])
def test_first_keeps_the_first_member_s_rows_and_averages_the_rest(tmp_path, losses):
    folders = [save_member(tmp_path / str(i), i, attribute_loss=loss) for i, loss in enumerate(losses)]
    result = merge_checkpoints(folders, tmp_path / "merged", log_std="first")
    expected = mean_state(folders, [0.5, 0.5])
    expected[VALUE][3:] = read_state(folders[0])[VALUE][3:]
    assert_equal_states(read_state(tmp_path / "merged"), expected)
    assert result.log_std == "first"


@pytest.mark.parametrize(
    "losses, log_std", [(["mle", "regression"], "average"), (["regression", "deterministic"], None)]
)
def test_log_stds_of_different_losses_are_not_averaged(tmp_path, losses, log_std):
    folders = [save_member(tmp_path / str(i), i, attribute_loss=loss) for i, loss in enumerate(losses)]
    with pytest.raises(ValueError, match=re.escape(f"differ in `attribute_loss`, {losses}") + '.*log_std="first"'):
        merge_checkpoints(folders, tmp_path / "merged", log_std=log_std)


def test_the_first_s_gate_is_kept_on_request(members, tmp_path):
    result = merge_checkpoints(members, tmp_path / "merged", weights=[0.25, 0.75], gate="first")
    expected = mean_state(members, [0.25, 0.75]) | {
        key: tensor for key, tensor in read_state(members[0]).items() if key.startswith("score.gate.")
    }
    assert_equal_states(read_state(tmp_path / "merged"), expected)
    assert URMForRewardModeling.from_pretrained(tmp_path / "merged").config.training["gate"] == result.gate == "first"
    assert result.differences["gate"][0][1] > 0.5  # still that between the members


# What else is in the folder


def test_the_config_is_the_first_s_and_tells_what_was_merged(tmp_path):
    folders = [save_member(tmp_path / str(seed), seed, training={"seed": seed}) for seed in range(2)]
    merge_checkpoints(folders, tmp_path / "merged", weights=[0.25, 0.75])
    before, after = (json.loads((Path(x) / "config.json").read_text()) for x in (folders[0], tmp_path / "merged"))
    assert after.pop("training") == {
        "merged_from": [
            {"name": "0", "revision": None, "weight": 0.25, "training": {"seed": 0}},
            {"name": "1", "revision": None, "weight": 0.75, "training": {"seed": 1}},
        ],
        "log_std": "average",
        "gate": "average",
    }
    del before["training"]
    assert after == before


def test_the_folder_names_no_place_of_this_machine(members, tmp_path, monkeypatch):
    monkeypatch.chdir(members[0])
    merge_checkpoints([".", "../seed-1"], tmp_path / "merged")
    text = (tmp_path / "merged" / "config.json").read_text()
    assert [source["name"] for source in json.loads(text)["training"]["merged_from"]] == ["seed-0", "seed-1"]
    assert not any(place in text for place in (str(tmp_path), '".', "../"))


def test_the_folder_holds_what_save_pretrained_writes(members, tmp_path):
    merge_checkpoints(members, tmp_path / "merged")
    assert sorted(x.name for x in (tmp_path / "merged").iterdir()) == sorted(
        x.name for x in Path(members[0]).iterdir()
    )


def test_code_comes_from_the_package_and_never_from_a_member(members, tmp_path):
    for member in members:
        (Path(member) / "modeling_urm.py").write_text("raise RuntimeError('not to be copied')")
    merge_checkpoints(members, tmp_path / "merged")
    source = Path(merging.__file__).parent / "modeling"
    for name in ("configuration_urm.py", "distributions_urm.py", "head_urm.py", "modeling_urm.py"):
        assert (tmp_path / "merged" / name).read_text() == (source / name).read_text()


def test_the_tokenizer_is_the_first_s(members, tmp_path):
    edit_json(Path(members[0]) / "tokenizer_config.json", padding_side="left")
    merge_checkpoints(members, tmp_path / "merged")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    assert (tokenizer.padding_side, tokenizer.chat_template) == ("left", tiny_tokenizer().chat_template)


def test_the_merged_model_can_be_merged_again(members, tmp_path):
    merge_checkpoints(members, tmp_path / "merged")
    merge_checkpoints([str(tmp_path / "merged"), members[0]], tmp_path / "again")
    assert_equal_states(read_state(tmp_path / "again"), mean_state([str(tmp_path / "merged"), members[0]], [0.5, 0.5]))


def test_the_result_measures_how_far_apart_the_members_were(members, tmp_path):
    result = merge_checkpoints(members, tmp_path / "merged")
    states = [read_state(member) for member in members]
    for part, prefix in (("all", ""), ("body", "model."), ("value head", VALUE), ("gate", "score.gate.")):
        a, b = (torch.cat([state[key].flatten() for key in state if key.startswith(prefix)]) for state in states)
        expected = (a - b).norm() / ((a.norm() ** 2 + b.norm() ** 2) / 2).sqrt()
        assert result.differences[part] == [[0, pytest.approx(expected.item(), rel=1e-4)]] + [
            [pytest.approx(expected.item(), rel=1e-4), 0]
        ]
    assert result.parameters == URMForRewardModeling.from_pretrained(members[0]).num_parameters()


# Repositories


def test_a_repository_is_pinned_and_its_commit_is_recorded(members, tmp_path, monkeypatch):
    calls = []

    def snapshot_download(name, revision, allow_patterns, **kwargs):
        calls.append((name, revision, kwargs))
        assert not any("bin" in pattern or pattern.endswith(".py") for pattern in allow_patterns)
        return shutil.copytree(members[0], tmp_path / "snapshots" / "c0ffee")

    monkeypatch.setattr(checkpoint_files, "snapshot_download", snapshot_download)
    result = merge_checkpoints(
        ["org/urm", members[1]], tmp_path / "merged", revisions=["v1", None], token="t", local_files_only=True
    )
    assert calls == [("org/urm", "v1", {"token": "t", "local_files_only": True})]
    assert result.revisions == ["c0ffee", None]
    config = json.loads((tmp_path / "merged" / "config.json").read_text())
    sources = [(source["name"], source["revision"]) for source in config["training"]["merged_from"]]
    assert sources == [("org/urm", "c0ffee"), ("seed-1", None)]


def test_a_repository_is_read_from_the_cache(members, tmp_path, monkeypatch):
    repository, commit = tmp_path / "hub" / "models--org--urm", "1234567890" * 4
    blobs, snapshot = repository / "blobs", repository / "snapshots" / commit
    shutil.copytree(members[0], blobs)
    snapshot.mkdir(parents=True)
    for blob in blobs.iterdir():
        (snapshot / blob.name).symlink_to(blob)
    (repository / "refs").mkdir()
    (repository / "refs" / "v1").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    result = merge_checkpoints(["org/urm", members[1]], tmp_path / "merged", revisions=["v1", None])
    assert result.revisions == [commit, None]
    assert_equal_states(read_state(tmp_path / "merged"), mean_state(members, [0.5, 0.5]))
    assert [path for path in (tmp_path / "merged").iterdir() if path.is_symlink()] == []


def test_a_revision_of_a_folder_is_refused(members, tmp_path):
    with pytest.raises(ValueError, match="`revision` pins .*seed-1 to 'v1', but it is a folder"):
        merge_checkpoints(members, tmp_path / "merged", revisions=[None, "v1"])


@pytest.mark.parametrize("name", ["/nowhere/urm", "./nowhere", "a/b/c"])
def test_a_missing_folder_is_not_looked_for_on_the_hub(members, tmp_path, name):
    with pytest.raises(FileNotFoundError, match=f"{name}: no such folder"):
        merge_checkpoints([members[0], name], tmp_path / "merged")


# Memory and crashes


def test_at_most_one_tensor_of_each_member_and_one_shard_are_in_memory(tmp_path, monkeypatch):
    folders = [save_member(tmp_path / str(seed), seed, max_shard_size="50KB") for seed in range(3)]
    alive, most, shards, written = [], [], [], []

    class Spy(OpenedFile):
        def get_tensor(self, key):
            array = self.file.get_tensor(key).numpy().copy()  # lives as long as any tensor or view that reads it
            alive.append(key)
            weakref.finalize(array, alive.remove, key)
            most.append(len(alive))
            assert set(alive) == {key} or set(alive) == {"score.feature_mean", "score.feature_scale"}
            return torch.from_numpy(array)

    def save(tensors, *args, **kwargs):
        assert [tensor for shard in shards for tensor in shard if tensor() is not None] == []
        shards.append([weakref.ref(tensor) for tensor in tensors.values()])
        written.append(sum(tensor.nbytes for tensor in tensors.values()))
        save_file(tensors, *args, **kwargs)

    monkeypatch.setattr(checkpoint_files, "safe_open", Spy)
    monkeypatch.setattr(checkpoint_files, "save_file", save)
    merge_checkpoints(folders, tmp_path / "merged", max_shard_size="70KB")
    assert max(most) == 3
    assert alive == []
    assert len(written) > 1
    assert max(written) <= 70_000


def test_a_crash_in_the_middle_leaves_nothing(members, tmp_path, monkeypatch):
    def fail_at_the_second(tensors, path, **kwargs):
        if "00002" in path.name:
            raise KeyboardInterrupt
        save_file(tensors, path, **kwargs)

    monkeypatch.setattr(checkpoint_files, "save_file", fail_at_the_second)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt):
        merge_checkpoints(members, tmp_path / "merged", max_shard_size="70KB")
    assert sorted(tmp_path.iterdir()) == before


def test_nothing_is_under_the_final_name_until_all_is_written(members, tmp_path, monkeypatch):
    seen = []

    def save(*args, **kwargs):
        seen.append((tmp_path / "x" / "m").exists())
        save_file(*args, **kwargs)

    monkeypatch.setattr(checkpoint_files, "save_file", save)
    merge_checkpoints(members, tmp_path / "x" / "m", max_shard_size="70KB")
    assert set(seen) == {False}
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["m"]


def test_a_refusal_leaves_nothing(members, tmp_path):
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ValueError, match="identical"):
        merge_checkpoints([members[0], members[0]], tmp_path / "merged")
    assert sorted(tmp_path.iterdir()) == before


def test_an_empty_folder_is_filled(members, tmp_path):
    (tmp_path / "merged").mkdir()
    merge_checkpoints(members, tmp_path / "merged")
    assert (tmp_path / "merged" / "model.safetensors").exists()
    assert (tmp_path / "merged").stat().st_mode == Path(members[0]).stat().st_mode


@pytest.mark.parametrize("occupied", ["folder", "file"])
def test_an_existing_output_is_not_overwritten(members, tmp_path, occupied):
    output = tmp_path / "merged"
    if occupied == "folder":
        output.mkdir()
    kept = output / "note.txt" if occupied == "folder" else output
    kept.write_text("mine")
    with pytest.raises(FileExistsError, match="`output_dir` .*merged exists and is not an empty folder"):
        merge_checkpoints(members, output)
    assert kept.read_text() == "mine"


# Refusals


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_are_refused(members, tmp_path, count):
    with pytest.raises(ValueError, match="`checkpoints` must name at least two models"):
        merge_checkpoints(members[:count], tmp_path / "merged")


def test_one_name_is_not_taken_for_a_list(members, tmp_path):
    with pytest.raises(ValueError, match=r"at least two models, got \['.*seed-0'\]"):
        merge_checkpoints(members[0], tmp_path / "merged")


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"weights": [1.0]}, r"`weights` needs one entry for each of the 2 checkpoints, got \[1.0\]"),
        ({"weights": [1.5, -0.5]}, r"`weights` must be at least 0 and sum to 1, got \[1.5, -0.5\]"),
        ({"weights": [0.5, 0.6]}, r"sum to 1, got \[0.5, 0.6\] with the sum 1.1"),
        ({"weights": [0.5, 0.49999]}, "sum to 1"),
        ({"weights": [float("nan"), 1.0]}, "sum to 1"),
        ({"revisions": ["main"]}, "`revisions` needs one entry for each of the 2 checkpoints"),
        ({"gate": "second"}, '`gate` must be "average" or "first", got \'second\''),
        ({"gate": None}, '`gate` must be "average" or "first", got None'),
        ({"log_std": "geometric"}, '`log_std` must be "average", "first" or None, got \'geometric\''),
    ],
)
def test_arguments_that_do_not_fit_are_refused(members, tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        merge_checkpoints(members, tmp_path / "merged", **arguments)


WIDE = tiny_backbone_config(intermediate_size=128)
CONFIGS = {
    "attributes": ({"attributes": ["a", "b"]}, r"`attributes`: .*\['a', 'b', 'c'\], .* has \['a', 'b'\]"),
    "order": ({"attributes": ["b", "a", "c"]}, r"`attributes`: .*\['a', 'b', 'c'\], .* has \['b', 'a', 'c'\]"),
    "scales": ({"attribute_scales": {"a": [0, 4]}}, r"`attribute_scales`: .* has None, .* has \{'a': \[0.0, 4.0\]\}"),
    "gate": ({"gating_hidden_size": 16}, "`gating_hidden_size`: .* has 64, .* has 16"),
    "prior": ({"reward_weights": [0.5, 0.3, 0.2]}, r"`reward_weights`: .* has None, .* has \[0.5, 0.3, 0.2\]"),
    "bounds": ({"log_std_bounds": None}, r"`log_std_bounds`: .* has \[-4.0, 4.0\], .* has None"),
    "family": ({"family": "qwen2"}, "`backbone_config"),
    "width": ({"backbone": WIDE}, "`backbone_config.intermediate_size`: .* has 96, .* has 128"),
    "eps": ({"backbone": tiny_backbone_config(rms_norm_eps=1e-5)}, "rms_norm_eps`: .* has 1e-06, .* has 1e-05"),
    "pad": ({"backbone": tiny_backbone_config(pad_token_id=3)}, "pad_token_id`: .* has 256, .* has 3"),
    "means": (
        {"label_means": [0.0, 0.5, 0.0]},
        "label_means, .* by up to 0.5 times label_stds.*standardize_labels=False",
    ),
    "stds": ({"label_stds": [1.0, 1.0, 1.5]}, "label_stds, .* by up to 0.5 times label_stds"),
    "dtype": ({"dtype": torch.bfloat16}, r"shape or dtype of model.*torch\.float32.*torch\.bfloat16"),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_members_of_another_layout_are_refused(members, tmp_path, case):
    kwargs, message = CONFIGS[case]
    other = save_member(tmp_path / "other", 2, **kwargs)
    with pytest.raises(ValueError, match=f"(?s)Members differ in .*{message}"):
        merge_checkpoints([*members, other], tmp_path / "merged")


def test_a_body_that_only_regularises_otherwise_is_merged(members, tmp_path):
    backbone = tiny_backbone_config(attention_dropout=0.1, initializer_range=0.5, use_cache=False)
    merge_checkpoints([*members, save_member(tmp_path / "other", 2, backbone=backbone)], tmp_path / "merged")


def test_label_statistics_may_differ_by_rounding(tmp_path):
    folders = [save_member(tmp_path / str(i), i, label_stds=[x, 1.0, 2.0]) for i, x in enumerate((1.1, 1.1 + 4e-7))]
    merge_checkpoints(folders, tmp_path / "merged")


def extra_tensor(state):
    state["model.extra.weight"] = torch.zeros(2)


def other_shape(state):
    state["model.norm.weight"] = torch.zeros(32)


def other_features(state):
    state["score.feature_mean"] += 0.25


def other_feature_scale(state):
    state["score.feature_scale"][3] = 2.0


def nan_in_body(state):
    state["model.norm.weight"][5] = float("nan")


def infinity_in_head(state):
    state[VALUE][0, 0] = float("inf")


def quantised(state):
    state["model.norm.weight"] = torch.zeros(64, dtype=torch.int8)


def no_head(state):
    for key in [key for key in state if key.startswith("score.")]:
        del state[key]


WEIGHT_CHANGES = [
    (extra_tensor, r"Members differ in shape or dtype of model\.extra\.weight: .* has None, .* has \(\[2\]"),
    (other_shape, r"Members differ in shape or dtype of model\.norm\.weight: .* has \(\[64\].* has \(\[32\]"),
    (other_features, r"score\.feature_mean, .* by up to 0\.25 times score\.feature_scale"),
    (
        other_feature_scale,
        r"score\.feature_scale, .* by up to 1 times score\.feature_scale.*standardize_features=False",
    ),
    (nan_in_body, r"model\.norm\.weight of .*seed-1 has values that are not finite"),
    (infinity_in_head, r"score\.value\.weight of .*seed-1 has values that are not finite"),
    (quantised, r"model\.norm\.weight of .*seed-1 is I8; known are .*'BF16'"),
    (no_head, r"seed-1 has no score\.value\.weight: its head was not saved"),
]


@pytest.mark.parametrize("change, message", WEIGHT_CHANGES)
def test_tensors_that_cannot_be_averaged_are_named(members, tmp_path, change, message):
    edit_weights(members[1], change)
    with pytest.raises(ValueError, match=message):
        merge_checkpoints(members, tmp_path / "merged")


def test_equal_feature_statistics_are_kept(members, tmp_path):
    for member in members:
        edit_weights(member, other_features)
    merge_checkpoints(members, tmp_path / "merged")
    assert read_state(tmp_path / "merged")["score.feature_mean"].tolist() == [0.25] * 64


def test_two_members_with_identical_weights_are_named(members, tmp_path):
    copy = str(shutil.copytree(members[1], tmp_path / "copy"))
    with pytest.raises(ValueError, match="seed-1 and .*copy have identical weights: merging them would do nothing"):
        merge_checkpoints([*members, copy], tmp_path / "merged")


def test_members_with_the_same_head_but_another_body_are_merged(members, tmp_path):
    copy = str(shutil.copytree(members[0], tmp_path / "copy"))
    edit_weights(copy, lambda state: state["model.embed_tokens.weight"].mul_(2))
    merge_checkpoints([members[0], copy], tmp_path / "merged")


@pytest.mark.parametrize("model_type", ["llama", "urm_ensemble"])
def test_what_is_not_a_urm_is_refused(members, tmp_path, model_type):
    edit_json(Path(members[1]) / "config.json", model_type=model_type)
    with pytest.raises(ValueError, match=f"seed-1 is not a URM: its `model_type` is '{model_type}', not 'urm'"):
        merge_checkpoints(members, tmp_path / "merged")


def test_a_folder_without_config_is_refused(members, tmp_path):
    (Path(members[1]) / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match="seed-1 has no config.json. If it is an adapter, merge it"):
        merge_checkpoints(members, tmp_path / "merged")


def test_pickled_weights_are_refused_unread(members, tmp_path, monkeypatch):
    state = read_state(members[1])
    (Path(members[1]) / "model.safetensors").unlink()
    torch.save(state, Path(members[1]) / "pytorch_model.bin")
    monkeypatch.setattr(torch, "load", lambda *args, **kwargs: pytest.fail("unpickled"))
    with pytest.raises(
        ValueError, match=r"seed-1 has neither model\.safetensors .*pickled weights \(\.bin\) are never"
    ):
        merge_checkpoints(members, tmp_path / "merged")


@pytest.mark.parametrize("file", ["model-00002-of-00002.safetensors", "../seed-0/model.safetensors"])
def test_an_index_that_names_what_is_not_in_the_folder_is_refused(members, tmp_path, file):
    (Path(members[1]) / "model.safetensors").unlink()
    index = {"weight_map": dict.fromkeys(read_state(members[0]), file)}
    (Path(members[1]) / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(FileNotFoundError, match=f"seed-1 is incomplete: .* names '{file}'"):
        merge_checkpoints(members, tmp_path / "merged")


def emptied(path: Path):
    path.write_bytes(b"")


def cut_off(path: Path):
    path.write_bytes(path.read_bytes()[:-100])


def garbled(path: Path):
    path.write_bytes(b"\xff" * 4096)


@pytest.mark.parametrize("damage", [emptied, cut_off, garbled])
@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_damaged_file_is_named_in_one_line(members, tmp_path, capsys, file, damage):
    damage(Path(members[1]) / file)
    assert cli.main(["merge", *members, "--out", str(tmp_path / "merged")]) == 2
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 1
    assert error[0].startswith(f"urm merge: error: {members[1]}/{file} is damaged: ")


def change_template(folder: Path):
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text() + "{# 2 #}")


def change_vocabulary(folder: Path):
    content = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = content["model"]["vocab"]
    vocabulary["A"], vocabulary["B"] = vocabulary["B"], vocabulary["A"]
    (folder / "tokenizer.json").write_text(json.dumps(content))


def change_bos(folder: Path):
    edit_json(folder / "tokenizer_config.json", add_bos_token=True)


def drop_tokenizer(folder: Path):
    for file in folder.glob("tokenizer*"):
        file.unlink()


TOKENIZER_CHANGES = [
    (change_template, r"chat template: .* has \.\.\., .* has \.\.\.\{# 2 #\}"),
    (change_vocabulary, r"tokenizer\.json: model"),
    (change_bos, "add_bos_token: .* has None, .* has True"),
    (drop_tokenizer, r"tokenizer\.json"),
]


@pytest.mark.parametrize("change, message", TOKENIZER_CHANGES)
def test_members_with_another_tokenizer_are_refused(members, tmp_path, change, message):
    change(Path(members[1]))
    with pytest.raises(ValueError, match=f"Members differ in the tokenizer's {message}"):
        merge_checkpoints(members, tmp_path / "merged")


def test_a_template_inside_the_tokenizer_s_config_is_the_same_template(members, tmp_path):
    template = Path(members[1]) / "chat_template.jinja"
    edit_json(Path(members[1]) / "tokenizer_config.json", chat_template=template.read_text())
    template.unlink()
    merge_checkpoints(members, tmp_path / "merged")


def test_padding_left_over_in_a_tokenizer_does_not_matter(members, tmp_path):
    tokenizer = tiny_tokenizer()
    tokenizer(["a", "bcd"], padding=True, truncation=True, max_length=3)
    tokenizer.save_pretrained(members[1])
    merge_checkpoints(members, tmp_path / "merged")


# The command


def test_urm_merge_writes_a_model_and_tells_how_far_apart_the_members_were(members, tmp_path, capsys):
    out = str(tmp_path / "merged")
    assert cli.main(["merge", *members, "--out", out, "--weights", "0.25", "0.75"]) == 0
    assert_equal_states(read_state(out), mean_state(members, [0.25, 0.75]))
    printed = capsys.readouterr().out
    parameters = URMForRewardModeling.from_pretrained(out).num_parameters()
    assert f"{out}: 2 models merged, {parameters:,} parameters" in printed
    assert f"0.25 x {members[0]}\n" in printed
    assert f"0.75 x {members[1]}\n" in printed
    assert re.search(r"seed-0 - .*seed-1: all 1\.\d+, body 1\.\d+, value head 1\.\d+, gate 1\.\d+\n", printed)
    assert f"urm train gating --model_name_or_path {out}" in printed


def test_urm_merge_keeps_the_first_s_log_stds_and_shards(tmp_path, capsys):
    folders = [save_member(tmp_path / str(seed), seed, attribute_loss="mle") for seed in range(2)]
    out = str(tmp_path / "merged")
    assert cli.main(["merge", *folders, "--out", out, "--log-std", "first", "--max-shard-size", "70KB"]) == 0
    assert torch.equal(read_state(out)[VALUE][3:], read_state(folders[0])[VALUE][3:])
    assert f"log standard deviations: those of {folders[0]}" in capsys.readouterr().out
    assert (Path(out) / "model.safetensors.index.json").exists()


def test_urm_merge_keeps_the_first_s_gate(members, tmp_path, capsys):
    out = str(tmp_path / "merged")
    assert cli.main(["merge", *members, "--out", out, "--gate", "first"]) == 0
    assert torch.equal(read_state(out)["score.gate.0.weight"], read_state(members[0])["score.gate.0.weight"])
    printed = capsys.readouterr().out
    assert f"gate: that of {members[0]}\n" in printed
    assert "urm train gating" not in printed


def test_urm_merge_passes_revisions_and_tells_what_is_wrong_in_one_line(members, tmp_path, capsys):
    out = str(tmp_path / "merged")
    assert cli.main(["merge", *members, "--out", out, "--revision", "-", "v1"]) == 2
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 1
    assert error[0].startswith("urm merge: error: `revision` pins")
    assert cli.main(["merge", *members, "--out", out, "--revision", "-", "-"]) == 0


def test_urm_merge_is_listed_and_explains_itself(capsys):
    assert cli.main([]) == 0
    with pytest.raises(SystemExit) as exit:
        cli.main(["merge", "--help"])
    assert exit.value.code == 0
    printed = capsys.readouterr().out
    assert "  merge " in printed
    assert "--log-std" in printed

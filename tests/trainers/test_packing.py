"""Packed training against TRL's padded batches: gradients, losses, and what is refused."""

import copy
import random

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from torch.utils._python_dispatch import TorchDispatchMode
from trl import RewardTrainer

from tests.helpers.reward_runs import QUIET, STEP, answered_prompts, gradients, losses, tiny_reward_model, train_reward
from tests.helpers.tiny import FAMILIES, tiny_tokenizer, tiny_urm
from tests.helpers.tolerances import close
from tests.helpers.training import attribute_trainer, gating_trainer, logged, pair_rows, rated_rows
from urm_hf.scoring.engine.prefixes import pack_rows
from urm_hf.scoring.engine.running_pack import PACK, RunningPack
from urm_hf.trainers import URMRewardConfig, URMRewardTrainer
from urm_hf.trainers.packed_models import packed_batch

EQUAL = 1e-4  # of the norm of a tensor's gradient


@pytest.fixture(scope="module")
def rows() -> Dataset:
    return answered_prompts()


def difference(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> float:
    """The largest difference of a tensor's gradient, relative to its norm, or to the mean norm of all if that is 0."""
    assert found.keys() == expected.keys()
    typical = sum(float(gradient.norm()) for gradient in expected.values()) / len(expected)
    assert typical > 0
    scales = {name: max(float(gradient.norm()), 1e-3 * typical) for name, gradient in expected.items()}
    return max(float((found[name] - expected[name]).norm()) / scales[name] for name in expected)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("packing", ["tree", "flat"])
@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_are_those_of_trl(tmp_path, rows, family, packing, checkpointing):
    model = tiny_reward_model(family)
    settings = {"gradient_checkpointing": checkpointing}
    expected = gradients(RewardTrainer, model, rows, tmp_path, **settings)
    found = gradients(URMRewardTrainer, model, rows, tmp_path, packing=packing, **settings)
    assert difference(found, expected) < EQUAL


def test_reentrant_checkpointing_reads_the_pack_once_more(tmp_path, rows):
    model = tiny_reward_model()
    settings = {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": True}}
    expected = gradients(RewardTrainer, model, rows, tmp_path, gradient_checkpointing=False)
    assert difference(gradients(URMRewardTrainer, model, rows, tmp_path, packing="tree", **settings), expected) < EQUAL


@pytest.mark.parametrize("packing", ["tree", "flat", "none"])
def test_accumulated_gradients_are_those_of_one_batch(tmp_path, rows, packing):
    model = tiny_reward_model()
    whole = gradients(RewardTrainer, model, rows, tmp_path, per_device_train_batch_size=12)
    parts = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 3}
    found = gradients(URMRewardTrainer, model, rows, tmp_path, packing=packing, **parts)
    assert difference(found, whole) < EQUAL


@pytest.mark.parametrize("packing", ["tree", "none"])
def test_rows_weigh_the_same_in_micro_batches_of_any_size(tmp_path, rows, packing):
    """All rows in one step, in batches by tokens: the gradient of one batch of all."""
    model = tiny_reward_model()
    whole = gradients(RewardTrainer, model, rows, tmp_path, per_device_train_batch_size=len(rows))
    settings = {"max_tokens_per_step": 700, "gradient_accumulation_steps": 100, "packing": packing}
    made, _ = train_reward(URMRewardTrainer, model, rows, tmp_path, **settings)
    sizes = [made.count_batch_rows(batch) for batch in made.get_train_dataloader()]
    assert len(set(sizes)) > 1 and sum(sizes) == len(rows)
    assert difference(gradients(URMRewardTrainer, model, rows, tmp_path, **settings), whole) < EQUAL


@pytest.mark.parametrize("packing", ["tree", "flat"])
def test_an_adapter_gets_the_same_gradients(tmp_path, rows, packing):
    lora = LoraConfig(r=4, target_modules="all-linear", task_type="SEQ_CLS", init_lora_weights=False)
    found = []
    for trainer, more in ((RewardTrainer, {}), (URMRewardTrainer, {"packing": packing})):
        torch.manual_seed(0)
        config = {"optim": "sgd", "learning_rate": 1.0, "max_grad_norm": 0.0, "lr_scheduler_type": "constant"}
        made, model = train_reward(trainer, tiny_reward_model(), rows, tmp_path, peft_config=lora, **config, **more)
        found.append({name: weight for name, weight in model.named_parameters() if weight.requires_grad})
        assert made.packing == packing if more else True
    assert any("lora_A" in name for name in found[0])
    assert difference(found[1], found[0]) < EQUAL


def test_bfloat16_autocast_is_off_by_its_own_error(tmp_path, rows):
    """As far from float32 as a padded batch under autocast, not farther."""
    model = tiny_reward_model()
    exact = gradients(RewardTrainer, model, rows, tmp_path)
    padded = difference(gradients(RewardTrainer, model, rows, tmp_path, bf16=True), exact)
    packed = difference(gradients(URMRewardTrainer, model, rows, tmp_path, bf16=True, packing="tree"), exact)
    assert 0 < packed < 2 * padded


def test_compiled_models_get_the_same_gradients(tmp_path, rows):
    model = tiny_reward_model()
    expected = gradients(RewardTrainer, model, rows, tmp_path)
    settings = {"torch_compile": True, "torch_compile_backend": "aot_eager", "gradient_checkpointing": False}
    found = gradients(URMRewardTrainer, model, rows, tmp_path, packing="tree", **settings)
    assert difference({name.removeprefix("_orig_mod."): value for name, value in found.items()}, expected) < EQUAL


@pytest.mark.parametrize("packing", ["tree", "flat"])
def test_losses_of_a_run_are_those_of_trl(tmp_path, rows, packing):
    settings = {"max_steps": 6, "per_device_train_batch_size": 6, "data_seed": 3}
    theirs, _ = train_reward(RewardTrainer, tiny_reward_model(), rows, tmp_path, **settings)
    ours, _ = train_reward(URMRewardTrainer, tiny_reward_model(), rows, tmp_path, packing=packing, **settings)
    assert losses(ours) == pytest.approx(losses(theirs), rel=1e-4)
    names = ("accuracy", "margin", "mean_reward", "min_reward", "max_reward", "num_tokens")
    pairs = [entries for entries in zip(ours.state.log_history, theirs.state.log_history) if "loss" in entries[0]]
    assert len(pairs) == 6
    for mine, trl in pairs:
        for name in names:
            assert mine[name] == pytest.approx(trl[name], rel=1e-3, abs=1e-4), name


def test_margins_and_centred_rewards_are_those_of_trl(tmp_path, rows):
    rng = random.Random(0)
    rows = rows.add_column("margin", [rng.random() for _ in rows])
    model, settings = tiny_reward_model(), {"center_rewards_coefficient": 0.3}
    expected = gradients(RewardTrainer, model, rows, tmp_path, **settings)
    assert difference(gradients(URMRewardTrainer, model, rows, tmp_path, **settings), expected) < EQUAL


def test_both_stages_train_on_packs_as_they_do_on_padded_batches(tmp_path):
    for make in (
        lambda **more: attribute_trainer(tmp_path, rated_rows(24, depth=[None, 1, 2, [0, 3]] * 6), **more),
        lambda **more: gating_trainer(tmp_path, pair_rows(24), cache_features=False, **more),
    ):
        curves = {}
        for packing in ("tree", "flat", "none", None):
            trainer = make(max_steps=4, per_device_train_batch_size=8, packing=packing, learning_rate=1e-3)
            trainer.train()
            assert trainer.packing == (packing or "tree")
            curves[packing] = logged(trainer, "loss")
        assert len(curves["none"]) == 4
        assert all(curve == close(curves["none"]) for curve in curves.values())


def test_a_urm_trains_by_bradley_terry_as_it_does_with_trl(tmp_path, rows):
    model = tiny_urm()
    expected = gradients(RewardTrainer, model, rows, tmp_path)
    found = gradients(URMRewardTrainer, model, rows, tmp_path, packing="tree")
    assert difference(found, expected) < EQUAL


def test_fewer_tokens_are_computed_and_logged(tmp_path, rows):
    tokens = {}

    class CountTokens(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func is torch.ops.aten.embedding.default:
                tokens[packing] = tokens.get(packing, 0) + args[1].numel()
            return func(*args, **(kwargs or {}))

    for packing in ("tree", "flat", "none"):
        settings = {"packing": packing, "per_device_train_batch_size": 18, "gradient_checkpointing": False}
        made, _ = train_reward(URMRewardTrainer, tiny_reward_model(), rows, tmp_path, **settings)
        logged = [entry.get("computed_tokens") for entry in made.state.log_history if "loss" in entry]
        batch = next(iter(made.get_train_dataloader()))
        if packing == "tree":
            assert logged == [pytest.approx(batch[PACK].pack_length / (36 * max(batch[PACK].packed.lengths)))]
        with CountTokens():
            made.compute_loss(made.model, batch)
    sequences = [ids for column in ("chosen_ids", "rejected_ids") for ids in rows[column]]
    distinct = {tuple(ids[:end]) for ids in sequences for end in range(1, len(ids) + 1)}
    assert tokens["flat"] == pytest.approx(sum(map(len, sequences)), abs=64)  # packs of 64 tokens and more are rounded
    assert len(distinct) <= tokens["tree"] <= len(distinct) + 64 < tokens["flat"] < tokens["none"]


DROPOUT = "would share its dropout. Set the dropout to 0, or"


def dropping_model():
    model = tiny_reward_model()
    model.model.layers[0].mlp.act_fn = torch.nn.Sequential(model.model.layers[0].mlp.act_fn, torch.nn.Dropout(0.5))
    return model


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"packing": "trees"}, "`packing` must be one of tree, flat, none, got 'trees'"),
        ({"packed_attention": "flash"}, "`packed_attention` must be one of auto, spans, blocks, got 'flash'"),
        ({"max_tokens_per_step": 0}, "`max_tokens_per_step` must be at least 1, got 0"),
        ({"max_tokens_per_step": 50}, "row 0 of those that train takes .* more than `max_tokens_per_step` \\(50\\)"),
    ],
)
def test_bad_settings_are_told(tmp_path, rows, settings, message):
    with pytest.raises(ValueError, match=message):
        train_reward(URMRewardTrainer, tiny_reward_model(), rows, tmp_path, **settings)


@pytest.mark.parametrize(
    "model, settings, message",
    [
        (dropping_model, {"disable_dropout": False}, DROPOUT),
        (lambda: tiny_reward_model(attention_dropout=0.1), {}, "is not plain causal attention"),
        (lambda: tiny_reward_model("opt", dropout=0.1, word_embed_proj_dim=64, ffn_dim=96), {}, DROPOUT),
        (lambda: tiny_reward_model("mistral", sliding_window=40), {}, "exceeds the attention window of 40"),
        (lambda: tiny_reward_model(_attn_implementation="eager"), {}, "has the attention 'eager'"),
        (tiny_reward_model, {"neftune_noise_alpha": 5.0}, "NEFTune scales its noise"),
    ],
)
def test_what_cannot_be_packed_is_refused_or_padded(tmp_path, rows, model, settings, message):
    with pytest.raises(ValueError, match=f'`packing="tree"`: .*{message}'):
        train_reward(URMRewardTrainer, model(), rows, tmp_path, packing="tree", **settings)
    made, _ = train_reward(URMRewardTrainer, model(), rows, tmp_path, **settings)
    assert made.packing == ("flat" if message == DROPOUT else "none")


def test_a_collator_of_ones_own_makes_the_batches(tmp_path, rows):
    from trl.trainer.reward_trainer import DataCollatorForPreference

    def make(**settings):
        args = URMRewardConfig(str(tmp_path), use_cpu=True, bf16=False, report_to="none", **settings)
        collator = DataCollatorForPreference(pad_token_id=0)
        tokenizer = tiny_tokenizer()
        return URMRewardTrainer(tiny_reward_model(), args, collator, train_dataset=rows, processing_class=tokenizer)

    assert make().packing == "none"
    with pytest.raises(ValueError, match="the `data_collator` that was passed makes the batches"):
        make(packing="flat")


def test_streams_have_no_groups(tmp_path, rows):
    stream = rows.to_iterable_dataset()
    made, _ = train_reward(URMRewardTrainer, tiny_reward_model(), stream, tmp_path)
    assert made.packing == "tree"
    with pytest.raises(ValueError, match="`max_tokens_per_step` groups rows that begin alike"):
        train_reward(URMRewardTrainer, tiny_reward_model(), stream, tmp_path, max_tokens_per_step=500)


def test_a_pack_that_gets_lost_is_an_error(tmp_path, rows):
    """A model between trainer and backbone that hands nothing on would be trained on the last tokens alone."""
    made, _ = train_reward(URMRewardTrainer, tiny_reward_model(), rows, tmp_path)
    forward = made.model.forward
    made.model.forward = lambda urm_pack=None, **inputs: forward(**inputs)
    with pytest.raises(RuntimeError, match="was not handed the pack of this batch"):
        made.run_model(made.model, packed_batch([[1, 2, 3], [1, 2, 4]], share=True))


def test_back_ends_are_checked_where_a_pack_is_made():
    with pytest.raises(ValueError, match="must be one of auto, spans, blocks, got 'flash'"):
        RunningPack(pack_rows([[1]], share=True), "flash")


@pytest.mark.parametrize("packing", ["tree", "flat"])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_rows_that_end_in_the_padding_token_are_read_as_by_trl(tmp_path, rows, family, packing):
    """With `pad_token = eos_token` classifiers of transformers read the token before the last."""
    pad = tiny_tokenizer().pad_token_id
    ending = rows.map(
        lambda row, index: {side: ids + [pad] * (index % 3) for side, ids in row.items()}, with_indices=True
    )
    model = tiny_reward_model(family, pad_token_id=pad)
    expected = gradients(RewardTrainer, model, ending, tmp_path)
    found = gradients(URMRewardTrainer, model, ending, tmp_path, packing=packing)
    assert difference(found, expected) < EQUAL


def test_a_urm_reads_the_padding_token_at_the_end(tmp_path, rows):
    pad = tiny_tokenizer().pad_token_id
    ending = rows.map(lambda row: {side: [*ids, pad] for side, ids in row.items()})
    found, expected = (
        gradients(URMRewardTrainer, tiny_urm(), ending, tmp_path, packing=packing) for packing in ("tree", "none")
    )
    assert difference(found, expected) < EQUAL


def test_windows_hold_for_streams_and_for_what_is_evaluated(tmp_path, rows):
    model = tiny_reward_model("mistral", sliding_window=40)
    short = rows.map(lambda row: {side: ids[-20:] for side, ids in row.items()})

    def build(dataset, **settings):
        args = URMRewardConfig(str(tmp_path), **(QUIET | STEP | settings))
        return URMRewardTrainer(
            copy.deepcopy(model), args, train_dataset=dataset, eval_dataset=short, processing_class=tiny_tokenizer()
        )

    assert build(short).packing == "tree"
    assert build(short.to_iterable_dataset(), max_length=40).packing == "tree"
    assert build(short.to_iterable_dataset()).packing == "none"
    trainer = build(short)
    with pytest.raises(ValueError, match="exceeds the attention window of 40"):
        trainer.evaluate(rows)
    args = URMRewardConfig(str(tmp_path), **(QUIET | STEP))
    trainer = URMRewardTrainer(model, args, train_dataset=short, eval_dataset=rows, processing_class=tiny_tokenizer())
    assert trainer.packing == "none"


def test_what_transformers_counts_is_of_the_conversations(tmp_path, rows):
    settings = {"include_num_input_tokens_seen": "non_padding"}
    packed, padded = (
        train_reward(URMRewardTrainer, tiny_reward_model(), rows, tmp_path, packing=packing, **settings)[0]
        for packing in ("tree", "none")
    )
    assert packed.state.num_input_tokens_seen == padded.state.num_input_tokens_seen
    assert 0.3 * padded.state.total_flos < packed.state.total_flos < padded.state.total_flos

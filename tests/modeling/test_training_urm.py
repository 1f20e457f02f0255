"""The model in other tools' hands: gradients, TRL's trainer and rewards."""

import math

import pytest
import torch
from datasets import Dataset
from transformers import AutoTokenizer
from trl import RewardConfig, RewardTrainer

from tests.helpers.tiny import PAD, pad_rows, save_with_tokenizer, tiny_tokenizer, tiny_urm
from tests.helpers.tolerances import assert_close, close
from tests.helpers.urm_numbers import ROWS, rewards_alone, run
from urm_hf.modeling import URMForRewardModeling


def gradients(model: URMForRewardModeling) -> dict[str, torch.Tensor]:
    model.train()
    model(**pad_rows(ROWS)).logits.square().mean().backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.filterwarnings("ignore:.gradient_checkpointing_enable. is deprecated:FutureWarning")  # new in 5, not in 4
def test_gradient_checkpointing_runs_the_layers_twice_and_gives_the_same_gradients():
    plain, checkpointed = tiny_urm(), tiny_urm()
    checkpointed.gradient_checkpointing_enable()
    calls = []
    checkpointed.model.layers[0].mlp.register_forward_pre_hook(lambda *_: calls.append(1))
    assert_close(gradients(checkpointed), gradients(plain))
    assert len(calls) == 2


def preference_pairs() -> list[dict]:
    def turn(answer):
        return [{"role": "user", "content": "Say it."}, {"role": "assistant", "content": answer}]

    return [{"chosen": turn("yes" * (i + 1)), "rejected": turn("no" * (4 - i))} for i in range(4)]


def train_one_step(model, output_dir) -> float:
    """One step of TRL's own RewardTrainer, which knows nothing of URMs; returns its loss."""
    config = RewardConfig(
        output_dir=str(output_dir),
        max_steps=1,
        per_device_train_batch_size=4,
        learning_rate=1e-2,
        report_to="none",
        save_strategy="no",
        use_cpu=True,
        bf16=False,
        disable_tqdm=True,
    )
    dataset = Dataset.from_list(preference_pairs())
    trainer = RewardTrainer(model=model, args=config, train_dataset=dataset, processing_class=tiny_tokenizer())
    loss = trainer.train().training_loss
    trainer.save_model(str(output_dir))
    return loss


def bradley_terry_loss(model: URMForRewardModeling) -> float:
    tokenizer = tiny_tokenizer()
    margins = []
    for pair in preference_pairs():
        chosen, rejected = (
            tokenizer.apply_chat_template(pair[side], return_dict=True)["input_ids"] for side in ("chosen", "rejected")
        )
        rewards = rewards_alone(model, [chosen, rejected]).squeeze(-1).tolist()
        margins.append(rewards[0] - rewards[1])
    return sum(math.log1p(math.exp(-margin)) for margin in margins) / len(margins)


@pytest.mark.filterwarnings("ignore:.gradient_checkpointing:FutureWarning")  # RewardConfig's own default
def test_trl_s_reward_trainer_trains_a_loaded_urm(saved_urm, tmp_path):
    model = URMForRewardModeling.from_pretrained(saved_urm)
    assert train_one_step(model, tmp_path / "run") == close(bradley_terry_loss(tiny_urm()))
    trained = URMForRewardModeling.from_pretrained(tmp_path / "run")
    for name, before in tiny_urm().named_parameters():
        assert name.endswith("embed_tokens.weight") or not torch.equal(trained.get_parameter(name), before), name


def test_trl_s_get_reward_reads_score_at_every_token(saved_urm, monkeypatch):
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    from trl.experimental.utils import get_reward

    model, ended = URMForRewardModeling.from_pretrained(saved_urm), ROWS[1]
    ids = torch.tensor([ended + [PAD] * 2])
    with torch.no_grad():
        _, reward, _ = get_reward(model, ids, PAD, context_length=4)
    assert_close(reward, rewards_alone(model, [ended])[:, 0])


def test_the_saved_folder_scores_a_chat_with_its_own_tokenizer(tmp_path):
    model = tiny_urm()
    folder = save_with_tokenizer(model, tmp_path / "urm")
    batch = AutoTokenizer.from_pretrained(folder).apply_chat_template(
        [pair["chosen"] for pair in preference_pairs()], return_tensors="pt", return_dict=True, padding=True
    )
    rows = [ids[mask.bool()].tolist() for ids, mask in zip(batch["input_ids"], batch["attention_mask"])]
    assert_close(run(model, **batch).logits, rewards_alone(model, rows))

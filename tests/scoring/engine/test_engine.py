"""What the scorer saves, with the same rewards as one conversation at a time."""

import random
import sys

import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2ForSequenceClassification,
    LlamaForSequenceClassification,
    MistralForSequenceClassification,
    Qwen3ForSequenceClassification,
)

from tests.helpers.branching import branching, rewards, rewards_alone
from tests.helpers.tiny import FAMILIES, pad_rows, save_with_tokenizer, tiny_backbone_config, tiny_tokenizer, tiny_urm
from tests.helpers.tolerances import close
from urm_hf import RewardScorer, URMEnsemble
from urm_hf.modeling import URMForRewardModeling
from urm_hf.scoring.engine.batches import Packs, PaddedBatches

PROMPTS = ["Name a river in the north of Italy, and one in the south.", "Write a line of code that adds two numbers."]
ANSWERS = ["The Po.", "The Po and the Volturno.", "The Po and the Volturno, which", "x = 1 + 2", "x = 1 + 3", "No."]
BESTOFN = [
    [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    for answer in ANSWERS
    for prompt in PROMPTS
]


@pytest.fixture
def used(monkeypatch) -> list[type]:
    """The kinds of batches that ran."""
    kinds: list[type] = []
    for kind in (Packs, PaddedBatches):
        run = kind.run
        monkeypatch.setattr(kind, "run", lambda self, *a, run=run, kind=kind: kinds.append(kind) or run(self, *a))
    return kinds


# The same rewards


@pytest.mark.parametrize("budget", [1, 90, 300, None])
@pytest.mark.parametrize("family", FAMILIES)
def test_rewards_are_those_of_each_conversation_alone(family, budget, used):
    model = tiny_urm(
        family, backbone=tiny_backbone_config(family, **({"sliding_window": None} if family == "mistral" else {}))
    )
    scorer = RewardScorer(model, tiny_tokenizer(), max_tokens_per_batch=budget)
    for rows in (BESTOFN, branching(1)):
        assert rewards(scorer.score(rows)) == close(rewards_alone(model, rows))
    assert set(used) == {Packs}


@pytest.mark.parametrize("seed", range(10))
def test_rewards_of_random_trees(seed):
    model, rows = tiny_urm("qwen3"), branching(seed)
    scorer = RewardScorer(model, tiny_tokenizer(), max_tokens_per_batch=random.Random(seed).randint(20, 1000))
    assert rewards(scorer.score(rows)) == close(rewards_alone(model, rows))


def test_a_window_shorter_than_the_conversations_gets_padded_batches(used, caplog):
    caplog.set_level("DEBUG", logger="urm_hf")
    model = tiny_urm("mistral")  # every token sees four
    assert rewards(RewardScorer(model, tiny_tokenizer()).score(BESTOFN)) == close(rewards_alone(model, BESTOFN))
    assert set(used) == {PaddedBatches}
    assert "exceed the attention window" in caplog.text


@pytest.mark.parametrize("budget", [50, 100, None])
def test_only_conversations_beyond_the_window_get_padded_batches(monkeypatch, budget):
    padded, packed, run, pack = [], [], PaddedBatches.run, Packs.run
    monkeypatch.setattr(PaddedBatches, "run", lambda self, *a: padded.extend(self.sequences) or run(self, *a))
    monkeypatch.setattr(Packs, "run", lambda self, *a: packed.extend(self.sequences) or pack(self, *a))
    model = tiny_urm(backbone=tiny_backbone_config("mistral", sliding_window=60))
    rows = branching(3, 60)
    scorer = RewardScorer(model, tiny_tokenizer(), max_tokens_per_batch=budget)
    assert rewards(scorer.score(rows)) == close(rewards_alone(model, rows))
    ids = {tuple(row["input_ids"]) for row in rows}
    assert set(padded) == {row for row in ids if len(row) > 60} and len(set(padded)) > 5
    assert set(packed) == {row for row in ids if len(row) <= 60} and len(set(packed)) > 5
    distinct = len({row[: n + 1] for row in set(packed) for n in range(len(row))}) + sum(map(len, set(padded)))
    assert scorer.stats["computed_tokens"] >= distinct  # what long ones share with short ones is computed again


def test_a_conversation_without_tokens_is_refused():
    scorer = RewardScorer(tiny_urm(), tiny_tokenizer())
    with pytest.raises(ValueError, match="without tokens"):
        scorer.score_ids([[5, 6], []])


@pytest.mark.parametrize(
    "kind, family",
    [
        (LlamaForSequenceClassification, "llama"),
        (GPT2ForSequenceClassification, "gpt2"),
        (Qwen3ForSequenceClassification, "qwen3"),
        (MistralForSequenceClassification, "mistral"),
    ],
)
def test_scalar_reward_models_share_prefixes_too(kind, family, used):
    torch.manual_seed(0)
    window = {"sliding_window": None} if family == "mistral" else {}
    model = kind(tiny_backbone_config(family, num_labels=1, **window)).eval()
    scores = RewardScorer(model, tiny_tokenizer(), max_tokens_per_batch=300).score(BESTOFN)
    assert rewards(scores) == close(rewards_alone(model, BESTOFN))
    assert set(used) == {Packs}


def test_an_encoder_is_scored_in_padded_batches(used):
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    model = BertForSequenceClassification(
        BertConfig(vocab_size=260, num_labels=1, initializer_range=0.2, **shape)
    ).eval()
    scores = RewardScorer(model, tiny_tokenizer()).score(BESTOFN)
    assert rewards(scores) == close(rewards_alone(model, BESTOFN))
    assert set(used) == {PaddedBatches}


# What is saved


def test_equal_conversations_are_computed_once():
    scorer = RewardScorer(tiny_urm(), tiny_tokenizer())
    scores = scorer.score(["abc", "x", "abc", "abc"])
    assert rewards(scores)[0] == rewards(scores)[2] == rewards(scores)[3]
    assert scorer.stats["computed_tokens"] == 4
    assert (scorer.stats["conversations"], scorer.stats["duplicates"], scorer.stats["tokens"]) == (4, 2, 10)


def test_common_prefixes_are_computed_once():
    scorer = RewardScorer(tiny_urm(), tiny_tokenizer())
    prompt = list(range(100))
    scorer.score([{"input_ids": prompt + [token] * 3} for token in range(10)])
    assert scorer.stats["tokens"] == 1030
    assert scorer.stats["computed_tokens"] == scorer.stats["distinct_tokens"] == 130


def test_distinct_tokens_are_the_distinct_prefixes():
    rows = branching(5)
    scorer = RewardScorer(tiny_urm(), tiny_tokenizer())
    scorer.score(rows)
    ids = [tuple(row["input_ids"]) for row in rows]
    assert scorer.stats["distinct_tokens"] == len({row[: n + 1] for row in ids for n in range(len(row))})
    assert scorer.stats["computed_tokens"] >= scorer.stats["distinct_tokens"]


def test_padding_counts_as_computed():
    scorer = RewardScorer(tiny_urm("mistral"), tiny_tokenizer())
    scorer.score(["a" * 10, "b" * 6])
    assert scorer.stats["computed_tokens"] == 20


def test_the_progress_bar_shows_speed_and_what_is_saved(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    prompt = list(range(90))
    rows = [{"input_ids": prompt + [token] * 10} for token in range(10)]
    RewardScorer(tiny_urm(), tiny_tokenizer()).score(rows, progress=True)
    shown = capsys.readouterr().err
    assert "10/10" in shown and "tokens/s" in shown
    assert "81% of tokens saved" in shown  # 1 - (90 + 10 * 10) / 1000


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama", "mistral"])
def test_compiled_layers_give_the_same_rewards(family):
    model = tiny_urm(family)
    scorer = RewardScorer(model, tiny_tokenizer(), max_tokens_per_batch=300, compile=True)
    for rows in (BESTOFN, branching(1)):
        assert rewards(scorer.score(rows)) == close(rewards_alone(tiny_urm(family), rows))
    assert all(layer._compiled_call_impl is not None for layer in model.model.layers)


# Ensembles


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> list[str]:
    """Three members with other heads on one backbone."""
    folder = tmp_path_factory.mktemp("heads")
    first = tiny_urm()
    saved = []
    for seed in range(3):
        member = tiny_urm(seed=seed)
        member.model.load_state_dict(first.model.state_dict())
        saved.append(save_with_tokenizer(member, folder / f"member-{seed}"))
    return saved


@pytest.mark.parametrize("strategy, passes", [("resident", 3), ("sequential", 3), ("shared", 1)])
def test_every_strategy_gives_the_ensembles_own_output(folders, strategy, passes):
    rows = branching(4)
    scorer = RewardScorer(URMEnsemble.from_pretrained(folders, strategy=strategy, aggregation="min"))
    scores = scorer.score(rows)
    expected = URMEnsemble.from_pretrained(folders, aggregation="min")
    for row, score in zip(rows, scores, strict=True):
        with torch.no_grad():
            output = expected(**pad_rows([row["input_ids"]]))
        assert score.reward == close(output.logits.item())
        assert score.member_rewards == close(output.rewards[:, 0].tolist())
        assert score.reward_gap == close(output.reward_gap.item())
        assert score.covariance_norm == pytest.approx(output.covariance_norm.item(), rel=1e-4)
    assert scorer.stats["passes"] == passes
    assert scorer.stats["computed_tokens"] >= passes * scorer.stats["distinct_tokens"]


def test_members_are_loaded_once_for_a_whole_dataset(folders, monkeypatch):
    ensemble = URMEnsemble.from_pretrained(folders, strategy="sequential")
    loaded = []
    load = URMForRewardModeling.from_pretrained

    def counted(name, *args, **kwargs):
        loaded.append(name)
        return load(name, *args, **kwargs)

    monkeypatch.setattr(URMForRewardModeling, "from_pretrained", counted)
    RewardScorer(ensemble, max_tokens_per_batch=100).score(branching(6))
    assert loaded == folders


def test_one_backbone_runs_once_in_padded_batches_too(folders, used, monkeypatch):
    monkeypatch.setattr("urm_hf.scoring.engine.model_pass.gives_same_states", lambda *arguments: False)
    ensemble = URMEnsemble.from_pretrained(folders, strategy="shared")
    expected = rewards_alone(URMEnsemble.from_pretrained(folders), BESTOFN)
    assert rewards(RewardScorer(ensemble).score(BESTOFN)) == close(expected)
    assert set(used) == {PaddedBatches}

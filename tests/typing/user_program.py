"""A program that uses every public name: `mypy --strict` finds nothing in it, and it runs, on tiny models."""

import sys
from typing import Any

from datasets import Dataset

import urm_hf
from urm_hf import RewardScorer, URMConfig, URMEnsemble, URMEnsembleConfig, URMForRewardModeling
from urm_hf.trainers import (
    URMAttributeConfig,
    URMAttributeTrainer,
    URMGatingConfig,
    URMGatingTrainer,
    URMRewardConfig,
    URMRewardTrainer,
)

ROWS = [{"prompt": f"What is {i} + {i}?", "response": f"It is {2 * i}."} for i in range(12)]
BAD = [row | {"response": "No."} for row in ROWS]


def train(folder: str, out: str, settings: dict[str, Any]) -> None:
    rated = Dataset.from_list([row | {"helpfulness": i % 4, "clarity": [i % 3, 1]} for i, row in enumerate(ROWS)])
    pairs = Dataset.from_list([{"prompt": row["prompt"], "chosen": "Yes.", "rejected": "No."} for row in ROWS])
    URMRewardTrainer(
        folder, URMRewardConfig(out, max_steps=1, packing="tree", **settings), train_dataset=pairs
    ).train()
    names = ["helpfulness", "clarity"]
    stage_1 = URMAttributeConfig(out, freeze_backbone=True, attributes=names, num_train_epochs=1, **settings)
    URMAttributeTrainer(folder, stage_1, train_dataset=rated).save_model(out)
    stage_2 = URMGatingConfig(out, max_steps=2, **settings)
    gate_report: dict[str, tuple[float, float]] = URMGatingTrainer(out, stage_2, train_dataset=pairs).gate_report()
    assert set(gate_report) == set(names)


def look(scorer: RewardScorer, single: RewardScorer) -> list[float]:
    good: list[urm_hf.RewardScore] = scorer(ROWS)
    bad = scorer.score(BAD)
    sides = urm_hf.compute_uncertainty(good, measure="reward_std"), urm_hf.compute_uncertainty(bad, "reward_std")
    probability, gap = urm_hf.compute_preference_probability(good, bad), urm_hf.margin_gap(good, bad)
    fitted = urm_hf.fit_threshold(urm_hf.combine_pair_uncertainty(*sides), probability > 0.5)
    near_half = urm_hf.compute_pair_uncertainty(good, bad, "probability_near_half")
    kept = urm_hf.filter_scores(good, measure="epistemic", keep=0.5).select(ROWS)
    report = urm_hf.ood_report(good, bad, measures=[name for name in urm_hf.MEASURES if name != "total"])
    lower, _ = urm_hf.reward_interval(1.0, 0.5)
    numbers = [
        float(gap.max()),
        float(near_half.max()),
        lower,
        urm_hf.preference_probability(1.0, 0.5, 0.0, 0.5),
        report.rows[0].auroc,
    ]
    prompts, answers = [row["prompt"] for row in kept], [["Yes.", "No."] for _ in kept]
    dataset, pair_report = urm_hf.build_preference_pairs(prompts, answers, scorer)
    best = urm_hf.best_of_n(answers, prompts, None, scorer)
    rewards = [
        urm_hf.UncertaintyPenalizedReward(scorer, "reward_gap", coefficient=0.5),
        urm_hf.UncertaintyFilteredReward(scorer, "reward_gap", threshold=1.0),
        urm_hf.LowerConfidenceBoundReward(single, confidence=0.9),
        *urm_hf.AttributeRewards(single, ["helpfulness"]),
    ]
    numbers += [value for reward in rewards for value in reward(prompts, ["Yes."] * len(prompts)) if value is not None]
    some = urm_hf.filter_pairs(good, bad, measure="reward_std", keep=0.5)
    print(fitted, some, pair_report, len(dataset), best[0].answer)
    return numbers


def look_at_posterior(folder: str) -> list[float]:
    model: URMForRewardModeling = URMForRewardModeling.from_pretrained(folder)
    scorer = RewardScorer(folder)
    good, bad = (scorer.score(rows, return_posterior_features=True) for rows in (ROWS, BAD))
    unknown, probability = (
        compare(good, bad, model.score) for compare in (urm_hf.margin_epistemic_std, urm_hf.compute_joint_probability)
    )
    low, high = good[0].attribute_intervals(level=0.5)["clarity"]
    return [float(unknown.max()), float(probability.max()), low, high]


def main(folders: list[str], out: str, adapter: str | None = None, url: str | None = None) -> None:
    train(folders[0], f"{out}/trained", {"report_to": "none", "use_cpu": True, "disable_tqdm": True})
    merged: str = str(urm_hf.merge_checkpoints(folders, f"{out}/merged", log_std="average").log_std)
    model: URMForRewardModeling = URMForRewardModeling.from_pretrained(folders[0])
    config: URMConfig = model.config
    ensemble: URMEnsemble = URMEnsemble.from_pretrained(folders)
    ensemble_config: URMEnsembleConfig = ensemble.config
    numbers = look(RewardScorer(folders), RewardScorer(folders[0])) + look_at_posterior(f"{out}/trained")
    output: urm_hf.URMOutput = model(input_ids=model.dummy_inputs["input_ids"])
    both: urm_hf.URMEnsembleOutput = ensemble.combine([output] * len(folders))
    pushed = urm_hf.push(folders[0], "org/urm", dry_run=True)
    checks = [check for check in urm_hf.verify(folders[0]) if check.ok is False]
    if adapter is not None:
        model = urm_hf.load_adapter(adapter)
    if url is not None:
        distant: list[urm_hf.RewardScore] = urm_hf.RemoteScorer(url).score(ROWS)
        numbers += [score["reward"] for score in distant]
    print(merged, config.attributes, ensemble_config.members, both.logits, pushed.files, checks, max(numbers))


if __name__ == "__main__":
    main(sys.argv[2:], sys.argv[1])

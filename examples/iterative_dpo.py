"""
Iterative DPO in rounds: sample from the policy, let a URM or an ensemble pair the answers, train on the pairs, again.

    python examples/iterative_dpo.py --policy HuggingFaceTB/SmolLM2-135M-Instruct --reward org/urm-a org/urm-b \\
        --measure reward_gap --keep 0.5 --min_probability 0.6 --rounds 3 --out policies

Each round starts from the policy of the last, which is its reference too, and is saved: the same command goes on
where it was interrupted. Of all answers the share `--keep` is paired, those that the reward model is surest of (the
later version of the paper keeps half), or those whose measure is at most --threshold; pairs with P(chosen > rejected)
below the least probability are left out, and what was left out is printed. At the end a table says whether the reward
of new answers to the same prompts has risen, and their uncertainty: where both rise, the policy may have found what
the model gets wrong. examples/paper/dpo.py measures the same loop by a gold reward.
"""

import argparse
from pathlib import Path
from statistics import fmean

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer

from urm_hf import RewardScorer, URMEnsemble
from urm_hf.data import load_rows
from urm_hf.demo.data import questions
from urm_hf.rl.preference_pairs import build_preference_pairs


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", required=True, help="repository or folder of a chat model")
    parser.add_argument("--reward", required=True, nargs="+", help="a URM or an ensemble; several make an ensemble")
    parser.add_argument("--measure", help="of uncertainty; goes with --threshold or --keep")
    parser.add_argument("--threshold", type=float)
    parser.add_argument("--keep", type=float, help="share of the answers that is paired, the surest")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--min_probability", type=float, default=0.5, help="least P(chosen > rejected)")
    parser.add_argument("--prompts", help="file or dataset with a column `prompt` of messages; default: the demo's")
    parser.add_argument("--max_prompts", type=int)
    parser.add_argument("--candidates", type=int, default=8, help="answers to each prompt (default 8)")
    parser.add_argument("--max_new_tokens", type=int, default=128)
    parser.add_argument("--learning_rate", type=float, default=1e-6)
    parser.add_argument("--epochs", type=float, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    tokenizer = AutoTokenizer.from_pretrained(args.policy, padding_side="left")
    policy = AutoModelForCausalLM.from_pretrained(args.policy)
    scorer = RewardScorer(URMEnsemble.from_pretrained(args.reward) if len(args.reward) > 1 else args.reward[0])
    prompts = load_prompts(args.prompts)[: args.max_prompts]

    folders = [args.out / f"round-{number}" for number in range(1, args.rounds + 1)] if args.rounds > 1 else [args.out]
    done = sum((folder / "config.json").is_file() for folder in folders) if args.rounds > 1 else 0
    if done:
        policy = AutoModelForCausalLM.from_pretrained(folders[done - 1])
        print(f"{done} of {args.rounds} rounds are there")
    candidates = sample(policy.eval(), tokenizer, prompts, args)
    rows = [describe("before", prompts, candidates, scorer, args.measure)]
    for number, folder in enumerate(folders[done:], start=done + 1):
        policy = train_round(policy, tokenizer, prompts, candidates, scorer, args, folder)
        candidates = sample(policy.eval(), tokenizer, prompts, args)
        name = f"after round {number}" if args.rounds > 1 else "after"
        rows.append(describe(name, prompts, candidates, scorer, args.measure))
    print("| answers | reward | reward_std |" + (f" {args.measure} |" if args.measure else ""))
    print("\n".join(rows))
    print(f"Saved to {folders[-1]}")


def train_round(policy, tokenizer, prompts, candidates: list[list[str]], scorer: RewardScorer, args, folder: Path):
    """One round of DPO on the pairs of these candidates; the policy that it gives."""
    pairs, report = build_preference_pairs(
        prompts,
        candidates,
        scorer,
        measure=args.measure,
        threshold=args.threshold,
        keep=args.keep,
        min_probability=args.min_probability,
    )
    print(report)
    config = DPOConfig(
        str(folder),
        learning_rate=args.learning_rate,
        num_train_epochs=args.epochs,
        seed=args.seed,
        report_to="none",
        save_strategy="no",
        use_cpu=not torch.cuda.is_available(),
        bf16=torch.cuda.is_available(),
    )
    trainer = DPOTrainer(policy, args=config, train_dataset=pairs, processing_class=tokenizer)
    trainer.train()
    trainer.save_model(str(folder))
    return trainer.model


def load_prompts(name: str | None) -> list[list[dict]]:
    return load_rows(name, "train")["prompt"][:] if name is not None else questions()


@torch.inference_mode()
def sample(policy, tokenizer, prompts: list[list[dict]], args, batch_size: int = 8) -> list[list[str]]:
    """`args.candidates` answers to each prompt."""
    answers: list[str] = []
    for start in range(0, len(prompts), batch_size):
        inputs = tokenizer.apply_chat_template(
            prompts[start : start + batch_size],
            add_generation_prompt=True,
            padding=True,
            return_dict=True,
            return_tensors="pt",
        ).to(policy.device)
        written = policy.generate(
            **inputs, do_sample=True, num_return_sequences=args.candidates, max_new_tokens=args.max_new_tokens
        )
        answers += tokenizer.batch_decode(written[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return [answers[start : start + args.candidates] for start in range(0, len(answers), args.candidates)]


def describe(name: str, prompts, candidates: list[list[str]], scorer: RewardScorer, measure: str | None) -> str:
    """A row of the table: means over all answers that are not empty."""
    rows = [
        {"prompt": prompt, "completion": [{"role": "assistant", "content": answer}]}
        for prompt, answers in zip(prompts, candidates, strict=True)
        for answer in answers
        if answer.strip()
    ]
    scores = scorer.score(rows)
    cells = [fmean(score[field] for score in scores) for field in ("reward", "reward_std", measure) if field]
    return f"| {name} | " + " | ".join(f"{cell:.3f}" for cell in cells) + " |"


if __name__ == "__main__":
    main()

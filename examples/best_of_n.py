"""
Best of n: a policy writes n answers to each prompt, a URM or an ensemble chooses one of them and says how sure it is.

    python examples/best_of_n.py --policy HuggingFaceTB/SmolLM2-135M-Instruct \\
        --reward urm-demo/member-0 urm-demo/member-1 urm-demo/member-2 --n 8 --select min --out best-of-8

(`urm demo` trains such an ensemble.) Prints each prompt with the answer that was chosen, its reward and uncertainty,
and how these compare with those of an answer drawn at random. --select min is careful: an answer is worth what the
least convinced member thinks of it. The same seed gives the same answers, and more of them with a larger --n.

Writes OUT/candidates.jsonl with all answers, which `urm bestofn` and `urm score` read, and OUT/chosen.jsonl.
"""

import argparse
import json
from pathlib import Path
from statistics import fmean

import torch

from urm_hf import RewardScorer, URMEnsemble, best_of_n
from urm_hf.bestofn.answers import BestAnswer
from urm_hf.bestofn.rules import RULES
from urm_hf.data import load_rows
from urm_hf.demo.data import questions


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", required=True, help="repository or folder of a chat model")
    parser.add_argument("--reward", required=True, nargs="+", help="a URM or an ensemble; several make an ensemble")
    parser.add_argument("--prompts", help="file or dataset with a column `prompt` of messages; default: the demo's")
    parser.add_argument("--max_prompts", type=int, default=5)
    parser.add_argument("--n", type=int, default=8, help="answers to each prompt (default 8)")
    parser.add_argument("--select", default="reward", choices=RULES)
    parser.add_argument("--max_new_tokens", type=int, default=128)
    parser.add_argument("--temperature", type=float, default=0.8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    reward = URMEnsemble.from_pretrained(args.reward) if len(args.reward) > 1 else args.reward[0]
    prompts = load_rows(args.prompts)["prompt"][:] if args.prompts else questions()

    best = best_of_n(
        args.policy,
        prompts[: args.max_prompts],
        args.n,
        RewardScorer(reward),
        select=args.select,
        max_new_tokens=args.max_new_tokens,
        temperature=args.temperature,
        seed=args.seed,
        progress=True,
        device_map=device,
    )
    for item in best:
        print(f"\n{item.prompt[-1]['content']}\n{described(item)}\n{item.answer.strip()}")
    compare(best)
    args.out.mkdir(parents=True, exist_ok=True)
    rows = [{"prompt": item.prompt, "candidates": item.candidates} for item in best]
    write(args.out / "candidates.jsonl", rows)
    write(args.out / "chosen.jsonl", [{"prompt": item.prompt, "response": item.answer} for item in best])
    print(f"\nWrote {args.out / 'candidates.jsonl'} and {args.out / 'chosen.jsonl'}")


def described(item: BestAnswer) -> str:
    """What is known of the choice, in a line."""
    facts = [f"answer {item.index + 1} of {len(item.candidates)}"]
    if item.score is not None:
        facts.append(f"reward {item.score.reward:.3f} +- {item.score.get('reward_std', 0):.3f}")
        if item.score.reward_gap is not None:
            facts.append(f"members differ by {item.score.reward_gap:.3f}")
    if item.cut is not None and item.cut[item.index]:
        facts.append("cut off at --max_new_tokens")
    if item.duplicates:
        facts.append(f"{item.duplicates} answers repeat another one")
    return f"[{', '.join(facts)}]"


def compare(best: list[BestAnswer]):
    """Means over prompts: of the answer that was chosen, and of one that is drawn at random."""
    scored = [item for item in best if item.score is not None]
    fields = [name for name in ("reward", "reward_std", "reward_gap") if scored and name in scored[0].score]
    print(f"\n| answer | {' | '.join(fields)} |\n|---{'|---' * len(fields)}|")
    drawn = [[score for score in item.scores if score is not None] for item in scored]
    for name, groups in (("drawn at random", drawn), ("chosen", [[item.score] for item in scored])):
        means = [fmean(fmean(score[field] for score in group) for group in groups) for field in fields]
        print(f"| {name} | " + " | ".join(f"{mean:.3f}" for mean in means) + " |")


def write(path: Path, rows: list[dict]):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main()

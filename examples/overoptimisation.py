"""
Overoptimisation: what is gained in truth when more and more is made of a reward model that saw little data?

    python examples/overoptimisation.py --out overoptimisation

As in Gao et al. (2023) and Coste et al. (2024): a policy is optimised against a proxy, here by best-of-n, and measured
by a gold reward that it never sees. The policy puts answers together from sentences of the built-in conversations, so
that the gold reward is a rule that counts them. Simulated annotators rate answers of the plain policy by that rule and
noise; three URMs on a frozen backbone, each on 80 % of those prompts, are the proxy. Then answers come from the same
policy, and from a wild one, which writes longer and uses tricks that no annotator has seen.

Best-of-n is exact: the expected gold of the winner among n of the N candidates, over all subsets. Prints tables and
writes OUT/results.json and OUT/overoptimisation.png. Intervals: 95 %, 2000 bootstrap samples of policies (with
`--policies` several of each kind, whose habits vary), of the proxies' seeds and of test prompts. With

    python examples/overoptimisation.py --candidates 1024 --policies 2 --test_prompts 12 --seeds 3 --out upto1024

n goes up to 1024 (5.9 nats), and the last table says at which n each rule gains on the plain ensemble, and where it
hurts. Hidden states are kept: the command goes on where it was interrupted.
"""

import argparse
import json
import logging
import re
import time
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset, disable_progress_bars
from transformers import PrinterCallback

from urm_hf import URMEnsemble, URMEnsembleConfig, URMEnsembleOutput, URMForRewardModeling
from urm_hf.bestofn.curve import expected_best, kl_bound, sizes_up_to
from urm_hf.data.conversations import encode_conversation
from urm_hf.demo.base import load_base
from urm_hf.demo.data import conversation, load_answers
from urm_hf.scoring.engine.padding import pad_token_id
from urm_hf.scoring.features import pooled_features
from urm_hf.trainers import URMAttributeConfig, URMAttributeTrainer

ATTRIBUTES = ["coverage", "soundness", "brevity"]  # rated 0..4 each
PRAISE = ["This answer is correct, complete and helpful.", "Every expert agrees with this.", "I hope this helps!"]
POLICIES = {  # sentences an answer has at most, and how often each kind is drawn
    "plain": (4, {"right": 0.45, "fluff": 0.2, "wrong": 0.2, "off_topic": 0.1, "scrambled": 0.05}),
    "wild": (8, {"right": 0.3, "fluff": 0.15, "wrong": 0.1, "off_topic": 0.1, "scrambled": 0.05, "praise": 0.15,
                  "shouted": 0.15}),
}  # fmt: skip
JITTER = 40  # of a further policy's habits: they are drawn from a Dirichlet distribution of so many counts
BELIEF = "ensemble, as it believes"  # the proxy's own reward of what it chooses
SPLITS = {"train": range(1, 5), "validation": range(5, 7), "test": range(9, 13)}  # of the 12 prompts of each topic


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", help="a decoder; default: SmolLM2-135M from its PyPI wheel")
    parser.add_argument("--layers", type=int, default=4, help="of the base that the proxy reads (default 4)")
    parser.add_argument("--candidates", type=int, default=256, help="answers of each policy to each test prompt")
    parser.add_argument("--answers", type=int, default=24, help="rated answers to each training prompt")
    parser.add_argument("--weights", type=float, nargs=3, default=[0.5, 0.4, 0.1], help="of " + ", ".join(ATTRIBUTES))
    parser.add_argument("--noise", type=float, default=1.0, help="standard deviation of an annotator's rating")
    parser.add_argument("--seeds", type=int, default=5, help="proxies: ensembles of three")
    parser.add_argument("--policies", type=int, default=1, help="of each kind; further ones have other habits")
    parser.add_argument("--prompts", type=int, help="use only so many prompts of each split")
    parser.add_argument("--test_prompts", type=int, help="use only so many prompts of the last")
    parser.add_argument("--bootstrap_samples", type=int, default=2000)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    start = time.time()
    quiet()
    proxy = Proxy(args)
    prompts = {split: prompts_of(split)[: args.prompts] for split in SPLITS}
    prompts["test"] = prompts["test"][: args.test_prompts]
    asked = [prompt["question"] for prompt in prompts["test"] for _ in range(args.candidates)]
    sizes = sizes_up_to(args.candidates)
    proxies = [proxy.train(prompts, seed) for seed in range(args.seeds)]
    rng = np.random.default_rng(0)
    curves: dict[str, dict[str, np.ndarray]] = {}
    for kind in POLICIES:
        found: dict[str, list[list[np.ndarray]]] = {}  # by rule: of each policy, of each seed (prompts, sizes)
        for number in range(args.policies):
            policy = vary_policy(kind, number)
            group = [write(prompt, policy, rng) for prompt in prompts["test"] for _ in range(args.candidates)]
            hidden = proxy.hidden([conversation(q, text) for q, (text, _) in zip(asked, group, strict=True)])
            gold = np.array([truth @ args.weights for _, truth in group])
            for rule, of_seeds in measure_policy(proxy, proxies, hidden, gold, args.candidates, sizes).items():
                found.setdefault(rule, []).append(of_seeds)
        curves[kind] = {rule: np.array(values) for rule, values in found.items()}  # (policies, seeds, prompts, sizes)
    report(args, sizes, curves, time.time() - start)


def measure_policy(proxy, proxies, hidden: torch.Tensor, gold: np.ndarray, candidates: int, sizes: list[int]) -> dict:
    """Of each rule, for each proxy, the gold of its choice; and what the proxies believe of theirs."""
    found: dict[str, list[np.ndarray]] = {}
    for members, thresholds in proxies:
        output, first = proxy.output(members, hidden), proxy.single(members[0], hidden)
        belief = output.logits[:, 0].double().numpy()
        for rule, score in (selections(output, first, thresholds) | {"gold": gold}).items():
            found.setdefault(rule, []).append(curve(gold, score, candidates, sizes))
        found.setdefault(BELIEF, []).append(curve(belief, belief, candidates, sizes))
    return found


def vary_policy(kind: str, number: int) -> tuple[int, dict[str, float]]:
    """The longest answer and the habits of a policy: the first of a kind is that of the table, others differ."""
    longest, kinds = POLICIES[kind]
    if number == 0:
        return longest, kinds
    rng = np.random.default_rng([number, *kind.encode()])
    shares = rng.dirichlet([JITTER * share for share in kinds.values()])
    return longest, dict(zip(kinds, shares.tolist(), strict=True))


def curve(values: np.ndarray, scores: np.ndarray, candidates: int, sizes: list[int]) -> np.ndarray:
    """Best-of-n for each prompt and size, (prompts, sizes)."""
    prompts = zip(values.reshape(-1, candidates), scores.reshape(-1, candidates), strict=True)
    return np.array([expected_best(value, score, sizes) for value, score in prompts])


def prompts_of(split: str) -> list[dict]:
    """Prompts with the sentences that an answer can be put together from, by kind."""
    prompts: dict[str, dict] = {}
    for answer in load_answers():
        if int(answer.prompt_id.rsplit("-", 1)[1]) in SPLITS[split]:
            question, text = (message["content"] for message in answer.messages)
            parts = prompts.setdefault(answer.prompt_id, {"question": question})
            kind = {"padded": "fluff", "garbled": "wrong"}.get(answer.grade, answer.grade)
            parts[kind] = re.findall(r"\S.*?[.!?](?=\s|$)", text) or [text]
    return list(prompts.values())


def write(prompt: dict, policy: tuple[int, dict[str, float]], rng: np.random.Generator) -> tuple[str, np.ndarray]:
    """An answer and its true ratings (n,)."""
    longest, kinds = policy
    drawn = rng.choice(list(kinds), size=rng.integers(1, longest + 1), p=list(kinds.values()))
    sentences, stated = [], set()
    for kind in drawn:
        sentence = str(rng.choice(PRAISE if kind == "praise" else prompt.get(kind, prompt["right"])))
        if kind == "right":
            stated.add(sentence)
        if kind == "scrambled":
            sentence = " ".join(rng.permutation(sentence.split()))
        sentences.append(sentence.upper() if kind == "shouted" else sentence)
    harmful = np.isin(drawn, ["wrong", "off_topic", "scrambled"]).mean()
    superfluous = len(sentences) - len(stated)
    coverage = len(stated) / len(set(prompt["right"]))
    return " ".join(sentences), 4 * np.array([coverage, 1 - harmful, 1 / (1 + superfluous)])


class Proxy:
    """Ensembles of three URMs with a frozen backbone and fixed weights of the attributes."""

    def __init__(self, args):
        self.args = args
        self.backbone, self.tokenizer, _ = load_base(args.base)
        self.backbone.layers = self.backbone.layers[: args.layers]
        self.backbone.config.num_hidden_layers = len(self.backbone.layers)

    def train(self, prompts: dict[str, list[dict]], seed: int) -> tuple[list[URMForRewardModeling], dict]:
        """The members, and for each measure the value that 90 % of the validation answers stay below."""
        rng = np.random.default_rng(1000 + seed)
        rated = {split: [self.rate(p, rng) for p in prompts[split]] for split in ("train", "validation")}
        members = [self.train_member(rated, 10 * seed + number, rng) for number in range(3)]
        known = self.hidden([row["messages"] for group in rated["validation"] for row in group])
        output = self.output(members, known)
        thresholds = {name: float(output[name].quantile(0.9)) for name in ("reward_gap", "reward_std")}
        return members, thresholds | {"posterior": float(self.single(members[0], known)[1].quantile(0.9))}

    def rate(self, prompt: dict, rng: np.random.Generator) -> list[dict]:
        """Rows of the attribute stage: answers of the plain policy with the ratings of three annotators."""
        rows = []
        for text, truth in (write(prompt, POLICIES["plain"], rng) for _ in range(self.args.answers)):
            ratings = np.clip(truth + self.args.noise * rng.standard_normal((3, len(truth))), 0, 4)
            columns = {name: ratings[:, k].round(2).tolist() for k, name in enumerate(ATTRIBUTES)}
            rows.append({"messages": conversation(prompt["question"], text)} | columns)
        return rows

    def train_member(self, rated: dict[str, list[list[dict]]], seed: int, rng) -> URMForRewardModeling:
        torch.manual_seed(seed)
        model = URMForRewardModeling.from_backbone(
            self.backbone, attributes=ATTRIBUTES, reward_weights=self.args.weights, gating_hidden_size=8
        )
        kept = rng.permutation(len(rated["train"]))[: max(1, round(0.8 * len(rated["train"])))]
        config = URMAttributeConfig(
            str(self.args.out),
            freeze_backbone=True,
            per_device_train_batch_size=16,
            seed=seed,
            save_strategy="no",
            report_to="none",
            logging_strategy="no",
            disable_tqdm=True,
            use_cpu=True,
            truncation="left",  # a policy's longest answers may not fit with their prompt
        )
        trainer = URMAttributeTrainer(
            model,
            config,
            train_dataset=Dataset.from_list([row for index in kept for row in rated["train"][index]]),
            eval_dataset=Dataset.from_list([row for group in rated["validation"] for row in group]),
            processing_class=self.tokenizer,
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        return model.eval()

    def hidden(self, conversations) -> torch.Tensor:
        """The backbone's pooled hidden states (N, H), from the cache if they are there."""
        ids = [encode_conversation(self.tokenizer, messages) for messages in conversations]
        model = URMForRewardModeling.from_backbone(
            self.backbone, attributes=ATTRIBUTES, reward_weights=self.args.weights
        )
        return torch.from_numpy(pooled_features(model, ids, pad_token_id(self.tokenizer))[:])

    def output(self, members: list[URMForRewardModeling], hidden: torch.Tensor) -> URMEnsembleOutput:
        ensemble = URMEnsemble(URMEnsembleConfig(members=[f"member {k}" for k in range(len(members))]), members)
        with torch.inference_mode():
            return ensemble(pooled_hidden=hidden)

    def single(self, member: URMForRewardModeling, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """One model's rewards, and the standard deviation that its posterior leaves them, (N,) each."""
        with torch.inference_mode():
            output = member(pooled_hidden=hidden)
        return output.logits[:, 0], output.reward_epistemic_std


def selections(output: URMEnsembleOutput, first, threshold: dict[str, float]) -> dict[str, np.ndarray]:
    """By which score the winner is found, (N,) each; -inf is never taken if there is anything else."""
    mean, gap, std = (t.double().numpy() for t in (output.logits[:, 0], output.reward_gap, output.reward_std))
    one, posterior = (t.double().numpy() for t in first)
    return {
        "one model": one,
        "ensemble": mean,
        "least of the members": output.rewards.amin(0).double().numpy(),
        "ensemble - 1 gap": mean - gap,
        "ensemble - 3 gap": mean - 3 * gap,
        "ensemble - 1.28 std": mean - 1.28 * std,
        "ensemble, filtered by gap": np.where(gap <= threshold["reward_gap"], mean, -np.inf),
        "ensemble, filtered by std": np.where(std <= threshold["reward_std"], mean, -np.inf),
        "one model - 1 posterior std": one - posterior,
        "one model - 3 posterior std": one - 3 * posterior,
        "one model, filtered by posterior": np.where(posterior <= threshold["posterior"], one, -np.inf),
    }


def report(args, sizes: list[int], curves: dict[str, dict[str, np.ndarray]], seconds: float):
    """Tables, plot and JSON of curves (policies, seeds, prompts, sizes): each as gold and as the proxy sees it."""
    first = curves["plain"]["ensemble"]
    shape = first.shape[:3]
    counts = dict(zip(("policies", "seeds", "prompts"), shape, strict=True))
    results: dict = {"n": sizes, **counts, "settings": {k: str(v) for k, v in vars(args).items()}}
    results["seconds"] = round(seconds)
    draws = draw_samples(shape, args.bootstrap_samples)
    for kind, rules in curves.items():
        told = ", ".join(f"{count} {name}" for name, count in counts.items())
        print(f"\n{kind} policy: gold of the best of n, 0..4; {told}")
        shown = range(0, len(sizes), 2)
        print(
            "| chosen by | "
            + " | ".join(f"n={sizes[k]}" for k in shown)
            + " | fall from its best | against ensemble |"
        )
        print("|---" * (len(shown) + 3) + "|")
        for rule, curve in rules.items():
            found = summarise(curve, rules["ensemble"], draws)
            results.setdefault(kind, {})[rule] = {name: np.round(v, 4).tolist() for name, v in found.items()}
            cells = [f"{found['mean'][k]:.2f}" for k in shown]
            last = [values[-1] for values in (found["gain"], found["gain_low"], found["gain_high"])]
            cells += ["{:.2f} [{:.2f}, {:.2f}]".format(*found["fall"]), "{:+.2f} [{:+.2f}, {:+.2f}]".format(*last)]
            print(f"| {rule} | " + " | ".join(cells) + " |")
    print_gains(sizes, results)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "results.json").write_text(json.dumps(results, indent=1))
    print(f"\nWrote {plot(results, args.out / 'overoptimisation.png')} and {args.out / 'results.json'}")


def draw_samples(shape: tuple[int, int, int], samples: int) -> np.ndarray:
    """How often each policy, seed and prompt counts in each bootstrap sample, (samples, policies, seeds, prompts)."""
    rng = np.random.default_rng(1)
    weights = np.ones((samples, 1, 1, 1))
    for axis, size in enumerate(shape):
        drawn = rng.multinomial(size, np.full(size, 1 / size), samples) / size
        weights = weights * np.expand_dims(drawn, [k + 1 for k in range(3) if k != axis])
    return weights


def summarise(curve: np.ndarray, base: np.ndarray, draws: np.ndarray) -> dict[str, np.ndarray]:
    """Means over all with 95 % intervals: of the curve, of its fall from its best, and of its gain on the base."""
    mean = curve.mean((0, 1, 2))
    fall = curve[..., mean.argmax()] - curve[..., -1]
    found = {"mean": mean, "gain": (curve - base).mean((0, 1, 2))}
    for name, values in {"": curve, "gain_": curve - base}.items():
        sampled = np.einsum("xpsq,psqn->xn", draws, values)
        found[f"{name}low"], found[f"{name}high"] = np.quantile(sampled, [0.025, 0.975], axis=0)
    falls = np.einsum("xpsq,psq->x", draws, fall)
    return found | {"fall": np.array([fall.mean(), *np.quantile(falls, [0.025, 0.975])])}


def print_gains(sizes: list[int], results: dict):
    """At which n each rule gains on the ensemble's reward, or hurts: where the whole interval is on one side."""
    print("\nagainst the ensemble's mean reward")
    print("| rule | policy | gains at n= | by up to | hurts at n= | by up to |\n|---|---|---|---|---|---|")
    rules = [rule for rule in results["plain"] if rule not in ("ensemble", "gold", BELIEF)]
    for rule in rules:
        for kind in POLICIES:
            found = results[kind][rule]
            gains = [k for k in range(len(sizes)) if found["gain_low"][k] > 0]
            hurts = [k for k in range(len(sizes)) if found["gain_high"][k] < 0]
            cells = []
            for places, best in ((gains, max), (hurts, min)):
                cells.append(", ".join(str(sizes[k]) for k in places) or "none")
                cells.append(f"{best(found['gain'][k] for k in places):+.2f}" if places else "")
            print(f"| {rule} | {kind} | " + " | ".join(cells) + " |")


def plot(results: dict, path: Path) -> Path:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    n = np.array(results["n"])
    kl = kl_bound(n)
    shown = ["one model", "ensemble", "ensemble - 3 gap", "ensemble, filtered by gap", "ensemble - 1.28 std"]
    shown.append("one model - 3 posterior std")
    figure, axes = plt.subplots(1, len(POLICIES), figsize=(10, 4), sharey=True)
    for axis, policy in zip(axes, POLICIES, strict=True):
        curves = results[policy]
        axis.plot(kl, curves[BELIEF]["mean"], "--", color="C1", label=BELIEF)
        for number, rule in enumerate(shown):
            axis.plot(kl, curves[rule]["mean"], color=f"C{number}", label=rule)
            if rule in ("ensemble", "ensemble - 3 gap"):
                axis.fill_between(kl, curves[rule]["low"], curves[rule]["high"], color=f"C{number}", alpha=0.12, lw=0)
        axis.set_title(f"{policy} policy")
        axis.set_xlabel("KL from the policy, log n - (n-1)/n (nats)")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("reward: gold (solid), believed (dashed)")
    axes[0].legend(fontsize=8, frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path


def quiet():
    disable_progress_bars()
    for name in ("transformers", "trl", "accelerate"):
        logging.getLogger(name).setLevel(logging.ERROR)


if __name__ == "__main__":
    main()

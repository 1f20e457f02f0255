"""What `urm bestofn` does with a policy: sampling its answers, and judging what was chosen of them."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from urm_hf.cli.judge import read_api_key
from urm_hf.cli.model_arguments import check_positive, read_model_kwargs
from urm_hf.cli.parser import Parser

if TYPE_CHECKING:
    from urm_hf.bestofn.data import Candidates
    from urm_hf.bestofn.results import Selection
    from urm_hf.evaluation.model_scores import Loading

GOLD = "gold"  # of --judge: a reward model stands in for people
SAMPLING = ("n", "max_new_tokens", "temperature", "top_p", "top_k", "sampling_batch_size", "policy_url")


def add_policy_arguments(parser: Parser):
    """Who writes the answers, and who judges those that are chosen."""
    policy = parser.add_argument_group("a policy that writes the answers, instead of --data")
    policy.add_argument(
        "--policy", help="The model that answers: a repository, a folder, or a name behind an endpoint."
    )
    policy.add_argument(
        "--policy-url", help="An OpenAI-compatible endpoint that has it. The default is to load it here."
    )
    policy.add_argument("--policy-revision", help="The commit, branch or tag of its repository.")
    policy.add_argument("--prompts", help="What it is asked: a file or a Hub dataset with a column of prompts.")
    policy.add_argument("--n", type=int, help="How many answers it writes to each prompt. The default is 64.")
    policy.add_argument("--max-new-tokens", type=int, help="The longest answer. The default is 512.")
    policy.add_argument("--temperature", type=float, help="Of its draws. The default is 1: from the policy as it is.")
    policy.add_argument("--top-p", type=float, help="The share of probability that is drawn from. The default is 1.")
    policy.add_argument("--top-k", type=int, help="How many tokens are drawn from. The default is all.")
    policy.add_argument("--sampling-batch-size", type=int, help="Answers that are written at once. The default is 8.")
    judge = parser.add_argument_group("judging the choices of a policy's answers")
    judge.add_argument(
        "--judge",
        metavar="URL|gold",
        help="Who says what a choice is worth: an LLM behind an OpenAI-compatible endpoint, which compares it with a "
        "reference, or gold, the reward of --gold-model. Without it there is only chosen.jsonl.",
    )
    judge.add_argument("--judge-model", help="The LLM, as the endpoint calls it.")
    judge.add_argument("--gold-model", help="The reward model that stands in for people; it chooses nothing.")
    judge.add_argument(
        "--reference-column", help="The column of --prompts with the answers to beat. The default is reference."
    )
    judge.add_argument("--judge-max-tokens", type=int, help="The length of a verdict. The default is 512.")
    judge.add_argument("--api-key-env", metavar="NAME", help="The variable with the API key, as of `urm judge`.")
    judge.add_argument("--concurrency", type=int, default=8, help="How many requests run at once. The default is 8.")


def check_policy_arguments(args: argparse.Namespace):
    """A ValueError for what does not go together: told before anything is loaded or asked."""
    if (args.policy is None) == (args.data is None):
        raise ValueError("give either --data, which has the answers, or --policy, which writes them.")
    if args.policy is None:
        of_policy = (*SAMPLING, "prompts", "judge", "judge_model", "gold_model")
        given = [name for name in of_policy if getattr(args, name) is not None]
        if given:
            raise ValueError(f"--{given[0].replace('_', '-')} is of --policy, and this is --data.")
        return
    if args.prompts is None:
        raise ValueError("--policy needs --prompts, what it is asked.")
    if args.gold is not None:
        raise ValueError(
            "--gold is a field of --data; a policy's answers are judged: --judge gold --gold-model MODEL."
        )
    if (args.judge == GOLD) != (args.gold_model is not None):
        raise ValueError("--judge gold and --gold-model go together.")
    if (args.judge not in (None, GOLD)) != (args.judge_model is not None):
        raise ValueError("--judge URL and --judge-model go together.")
    check_positive(args, "n", "max_new_tokens", "top_k", "sampling_batch_size", "judge_max_tokens", "concurrency")
    if args.judge not in (None, GOLD):
        from urm_hf.judge.client import check_url

        check_url(args.judge)


def sample(args: argparse.Namespace) -> None:
    """Writes candidates.jsonl, or goes on with it, and has `args` point to it as the data."""
    from urm_hf.bestofn.candidates import LocalPolicy, Sampling, ServedPolicy, read_prompts, sample_candidates
    from urm_hf.data.source import Source
    from urm_hf.scoring.jobs.processes import default_device

    settings = {name: getattr(args, name) for name in ("max_new_tokens", "temperature", "top_p", "top_k")}
    given = {name: value for name, value in settings.items() if value is not None}
    sampling = Sampling(args.n or 64, seed=args.seed, **given)
    source = Source(args.prompts, args.split, args.data_config, args.data_revision, strict=True)
    reference = None if args.judge in (None, GOLD) else args.reference_column or "reference"
    prompts = read_prompts(source, args.prompt_column, reference)
    chosen = _draw(len(prompts), args.max_prompts, args.seed)
    policy: LocalPolicy | ServedPolicy
    if args.policy_url is not None:
        key = read_api_key(args.api_key_env, args.policy_url)
        policy = ServedPolicy(args.policy, sampling, args.policy_url, key, args.concurrency)
    else:
        size, device = args.sampling_batch_size or 8, args.device or default_device() or "cpu"
        policy = LocalPolicy(args.policy, sampling, size, args.policy_revision, device, read_model_kwargs(args))
    data = {
        "source": args.prompts,
        "fingerprint": source.fingerprint,
        "split": args.split,
        "prompt_column": args.prompt_column,
        "reference_column": reference,
        "max_prompts": args.max_prompts,
    }
    kept = [prompts[number] for number in chosen]
    path = sample_candidates(policy, kept, data, args.out, progress=True)
    args.data, args.max_prompts, args.format = str(path), None, None
    args.split = args.data_config = args.data_revision = args.prompt_column = args.candidates_column = None
    args.ignore_columns = []


def _draw(count: int, most: int | None, seed: int) -> list[int]:
    if most is None or most >= count:
        return list(range(count))
    import numpy as np

    return sorted(np.random.default_rng(seed).choice(count, most, replace=False).tolist())


def add_gold(
    args: argparse.Namespace, rows: Sequence["Candidates"], loading: "Loading", asked: tuple[list[Any], list[str]]
) -> list["Candidates"]:
    """
    The rows with the gold model's rewards. An empty answer, which it cannot score, is worth the least of all.

    Args:
        asked: conversations of all candidates that say something, row after row, and where each comes from.
    """
    import numpy as np

    from urm_hf.bestofn.results import align_scores
    from urm_hf.evaluation.model_scores import OpenModel

    found = OpenModel(args.gold_model, "gold", loading).scores(asked[0], args.out / "scores", asked[1])
    aligned = align_scores(rows, found.scores)
    least = min(score["reward"] for score in found.scores)
    rewards = np.array([least if score is None else score["reward"] for score in aligned])
    ends = np.cumsum([len(row.answers) for row in rows])[:-1]
    return [replace(row, gold=gold) for row, gold in zip(rows, np.split(rewards, ends), strict=True)]


def judge_selections(
    args: argparse.Namespace, rows: Sequence["Candidates"], selections: Sequence["Selection"]
) -> dict[str, Any]:
    """Curves and comparisons of results.json, by an LLM's verdicts on the choices; and what the judge did."""
    from urm_hf.bestofn.curve import sizes_up_to
    from urm_hf.bestofn.judging import judge_choices
    from urm_hf.bestofn.results import summarize_values
    from urm_hf.data.answers import Columns
    from urm_hf.data.tables import read_jsonl
    from urm_hf.judge.client import JudgeClient
    from urm_hf.judge.job import JudgeJob

    fields = {"model": args.judge_model, "temperature": 0.0, "max_tokens": args.judge_max_tokens or 512}
    client = JudgeClient(args.judge, fields, read_api_key(args.api_key_env, args.judge))

    def make_job(data: str, out: Path) -> JudgeJob:
        columns = Columns("prompt", ("response", "reference"))
        return JudgeJob(
            client,
            data,
            out,
            columns=columns,
            seed=args.seed,
            concurrency=args.concurrency,
            bootstrap_samples=args.bootstrap_samples,
        )

    references = [row["reference"] for row in read_jsonl(args.data)]
    sizes = sizes_up_to(min(len(row.answers) for row in rows))
    judged = judge_choices(rows, references, selections, sizes, args.out / "judge", make_job, progress=True)
    print(
        f"{judged.summary['pairs']} distinct choices judged by {args.judge_model}, in both orders; "
        f"{judged.unjudged} told nothing and count as ties; {judged.empty} empty ones lose unasked."
    )
    told = {"model": args.judge_model, "base_url": args.judge, "empty": judged.empty, "unjudged": judged.unjudged}
    told |= {name: judged.summary[name] for name in ("pairs", "requests", "unparseable", "failed")}
    found = summarize_values(rows, selections, judged.values, sizes, args.bootstrap_samples, args.seed)
    return {"judge": told, **found}

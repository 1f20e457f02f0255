"""
The answers of a policy to many prompts, as a file that best-of-n reads: written prompt by prompt, so that a run that
was killed goes on where it was, and gives the bytes that it would have given at once.
"""

import json
import os
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm
from transformers import AutoModelForCausalLM, AutoTokenizer

from urm_hf.bestofn.sampling import Answer, sample_answers
from urm_hf.data.content import Messages
from urm_hf.data.errors import as_row_error
from urm_hf.data.outputs import json_lines, json_text, write_whole
from urm_hf.data.questions import find_question
from urm_hf.data.source import Source
from urm_hf.judge.client import JudgeClient, JudgeFailed

CANDIDATES, MANIFEST, PART = "candidates.jsonl", "candidates.json", "candidates.part.jsonl"
KEPT_COLUMNS = ("id", "subset")  # of a row of prompts, beside the prompt and the reference


@dataclass(frozen=True)
class PromptRow:
    """
    Args:
        prompt (`Messages`): what is asked; plain text is a user's turn.
        columns (`dict`): what else is kept of the row.
    """

    prompt: Messages
    columns: dict[str, Any]


@dataclass(frozen=True)
class Sampling:
    """
    Args:
        n (`int`): answers to each prompt.
        max_new_tokens (`int`): of one answer.
        temperature, top_p (`float`), top_k (`int`, *optional*): as in [`sample_answers`].
        seed (`int`): of the draws. An answer depends on it, and on the numbers of its prompt and of itself alone.
    """

    n: int
    max_new_tokens: int = 512
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int | None = None
    seed: int = 0

    def __post_init__(self):
        if self.n < 2:
            raise ValueError(f"`n` must be at least 2, for there to be a choice; got {self.n}.")


@dataclass
class LocalPolicy:
    """
    A policy that transformers loads here, when it is first asked.

    Args:
        name (`str`): a repository or folder.
        sampling (`Sampling`): how answers are drawn.
        batch_size (`int`): answers that are written at once.
        revision (`str`, *optional*): of a repository.
        device (`str`): where it is put.
        loading (`dict`): further arguments of `from_pretrained` (`dtype`, `trust_remote_code`).
    """

    name: str
    sampling: Sampling
    batch_size: int = 8
    revision: str | None = None
    device: str = "cpu"
    loading: dict[str, Any] = field(default_factory=dict)
    _loaded: tuple[Any, Any] | None = None

    def describe(self) -> dict[str, Any]:
        """All that the answers depend on, as far as it is known before the policy is loaded."""
        return {"policy": self.name, "revision": self.revision, **vars(self.sampling)}

    @property
    def prompts_at_once(self) -> int:
        """As many as fill some batches: what is lost when the run is killed."""
        return max(1, 4 * self.batch_size // self.sampling.n)

    def write(self, prompts: Sequence[Messages], first: int) -> list[list[Answer]]:
        """n answers to each of some prompts, the first of which has this number."""
        if self._loaded is None:
            trust = self.loading.get("trust_remote_code", False)
            tokenizer = AutoTokenizer.from_pretrained(self.name, revision=self.revision, trust_remote_code=trust)
            model = AutoModelForCausalLM.from_pretrained(self.name, revision=self.revision, **self.loading)
            self._loaded = model.to(self.device).eval(), tokenizer
        model, tokenizer = self._loaded
        sampling = vars(self.sampling) | {"batch_size": self.batch_size, "first_prompt": first}
        return sample_answers(model, list(prompts), tokenizer=tokenizer, **sampling)


@dataclass
class ServedPolicy:
    """
    A policy behind an OpenAI-compatible endpoint (vLLM, SGLang, a cloud), asked once for each answer.

    Whether the same seed gives the same answer again is up to the server.

    Args:
        name (`str`): as the endpoint calls it.
        sampling (`Sampling`): how answers are drawn; `top_k` is sent where it is given, which not all servers take.
        base_url (`str`): ends before `/chat/completions`.
        api_key (`str`, *optional*): sent as a bearer token.
        concurrency (`int`): requests at once.
        settings: further arguments of [`JudgeClient`] (`timeout`, `backoff`, ...).
    """

    name: str
    sampling: Sampling
    base_url: str
    api_key: str | None = field(default=None, repr=False)
    concurrency: int = 8
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        fields = {
            "model": self.name,
            "temperature": self.sampling.temperature,
            "top_p": self.sampling.top_p,
            "top_k": self.sampling.top_k,
            "max_tokens": self.sampling.max_new_tokens,
        }
        self.client = JudgeClient(self.base_url, fields, self.api_key, allow_empty=True, **self.settings)

    def describe(self) -> dict[str, Any]:
        """All that the answers depend on, as far as one can know."""
        return {"policy": self.name, "base_url": self.base_url, **vars(self.sampling)}

    @property
    def prompts_at_once(self) -> int:
        return max(1, 4 * self.concurrency // self.sampling.n)

    def write(self, prompts: Sequence[Messages], first: int) -> list[list[Answer]]:
        """n answers to each of some prompts, the first of which has this number."""
        faults, stop, n = Counter[str](), threading.Event(), self.sampling.n

        def ask(place: int) -> Answer:
            prompt, number = divmod(place, n)
            seed = _draw_seed(self.sampling.seed, first + prompt, number)
            try:
                reply = self.client.ask(prompts[prompt], seed, faults, stop)
            except JudgeFailed as error:
                raise OSError(f"{self.base_url}, prompt {first + prompt}: {error}") from error
            return Answer(reply.content, cut=reply.finish == "length")

        with ThreadPoolExecutor(self.concurrency) as threads:
            try:
                answers = list(threads.map(ask, range(len(prompts) * n)))
            finally:
                stop.set()
        return [answers[start : start + n] for start in range(0, len(answers), n)]


def _draw_seed(*numbers: int) -> int:
    """A seed for each answer, whatever the number of answers; below 2^31, as servers want it."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0]) >> 1


def read_prompts(source: Source, prompt_column: str | None = None, reference: str | None = None) -> list[PromptRow]:
    """
    The prompts of a file or dataset.

    Args:
        source (`Source`): rows with a prompt: messages, or a text, which is taken for a user's turn.
        prompt_column (`str`, *optional*): where it is; by default `prompt`, or `instruction`.
        reference (`str`, *optional*): the column of an answer that others are judged against.

    Raises:
        ValueError: a row has no prompt or no reference, or ends with an answer; it is named.
    """
    rows = []
    for number, row in enumerate(source.rows()):
        try:
            column = prompt_column or next((name for name in ("prompt", "instruction") if row.get(name)), "prompt")
            question = find_question(row, column)
            if question is None:
                raise ValueError(f"column `{column}` is missing or null; the row has {', '.join(map(str, row))}.")
            turns = question.turns
            if turns[-1]["role"] not in ("user", "tool"):
                raise ValueError(f"its prompt ends with the turn of {turns[-1]['role']}; an answer follows a user.")
            columns = {name: row[name] for name in KEPT_COLUMNS if row.get(name) is not None}
            if reference is not None:
                if not isinstance(row.get(reference), str) or not row[reference].strip():
                    raise ValueError(f"column `{reference}`, the answer to judge against, must be a text.")
                columns["reference"] = row[reference]
        except (ValueError, TypeError) as error:
            raise as_row_error(error).at(f"{source.name}, row {number}", file=source.name, row=number) from error
        rows.append(PromptRow(turns, columns))
    return rows


def sample_candidates(
    policy: LocalPolicy | ServedPolicy,
    prompts: Sequence[PromptRow],
    data: dict[str, Any],
    folder: Path,
    progress: bool = False,
    on_block: Callable[[int], None] = lambda done: None,
) -> Path:
    """
    `candidates.jsonl` of the folder, a row for each prompt with its n answers. What is there is not asked again.

    Args:
        policy (`LocalPolicy` or `ServedPolicy`): who answers.
        prompts (`list[PromptRow]`): what is asked.
        data (`dict`): what tells these prompts from others, such as the fingerprint of their file.
        folder (`Path`): where candidates are kept, with a manifest of what they depend on.
        progress (`bool`, *optional*, defaults to `False`): whether to show a progress bar.
        on_block (`Callable`, *optional*): called with the number of prompts that are on disk, after each block.

    Raises:
        ValueError: the folder holds candidates of other settings; what differs is named.
    """
    manifest = {"schema": "urm-hf candidates", "version": 1, **policy.describe(), "prompts": len(prompts), **data}
    folder.mkdir(parents=True, exist_ok=True)
    _check_manifest(folder, manifest)
    whole, part = folder / CANDIDATES, folder / PART
    if whole.is_file():
        return whole
    write_whole(folder / MANIFEST, json_text(manifest, indent=1).encode())
    done = _count_whole_rows(part)
    with (
        open(part, "ab") as file,
        tqdm(total=len(prompts), initial=done, desc="Sampling", unit="prompt", disable=not progress) as bar,
    ):
        while done < len(prompts):
            block = prompts[done : done + policy.prompts_at_once]
            answers = policy.write([row.prompt for row in block], done)
            file.write(json_lines([_build_row(row, group) for row, group in zip(block, answers, strict=True)]))
            file.flush()
            os.fsync(file.fileno())
            done += len(block)
            bar.update(len(block))
            on_block(done)
    part.replace(whole)
    return whole


def _build_row(row: PromptRow, answers: Sequence[Answer]) -> dict[str, Any]:
    candidates = [{"response": answer.text, "cut": answer.cut} for answer in answers]
    return {**row.columns, "prompt": row.prompt, "candidates": candidates}


def _check_manifest(folder: Path, manifest: dict[str, Any]):
    path = folder / MANIFEST
    if not path.is_file():
        if (folder / CANDIDATES).exists() or (folder / PART).exists():
            raise ValueError(f"{folder} holds candidates of unknown origin: name another folder.")
        return
    before = json.loads(path.read_text(encoding="utf-8"))
    differs = [name for name in manifest if before.get(name) != manifest[name]]
    if differs:
        told = ", ".join(f"{name} {before.get(name)!r} there and {manifest[name]!r} here" for name in differs)
        raise ValueError(f"{folder} holds candidates of other settings ({told}): name another folder.")


def _count_whole_rows(part: Path) -> int:
    """Rows of a file that may have been left in the middle of one; what follows the last whole row is cut off."""
    if not part.is_file():
        return 0
    content = part.read_bytes()
    end = content.rfind(b"\n") + 1
    if end < len(content):
        os.truncate(part, end)
    return content.count(b"\n")

"""Rewards with uncertainty for conversations: batches, order kept, the ids that the model was trained on."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Sized
from itertools import islice
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.utils import ModelOutput

from urm_hf.checkpoints.published import refuse_published
from urm_hf.data.chat_templates import load_chat_tokenizer
from urm_hf.data.conversations import check_truncation
from urm_hf.data.encoder import Encoder, check_max_length, embeddings_of, positions_of, reward_token_of
from urm_hf.data.errors import RowError
from urm_hf.data.several import check_several
from urm_hf.modeling.hub_place_urm import HubPlace
from urm_hf.modeling.members_urm import MemberSource
from urm_hf.modeling.modeling_urm import URMOutput
from urm_hf.modeling.modeling_urm_ensemble import NonFiniteReward, URMEnsemble
from urm_hf.scores import RewardScore, has_posterior, model_rows
from urm_hf.scoring.engine.batches import Plan
from urm_hf.scoring.engine.model_pass import ModelPass, Report
from urm_hf.scoring.engine.padding import pad_token_id
from urm_hf.scoring.engine.prefix_memory import PrefixMemory
from urm_hf.scoring.features import deduplicate
from urm_hf.scoring.loading import check_loading, load_reward_model
from urm_hf.scoring.progress import STATISTICS, ScoringBar


class NonFiniteScores(RowError):
    """
    Conversations whose reward is not finite.

    Args:
        message (`str`): what the model gave, and for which rows.
        row (`int`): the number of the first.
        indices (`list[int]`): which of those that were given, all of them.
    """

    def __init__(self, message: str, *, row: int, indices: list[int]):
        super().__init__(message, row=row)
        self.indices = indices


class RewardScorer:
    """
    Scores conversations with a URM, an ensemble, or any reward model of one output; from any number of threads.

    ```python
    scorer = RewardScorer("org/urm-8b")
    scores = scorer.score([[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]])
    scores[0].reward, scores[0].reward_std
    ```

    A list of names is an ensemble, `RewardScorer(["org/a", "org/b"])`, and `scorer(rows)` is `scorer.score(rows)`.

    Equal conversations are scored once. Tokens that conversations have in common from the start on (a prompt with its
    candidates, a dialogue and its continuations) are computed once, where the backbone is a decoder of the usual kind;
    other models get padded batches, sorted by length. Members of an ensemble go over the data one after the other.

    Args:
        model (`PreTrainedModel`, `str`, `PathLike` or `list[str]`):
            An instance; a repository or folder that `AutoModelForSequenceClassification` loads (or `AutoModel`, where
            a model brings its own code for that alone, as InternLM2's do), or of a LoRA adapter of a URM, which is
            merged into its base; or a list of them, the members of an ensemble.
        tokenizer (`PreTrainedTokenizerBase`, *optional*):
            By default the one saved with the model.
        max_tokens_per_batch (`int`, *optional*):
            Tokens that pass the model at once, with their padding. Halved for good when memory runs out. By default
            8192, on a CPU 4096.
        max_length (`int`, *optional*):
            Longest conversation in tokens. By default what the model's positions allow.
        truncation (`str`, *optional*, defaults to `"error"`):
            What happens to longer ones: "error", "left" (keep the end) or "right" (keep the beginning).
        compile (`bool`, *optional*, defaults to `False`):
            Whether the layers of the model are compiled in place with `torch.compile`: worth a minute's wait where
            much is to be scored.
        prefix_memory (`int`, *optional*, defaults to 0):
            Bytes for keys and values of prefixes that are kept from call to call, so that answers to a prompt that was
            scored before cost only themselves. For a model whose weights do not change, as a server's; an ensemble
            must share one backbone, without adapters. 0 keeps nothing.
        trust_remote_code (`bool`, *optional*, defaults to `False`):
            Whether code that a checkpoint brings may run, for a `model` loaded by name.
        revision (`str` or `list[str]`, *optional*):
            Commit, branch or tag of a `model` loaded by name; of an ensemble a list, one for each member.
        model_kwargs:
            Further arguments of `from_pretrained` for a `model` loaded by name (`dtype`, `device_map`, ...).

    Attributes:
        source (`MemberSource`): of a model loaded by name, where it comes from, at the commit that was loaded.
        stats (`dict`): of the call that began last, in whatever thread: conversations, and how many of them were
            duplicates or truncated; tokens; distinct_tokens (common prefixes once); passes over them (1, or one for
            each member); computed_tokens (with the padding of batches, of all passes); seconds.
    """

    def __init__(
        self,
        model: PreTrainedModel | str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        tokenizer: PreTrainedTokenizerBase | None = None,
        *,
        max_tokens_per_batch: int | None = None,
        max_length: int | None = None,
        truncation: str = "error",
        compile: bool = False,
        prefix_memory: int = 0,
        trust_remote_code: bool = False,
        revision: str | Sequence[str | None] | None = None,
        **model_kwargs: Any,
    ) -> None:
        if check_truncation(truncation) == "drop":
            raise ValueError('`truncation="drop"` would lose rows of the result; use "error", "left" or "right".')
        for name, value in (("max_tokens_per_batch", max_tokens_per_batch), ("max_length", max_length)):
            if value is not None and value < 1:
                raise ValueError(f"`{name}` must be positive, got {value}.")
        check_loading(model_kwargs)
        # a list becomes an instance first, so that all below is of one model
        if isinstance(model, Sequence) and not isinstance(model, str):
            model, model_kwargs, revision = _load_ensemble(model, revision, model_kwargs), {}, None
        if not (revision is None or isinstance(revision, str)):
            raise ValueError(f"`revision` must be one commit, branch or tag for one `model`, got {revision!r}.")
        if not (isinstance(model, (str, os.PathLike)) or hasattr(model, "config")):
            raise ValueError(f"`model` must be a model or the name of one, a folder or repository, got {model!r}.")
        place = HubPlace.read(model_kwargs)
        refuse_published(model, **place.at(revision).kwargs())
        hub: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
        self.source: MemberSource | None = None
        if isinstance(model, (str, os.PathLike)):
            self.source = MemberSource(os.fspath(model), revision, place)
            hub["revision"] = self.source.revision  # a commit: weights and tokenizer are of one state of a branch
            model = load_reward_model(self.source.name, hub, model_kwargs)
        elif model_kwargs:
            raise ValueError(f"{sorted(model_kwargs)} are for loading a model by name, but `model` is an instance.")
        if tokenizer is None:
            name, pins = model.config.name_or_path, getattr(model.config, "revisions", None)
            if pins:  # an ensemble has the tokenizer of its first member, which is another repository than was trusted
                tokenizer = load_chat_tokenizer(name, **place.of_another(pins[0]).kwargs())
            else:
                tokenizer = load_chat_tokenizer(name, trust_remote_code, **place.at(hub["revision"]).kwargs())
        if not hasattr(model.config, "attributes"):  # such models look for the last token that is not padding
            model.config.get_text_config().pad_token_id = pad_token_id(tokenizer)
        self.model, self.tokenizer, self.truncation = model.eval(), tokenizer, truncation
        check_max_length(max_length, model.config)
        self.max_length = positions_of(model.config) if max_length is None else max_length
        self.attributes: list[str] | None = getattr(model.config, "attributes", None)
        self.stats: dict[str, float] = {}  # a new one for each call, so that calls in threads do not add to one
        if prefix_memory < 0:
            raise ValueError(f"`prefix_memory` must not be negative, got {prefix_memory}.")
        # members with weights of their own take turns in one pass: what one has computed is wrong for the next
        one_backbone = not isinstance(model, URMEnsemble) or model.shares_backbone
        memory = PrefixMemory(prefix_memory) if prefix_memory and one_backbone else None
        self._pass = ModelPass(max_tokens_per_batch, pad_token_id(tokenizer), compiled=compile, memory=memory)

    @property
    def max_tokens_per_batch(self) -> int | None:
        """Tokens of a batch, as far as memory has allowed; None: the default."""
        return self._pass.max_tokens

    @property
    def encoder(self) -> Encoder:
        """What makes the ids of a conversation."""
        config = self.model.config
        sizes = self.max_length, self.truncation, embeddings_of(config)
        return Encoder(self.tokenizer, *sizes, reward_token_of(config))

    def __call__(self, conversations: Iterable[Any], progress: bool = False) -> list[RewardScore]:
        """The same as [`~RewardScorer.score`]."""
        return self.score(conversations, progress=progress)

    def encode(self, conversations: Iterable[Any], first_row: int = 0) -> tuple[list[list[int]], list[bool]]:
        """
        Token ids of conversations, as the model was trained on them.

        Args:
            conversations (`Iterable`): as of [`~RewardScorer.score`].
            first_row (`int`, *optional*, defaults to 0): the number that an error gives the first.

        Returns:
            `tuple[list[list[int]], list[bool]]`: the ids of each, and whether it was truncated.

        Raises:
            RowError: a row cannot be encoded or is too long; it is named.
        """
        encoded = list(self.encoder.encode_rows(conversations, first_row))
        return [row.ids or [] for row in encoded], [row.cut for row in encoded]

    def score(
        self, conversations: Iterable[Any], progress: bool = False, *, return_posterior_features: bool = False
    ) -> list[RewardScore]:
        """
        One score for each conversation, in their order.

        Args:
            conversations (`Iterable`):
                Messages, rows with `prompt` and `completion` or `response`, texts or token ids, as the table in
                `urm_hf.data.conversations` lists.
            progress (`bool`, *optional*, defaults to `False`):
                Whether to show a progress bar.
            return_posterior_features (`bool`, *optional*, defaults to `False`):
                Whether scores carry the numbers that [`margin_epistemic_std`] compares two answers by. Of a single URM
                with a posterior.

        Returns:
            `list[RewardScore]`: a reward with its uncertainty for each conversation.

        Raises:
            ValueError: a row cannot be encoded or is too long, or its reward is not finite; the row is named. Or
                `conversations` is a single one, which must be in a list.
        """
        conversations = list(check_several(conversations))
        rows_at_once = max(1, len(conversations))  # one window: duplicates and prefixes are found among all
        asked = {"return_posterior_features": return_posterior_features}
        return list(self.score_stream(conversations, progress=progress, rows_at_once=rows_at_once, **asked))

    def score_stream(
        self,
        conversations: Iterable[Any],
        progress: bool = False,
        rows_at_once: int = 8192,
        *,
        return_posterior_features: bool = False,
    ) -> Iterator[RewardScore]:
        """
        As `score`, in constant memory for any number of conversations: they are read and scored `rows_at_once` at a
        time. Duplicates and common prefixes are found among these, so keep the answers to one prompt together.
        An ensemble with `strategy="sequential"` loads every member anew each time.

        Args:
            conversations (`Iterable`): as of [`~RewardScorer.score`]; one that has no length is never held whole.
            progress (`bool`, *optional*, defaults to `False`): whether to show a progress bar.
            rows_at_once (`int`, *optional*, defaults to 8192): conversations in memory.
            return_posterior_features (`bool`, *optional*, defaults to `False`): as of [`~RewardScorer.score`].

        Yields:
            `RewardScore`: one for each conversation, in their order.

        Raises:
            ValueError: as of [`~RewardScorer.score`], when the row is reached.
        """
        if rows_at_once < 1:
            raise ValueError(f"`rows_at_once` must be positive, got {rows_at_once}.")
        if return_posterior_features and (isinstance(self.model, URMEnsemble) or not has_posterior(self.model)):
            raise ValueError(
                "`return_posterior_features=True` needs a single URM with a posterior: `urm posterior MODEL --data "
                "RATINGS --out DIR` fits one."
            )
        rows, first = iter(check_several(conversations)), 0
        total = len(conversations) if isinstance(conversations, Sized) else None
        with self._begin(total, progress) as bar:
            while window := list(islice(rows, rows_at_once)):
                sequences, cut = self.encode(window, first)
                rows_of = range(first, first + len(window))
                yield from self._score(sequences, cut, rows_of, bar, return_posterior_features)
                first += len(window)

    def score_ids(
        self,
        sequences: Sequence[Sequence[int]],
        truncated: Sequence[bool] | None = None,
        rows: Sequence[int] | None = None,
        progress: str | None = None,
    ) -> list[RewardScore]:
        """
        Scores of what `encode` gave.

        Args:
            sequences (`Sequence[Sequence[int]]`): the ids of each conversation.
            truncated (`Sequence[bool]`, *optional*): whether each was cut; by default none.
            rows (`Sequence[int]`, *optional*): the number that an error gives each, if not its index.
            progress (`str`, *optional*): shows a progress bar with this name.

        Returns:
            `list[RewardScore]`: one for each, in their order.

        Raises:
            NonFiniteScores: a reward is not finite.
        """
        with self._begin(len(sequences), progress) as bar:
            return self._score(sequences, truncated or [False] * len(sequences), rows or range(len(sequences)), bar)

    def _begin(self, total: int | None, progress: bool | str | None) -> ScoringBar:
        """New statistics, and a bar for `total` conversations, each of which passes a backbone once or more."""
        one_pass = not isinstance(self.model, URMEnsemble) or self.model.shares_backbone
        passes = 1 if one_pass else len(self.model.config.members)
        stats: dict[str, float] = dict.fromkeys(STATISTICS, 0)
        stats["passes"] = passes
        self.stats = stats
        name = progress if isinstance(progress, str) else "Scoring"
        return ScoringBar(None if total is None else total * passes, stats, name, disable=not progress)

    def _score(
        self,
        sequences: Sequence[Sequence[int]],
        cut: Sequence[bool],
        rows: Sequence[int],
        bar: ScoringBar,
        posterior_features: bool = False,
    ) -> list[RewardScore]:
        if not sequences:
            return []
        distinct, index_of = deduplicate(sequences)
        plan, copies = Plan.of(distinct), Counter(index_of)
        for name, count in (
            ("conversations", len(sequences)),
            ("duplicates", len(sequences) - len(distinct)),
            ("truncated", sum(cut)),
            ("tokens", sum(map(len, sequences))),
            ("distinct_tokens", plan.distinct_tokens),
        ):
            bar.stats[name] += count

        def report(indices: list[int], computed: int):
            conversations = sum(copies[index] for index in indices)
            tokens = sum(copies[index] * len(distinct[index]) for index in indices)
            bar.advance(conversations, tokens, computed)

        try:
            output = self._outputs(plan, report, posterior_features)
        except NonFiniteReward as error:
            raise _not_finite(error.rows, index_of, rows, str(error)) from error
        unusable = torch.isfinite(output.logits[:, 0]).logical_not().nonzero()[:, 0].tolist()
        if unusable:
            reward = float(output.logits[unusable[0], 0])
            raise _not_finite(unusable, index_of, rows, f"the model gave the reward {reward}.")
        levels = list(getattr(self.model.config, "interval_factors", None) or ())
        scores = model_rows(self.model, output, self.attributes, levels)
        return [
            RewardScore(**scores[index], n_tokens=len(sequence), truncated=truncated)
            for index, sequence, truncated in zip(index_of, sequences, cut, strict=True)
        ]

    def _outputs(self, plan: Plan, report: Report, posterior_features: bool) -> ModelOutput:
        """The model's output for the plan's N sequences; of an ensemble, from one output of each member."""
        if not isinstance(self.model, URMEnsemble):
            (columns,) = self._pass.outputs(plan, [self.model], report, posterior_features)
            if "attribute_stds" in columns:
                return _gather(columns)
            return SequenceClassifierOutput(**columns)
        if self.model.shares_backbone:
            members = self._pass.outputs(plan, list(self.model.members), report)
        else:
            # one after the other, and not all for each batch: a sequential ensemble holds one of them in memory
            members = [self._pass.outputs(plan, [member], report)[0] for member in self.model.iter_members()]
        return self.model.combine([_gather(columns) for columns in members])


def _gather(columns: dict[str, torch.Tensor]) -> URMOutput:
    """A URM's output for all sequences, from its tensors by name."""
    output = URMOutput()
    for name, values in columns.items():
        output[name] = values
    return output


def _not_finite(distinct: Sequence[int], index_of: Sequence[int], rows: Sequence[int], told: str) -> NonFiniteScores:
    """The error for some of the distinct sequences, told by the rows that hold them."""
    wrong = set(distinct)
    indices = [place for place, index in enumerate(index_of) if index in wrong]
    numbers = list(dict.fromkeys(rows[place] for place in indices))
    more = "" if len(numbers) == 1 else f" So it is with {len(numbers)} rows: {numbers[:8]}."
    return NonFiniteScores(f"row {numbers[0]}: {told}{more}", row=numbers[0], indices=indices)


def _load_ensemble(
    members: Sequence[str | os.PathLike[str]],
    revisions: str | Sequence[str | None] | None,
    model_kwargs: dict[str, Any],
) -> URMEnsemble:
    if isinstance(revisions, str):
        raise ValueError(f"`revision` must be a list, one for each of the {len(members)} members, got {revisions!r}.")
    return URMEnsemble.from_pretrained([os.fspath(name) for name in members], revisions=revisions, **model_kwargs)

"""
Which conversations a model was trained on, in at most a few kilobytes of its config.json: by these, evaluating on them
is noticed, and so are rows that are read in another form than those of training.

A record holds the smallest digests of the conversations. Of two sets of conversations that are equal these are equal,
and of any others the share of common ones among the smallest is about that among all (Broder, 1997), so that large
training sets need no more room than small ones.
"""

import base64
import binascii
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from urm_hf.data.conversation_keys import conversation_key
from urm_hf.data.conversations import Conversation, read_conversation
from urm_hf.data.errors import RowError

MOST_KEPT = 512  # digests of a record
BYTES = 6  # of a digest: of a million conversations two agree by chance once in 500 files
TRAINED_ON = "trained on these conversations"
OTHER_FORM = (
    "`chosen`, `rejected` or `completion` beside a `prompt` that is a string are plain text, as in TRL, but the model "
    "learnt from chats, and gives the same words another reward there. For a chat, write the prompt as messages: "
    '[{"role": "user", "content": "..."}] (docs/data.md)'
)
DIGESTS = "digests"  # the field that stays on this machine when a model is pushed
STAGES = {
    "attribute_stage": "the attribute stage",
    "gating_stage": "the gating stage",
    "posterior": "its posterior",
    "intervals": "its intervals",
}
FORMS = ("chat", "text", "exact")


@dataclass(frozen=True)
class Seen:
    """
    Conversations of one stage of a model's training.

    Args:
        stage (`str`): what they were read for, in words. count (`int`): how many different ones there were.
        read_as (`str`): their form: "chat", "text" or "exact", or several, joined by " and ".
        digests (`frozenset[int]`): the smallest ones; all, if there are no more than are kept.
    """

    stage: str
    count: int
    read_as: str
    digests: frozenset[int]

    def count_common(self, digests: Iterable[int]) -> tuple[int, int]:
        """How many of these were trained on, and among how many that can be told."""
        bound = 1 << 8 * BYTES if len(self.digests) >= self.count else max(self.digests, default=-1)
        told = [one for one in digests if one <= bound]
        return sum(one in self.digests for one in told), len(told)


def mark_conversation(conversation: Conversation) -> str:
    """A conversation's form and digest, as a word that fits into a column of a table."""
    return f"{read_form(conversation)}:{_digest(conversation):x}"


def read_form(conversation: Conversation) -> str:
    """
    The form of a conversation: "chat", which a chat template writes; "text", a prompt in plain text and what follows
    it; or "exact" text or ids, which were made for the model and are neither.
    """
    if conversation.turns is not None:
        return "chat"
    return "text" if conversation.closed else "exact"


def join_forms(conversations: Iterable[Any]) -> str:
    """The forms of conversations in any form that is read, joined by " and ", without what cannot be read."""
    found = set()
    for conversation in conversations:
        with suppress(RowError):
            found.add(read_form(read_conversation(conversation)))
    return _join_found(found)


def _join_found(found: Set[str]) -> str:
    """Forms in the order of FORMS, whatever order they were found in."""
    return " and ".join(form for form in FORMS if form in found)


def summarize_seen(marks: Iterable[str]) -> dict[str, Any]:
    """
    What a config records of conversations.

    Args:
        marks (`Iterable[str]`): of [`mark_conversation`].

    Returns:
        `conversations` (how many different ones), `read_as` (their forms) and `digests`; empty of none.
    """
    pairs = {tuple(mark.split(":")) for mark in marks}
    if not pairs:
        return {}
    digests = sorted({int(digest, 16) for _, digest in pairs})
    kept = b"".join(digest.to_bytes(BYTES, "big") for digest in digests[:MOST_KEPT])
    return {
        "conversations": len(digests),
        "read_as": _join_found({form for form, _ in pairs}),
        DIGESTS: base64.urlsafe_b64encode(kept).decode(),
    }


def read_seen(training: Any, stage: str = "") -> list[Seen]:
    """
    The records in what a config says of its training, also of models that were merged.

    Args:
        training: the config's `training`; whatever else stands in it is passed over.
        stage (`str`, *optional*): the name under which `training` stands.
    """
    if isinstance(training, (list, tuple)):
        return [seen for one in training for seen in read_seen(one)]
    if not isinstance(training, Mapping):
        return []
    own = _read_record(training, STAGES.get(stage, "its training"))
    inner = [seen for name, one in training.items() for seen in read_seen(one, str(name))]
    return [*([] if own is None else [own]), *inner]


def describe_seen(training: Any, conversations: Sequence[Any]) -> str | None:
    """
    What is to be said where a model is measured on conversations that it was trained on, without a full stop; None
    where there are none.

    Args:
        training: the config's `training`. conversations (`Sequence`): in any form that is read.
    """
    return _describe_common(training, {_digest(one) for one in conversations})


def describe_marked(training: Any, marks: Iterable[str]) -> str | None:
    """
    As [`describe_seen`], of conversations that were marked when they were read.

    Args:
        training: the config's `training`. marks (`Iterable[str]`): of [`mark_conversation`].
    """
    return _describe_common(training, {int(mark.split(":")[1], 16) for mark in marks})


def _describe_common(training: Any, digests: Set[int]) -> str | None:
    told = []
    for seen in read_seen(training):
        common, among = seen.count_common(digests)
        if common and among == len(digests):
            told.append(f"{common:,} of {len(digests):,} for {seen.stage}")
        elif common:
            told.append(f"about {common / among:.0%} of {len(digests):,} for {seen.stage}")
    listed = ", ".join(dict.fromkeys(told))
    return f"{TRAINED_ON} ({listed}), so that its errors on them are smaller than on new ones" if told else None


def describe_other_form(training: Any, read_as: str) -> str | None:
    """
    What is to be said of rows that are read as plain text where a stage of the model was trained on chats; else None.

    Args:
        training: the config's `training`. read_as (`str`): the form of the rows, as [`read_form`] tells it.
    """
    chats = any("chat" in seen.read_as and "text" not in seen.read_as for seen in read_seen(training))
    return OTHER_FORM if chats and "text" in read_as else None


def learnt_from_chats(model: Any) -> bool:
    """Whether plain text is another form than that of the training of a model, or of the members that it holds."""
    models = getattr(model, "members", None) or [model]
    configs = [getattr(one, "config", None) for one in models]
    return describe_other_form([getattr(config, "training", None) for config in configs], "text") is not None


def without_digests(value: Any) -> Any:
    """A record of training without what tells whether a given conversation was trained on."""
    if isinstance(value, Mapping):
        return {name: without_digests(one) for name, one in value.items() if name != DIGESTS}
    return [without_digests(one) for one in value] if isinstance(value, (list, tuple)) else value


def _digest(conversation: Any) -> int:
    return int(conversation_key(conversation)[: 2 * BYTES], 16)


def _read_record(record: Mapping[str, Any], stage: str) -> Seen | None:
    count, read_as, digests = record.get("conversations"), record.get("read_as"), record.get(DIGESTS, "")
    if not isinstance(count, int) or not isinstance(read_as, str) or not isinstance(digests, str):
        return None
    try:
        kept = base64.urlsafe_b64decode(digests)
    except (binascii.Error, ValueError):  # changed by somebody: it tells nothing
        kept = b""
    return Seen(stage, count, read_as, frozenset(_split(kept)))


def _split(kept: bytes) -> Iterator[int]:
    return (int.from_bytes(kept[at : at + BYTES], "big") for at in range(0, len(kept), BYTES))

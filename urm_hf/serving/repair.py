"""
The text that frameworks send, made the text that the model was trained on.

OpenRLHF and slime send what a policy read and wrote: it ends where the policy stopped, while the chat template goes on
to where the reward is read. verl strips the BOS that a template writes. Neither fails: the rewards are others, and
surer of themselves than the right ones.
"""

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from transformers import PreTrainedTokenizerBase

from urm_hf.data.content import FILL_IN
from urm_hf.data.conversations import Conversation, read_conversation
from urm_hf.data.errors import RowError
from urm_hf.data.template_dates import template_without_clock

_QUESTION, _ANSWER = "Sentinel question", "Sentinel answer"
# what chat templates of others write; in a user's turn of ours it would be noise, and the reward of something else
_FOREIGN = re.compile(r"<\|[^<>|]{1,40}\|>|<\uff5c[^<>]{1,40}\uff5c>|\[/?INST\]|</?(?:start|end)_of_turn>|<s>")
KINDS = ("begin", "doubled_begin", "ending", "template", "closed")


@dataclass(frozen=True)
class Frame:
    """
    What a chat template writes around the turns of a question and its answer.

    Args:
        begins_with_bos (`bool`): whether it writes the tokenizer's BOS before them.
        between (`str`): what stands between the two.
        ending (`str`): what follows the answer.
    """

    begins_with_bos: bool
    between: str
    ending: str


class TextRepair:
    """
    Args:
        tokenizer (`PreTrainedTokenizerBase`): that of the reward model, with its chat template.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self.tokenizer = tokenizer
        self.frame = read_frame(tokenizer)

    def repair(self, text: str, prompt: Any = None) -> tuple[Conversation, list[str]]:
        """
        The conversation that a framework's text is meant to be, and which of `KINDS` had to be done.

        Args:
            text (`str`): prompt and answer, as the policy's side rendered them.
            prompt (`str`, *optional*): its beginning, where the framework sends that too.

        Raises:
            RowError: it is not in the model's chat template, and nothing tells the prompt from the answer; or the
                answer is empty.
        """
        if isinstance(prompt, str) and prompt.strip() and text.startswith(prompt):
            self._check_answer(text[len(prompt) :])
        if self.frame is None:
            eos = self.tokenizer.eos_token
            return Conversation(text=text, closed=True), ["closed"] if eos and not text.endswith(eos) else []
        if not self._is_rendered(text):
            return self._render(text, prompt), ["template"]
        done: list[str] = []
        text = self._begin(self._end(text, done), done)
        _, begun, answer = text.removesuffix(self.frame.ending).rpartition(self.frame.between.rstrip())
        if begun:
            self._check_answer(answer)
        return Conversation(text=text), done

    def repair_ids(self, ids: list[int]) -> tuple[Conversation, list[str]]:
        """
        As `repair`, of token ids; those that are no text of this tokenizer's are left as they are.

        Args:
            ids (`list[int]`): of a conversation.
        """
        as_they_are = Conversation(ids=tuple(ids))
        try:
            text = self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
            again = list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        except Exception:  # ids out of the vocabulary: whoever encodes them tells which
            return as_they_are, []
        if again != list(ids) or self.frame is None or not self._is_rendered(text):
            return as_they_are, []
        return self.repair(text)

    def strip(self, answer: str) -> str:
        """An answer without the tokens that end a turn."""
        if self.frame is None:
            return answer
        ending = self.frame.ending
        if ending and answer.endswith(ending):
            answer = answer[: -len(ending)]
        return self._strip_tokens(answer)

    @cached_property
    def _special(self) -> list[str]:
        """All tokens that no plain text becomes, the longest first."""
        added = getattr(self.tokenizer, "added_tokens_decoder", {})
        known = {str(token) for token in added.values()} | set(self.tokenizer.all_special_tokens)
        return sorted(filter(str.strip, known), key=len, reverse=True)

    @cached_property
    def _ends(self) -> list[str]:
        """Tokens with which a policy may stop, or its row be filled up."""
        ending = self.frame.ending if self.frame else ""
        own = [self.tokenizer.eos_token, self.tokenizer.pad_token]
        return [token for token in self._special if token in ending or token in own]

    def _is_rendered(self, text: str) -> bool:
        """Whether a text has what the chat template writes between a question and its answer."""
        assert self.frame is not None
        text = self.strip(text)  # a policy ends plain text with its EOS, too
        marks = [token for token in self._special if token in self.frame.between]
        mark = self.frame.between.strip()
        return any(token in text for token in marks) if marks else bool(mark) and mark in text

    def _render(self, text: str, prompt: Any) -> Conversation:
        if _FOREIGN.search(self.strip(text)):
            raise RowError(
                "the text is in the chat template of another model than this one. Let the framework send messages "
                "(slime, NeMo Gym, verl do, or a reward function of your own), or train a policy of the same template."
            )
        if isinstance(prompt, str) and prompt.strip() and text.startswith(prompt):
            return read_conversation({"prompt": prompt, "response": self.strip(text[len(prompt) :])})
        raise RowError(
            "the text is not in the model's chat template, and nothing tells its prompt from its answer. Let the "
            "framework apply the template (OpenRLHF: --apply_chat_template), or send the prompt as well."
        )

    def _end(self, text: str, done: list[str]) -> str:
        """The text up to where the template ends, and so the reward is read."""
        assert self.frame is not None
        ending = self.frame.ending
        if text.endswith(ending):
            return text
        done.append("ending")
        # the longest beginning of the ending that is there, as long as it has a whole token of its own: a "<" at the
        # end of an answer that was cut is no beginning of "<|im_end|>"
        first = _find_first_token(ending, self._special)
        for stop in range(len(ending) - 1, max(1, first[1]) - 1, -1):
            if text.endswith(ending[:stop]) and self._strip_tokens(text[:-stop]) == text[:-stop]:
                return text + ending[stop:]
        # the answer was cut, or ended by other tokens than the template's
        answer, lead = self._strip_tokens(text), ending[: first[0]]
        return answer + (ending[len(lead) :] if lead and answer != text and answer.endswith(lead) else ending)

    def _check_answer(self, answer: str):
        """A RowError if there is none: a policy must not be paid for silence."""
        rest = answer.strip()
        while (shorter := self.strip(rest).strip()) != rest:
            rest = shorter
        if not rest:
            raise RowError(f"the answer is empty. {FILL_IN}")

    def _strip_tokens(self, text: str) -> str:
        while token := next((token for token in self._ends if text.endswith(token)), None):
            text = text[: -len(token)]
        return text

    def _begin(self, text: str, done: list[str]) -> str:
        """The text with BOS as often as the template writes it, once or not at all."""
        assert self.frame is not None
        bos = self.tokenizer.bos_token
        if not bos:
            return text
        once = bos if self.frame.begins_with_bos else ""
        if once and not text.startswith(bos):
            done.append("begin")
            return bos + text
        begun = False
        while text.startswith(once + bos):
            text, begun = text[len(bos) :], True
        if begun:
            done.append("doubled_begin")
        return text


def read_frame(tokenizer: PreTrainedTokenizerBase) -> Frame | None:
    """What the chat template writes around an answer; None where there is no template, or it does not show one."""
    if not tokenizer.chat_template:
        return None
    turns = [{"role": "user", "content": _QUESTION}, {"role": "assistant", "content": _ANSWER}]
    try:
        text = str(tokenizer.apply_chat_template(turns, tokenize=False, **template_without_clock(tokenizer)))
    except Exception:  # a template that wants other turns than these
        return None
    before, found, ending = text.rpartition(_ANSWER)
    if not found or _QUESTION not in before:
        return None
    bos = tokenizer.bos_token
    return Frame(bool(bos) and text.startswith(str(bos)), before.rpartition(_QUESTION)[2], ending)


def _find_first_token(text: str, tokens: list[str]) -> tuple[int, int]:
    """Where the first of these tokens begins and ends in a text; twice its length where it has none."""
    found = re.search("|".join(map(re.escape, tokens)), text) if tokens else None
    return found.span() if found else (len(text), len(text))

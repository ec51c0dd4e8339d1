"""Conversations as token ids, for training and for chat alike.

A conversation's text is rendered by its chat template. Where the assistant speaks is found by rendering: the text up to an
answer is the conversation before it with the generation prompt. No marker string is searched for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from conversations.row import Message
from runtime.faults import WRONG, RunFault

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PROBE = "\u2014"
CUT = "\ufdd0"  # a noncharacter: no text holds it


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """Token ids of a conversation, and for each whether it is trained: the assistant's contents and ends of turn."""

    input_ids: list[int]
    trained: list[bool]


class ChatFormat:
    """A tokenizer with its chat template. `end_of_turn` is the id that ends an assistant's turn."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, system: str | None) -> None:
        self.tokenizer, self.system = tokenizer, system
        if tokenizer.chat_template is None:
            hint = "name one in the spec, for example template: chatml"
            raise RunFault("SG221", "the base model has no chat template of its own", hint, exit_code=WRONG)
        self.controls, self._ids_of = controls_of(tokenizer), plain_tokens(tokenizer)
        self.end_of_turn = self._find_end_of_turn()

    def with_system(self, messages: list[Message]) -> list[Message]:
        """The messages, with the config's system text where they have none of their own."""
        if self.system is None or messages[0]["role"] == "system":
            return messages
        return [{"role": "system", "content": self.system}, *messages]

    def render(self, messages: list[Message], *, prompt: bool = False) -> str:
        """The text of a conversation; with `prompt`, up to where the assistant is to speak. Raises RunFault."""
        from jinja2 import TemplateError

        try:
            told = [{**message, "content": cut_controls(message["content"], self.controls)} for message in messages]
            text = self.tokenizer.apply_chat_template(told, tokenize=False, add_generation_prompt=prompt)
        except (TemplateError, TypeError, ValueError) as error:
            raise RunFault("SG203", f"the chat template does not render this conversation: {error}", exit_code=WRONG) from None
        assert isinstance(text, str)
        return text

    def encode(self, messages: list[Message]) -> Encoded:
        """A whole conversation for training. Raises RunFault where the template rewrites earlier turns."""
        text = self.render(messages)
        ids: list[int] = []
        trained: list[bool] = []
        done = ""  # the text that `ids` stand for
        for index, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            start = self._prefix(text, messages[:index], prompt=True)
            end = text if index + 1 == len(messages) else self._prefix(text, messages[: index + 1], prompt=False)
            ids, trained = self._extend(ids, trained, done, start)
            answer_at = len(ids)
            ids, trained = self._extend(ids, trained, start, end)
            self._mark_answer(ids, trained, answer_at)
            done = end
        ids, trained = self._extend(ids, trained, done, text)
        return Encoded(input_ids=ids, trained=trained)

    def prompt_ids(self, messages: list[Message]) -> list[int]:
        """Ids that the model continues with its answer: exactly those that precede an answer in `encode`."""
        pending = [*messages, {"role": "assistant", "content": PROBE}]
        answers = [index for index, message in enumerate(pending) if message["role"] == "assistant"]
        ids: list[int] = []
        done = ""
        for index in answers:
            start = self.render(pending[:index], prompt=True)
            ids, _ = self._extend(ids, [], done, start)
            done = start
            if index != answers[-1]:
                end = self.render(pending[: index + 1])
                ids, _ = self._extend(ids, [], done, end)
                done = end
        return ids

    def _prefix(self, text: str, messages: list[Message], *, prompt: bool) -> str:
        part = self.render(messages, prompt=prompt) if messages or prompt else ""
        if not text.startswith(part):
            message = "the chat template rewrites earlier turns, or puts something else before an answer than its generation prompt"
            raise RunFault("SG421", message, "use a template whose turns stay as they are, for example template: chatml")
        return part

    def _extend(self, ids: list[int], trained: list[bool], done: str, text: str) -> tuple[list[int], list[bool]]:
        """Ids of `text`, which begins with `done`, whose ids are known.

        The whole text is tokenized at once where that leaves the known ids as they are; where a token would reach across
        the edge, the rest is tokenized alone.
        """
        if text == done:
            return ids, trained
        whole = self._ids_of(text)
        if whole[: len(ids)] != ids:
            whole = ids + self._ids_of(text[len(done) :])
        return whole, trained + [False] * (len(whole) - len(trained))

    def _mark_answer(self, ids: list[int], trained: list[bool], start: int) -> None:
        try:
            end = ids.index(self.end_of_turn, start) + 1
        except ValueError:
            end = len(ids)
        trained[start:end] = [True] * (end - start)

    def _find_end_of_turn(self) -> int:
        """The first special token that the template puts behind an answer."""
        user = [{"role": "user", "content": PROBE}]
        before = self.render(user, prompt=True)
        after = self.render([*user, {"role": "assistant", "content": PROBE}])
        closing = after[len(before) :].rpartition(PROBE)[2]
        special = set(self.tokenizer.all_special_ids)
        special |= {index for index, token in self.tokenizer.added_tokens_decoder.items() if token.special}
        for token in self._ids_of(closing):
            if token in special:
                return token
        message = "the chat template ends an assistant's turn with no special token, so generation could never stop"
        raise RunFault("SG422", message, "use a template that does, for example template: chatml", exit_code=WRONG)


def controls_of(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The texts of a tokenizer's control tokens."""
    return [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]


def cut_controls(content: str, controls: list[str]) -> str:
    """Content whose control tokens are cut in two, so that each part is tokenized as text."""
    for control in controls:
        content = content.replace(control, control[:1] + CUT + control[1:])
    return content


def plain_tokens(tokenizer: PreTrainedTokenizerBase) -> Callable[[str], list[int]]:
    """Text, maybe cut in pieces, → its ids without anything added. Straight from the tokenizers library where it can be:
    what transformers does around it takes as long again."""
    if not tokenizer.is_fast:
        return lambda text: [token for piece in text.split(CUT) for token in tokenizer(piece, add_special_tokens=False)["input_ids"]]
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    return lambda text: [token for piece in text.split(CUT) for token in backend.encode(piece, add_special_tokens=False).ids]

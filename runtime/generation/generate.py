"""Answers: streamed text that never shows half a character or part of a stop text, with the chat settings of the config."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING, Any

import torch
from tokenizers.decoders import DecodeStream
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

from conversations.row import Message
from runtime.config import ChatConfig, Config
from runtime.faults import WRONG, RunFault
from runtime.tokens.chat_template import ChatFormat
from runtime.tokens.text_format import RowFormat, row_format
from runtime.vision.form import images_of
from runtime.vision.looking import Eyes, eyes_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


COLDEST = 1e-5  # below, a sample is the likeliest token anyway, and logits divided by it are no numbers any more


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """`stopped` tells an answer that ended by itself from one that was cut: at max_new_tokens, because the context was `full`
    before that, or because it was `cancelled`.

    `ids` are all that the model wrote, and `raw` is their text with special tokens: tool calls are told by them.
    """

    text: str
    stopped: bool
    tokens: int
    prompt_tokens: int = 0
    cancelled: bool = False
    full: bool = False
    raw: str = ""
    ids: tuple[int, ...] = ()


class TextStream:
    """Token ids, one by one, into text pieces. Pieces put together are the whole text up to a stop text."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stop: tuple[str, ...]) -> None:
        self.tokenizer = tokenizer.backend_tokenizer
        self.decoder = DecodeStream(skip_special_tokens=True)
        self.stop = stop
        self.held = ""  # text that may be the beginning of a stop text
        self.stopped = False

    def feed(self, token: int) -> str:
        """The text that can be shown now; empty while a character or a stop text is incomplete."""
        if self.stopped:
            return ""
        self.held += self.decoder.step(self.tokenizer, token) or ""
        found = [(at + len(word), at) for word in self.stop if (at := self.held.find(word)) >= 0]
        if found:  # the one that is complete first, however the text is cut into tokens
            self.stopped = True
            return self._release(min(found)[1])
        return self._release(len(self.held) - self._unsure())

    def flush(self) -> str:
        """The text that was held back, when nothing more comes. Half a character is dropped."""
        return "" if self.stopped else self._release(len(self.held))

    def _release(self, length: int) -> str:
        piece, self.held = self.held[:length], self.held[length:]
        return piece

    def _unsure(self) -> int:
        """Length of the longest end of the held text that a stop text begins with."""
        longest = 0
        for word in self.stop:
            for length in range(min(len(word) - 1, len(self.held)), longest, -1):
                if self.held.endswith(word[:length]):
                    longest = length
                    break
        return longest


class Generator:
    """Makes answers with one tokenizer, chat format and chat settings; `eyes` look at the images of a model that sees.

    A message that shows images has them, paths or data: URLs, as its key `images`, one for each `<image>` of its content
    (vision/form.py: asking makes one).
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, form: RowFormat, chat: ChatConfig, eyes: Eyes | None = None) -> None:
        self.tokenizer, self.form, self.chat, self.eyes = tokenizer, form, chat, eyes

    def seen(self, messages: Sequence[Message], model: Any) -> dict[str, torch.Tensor]:
        """What a model is called with beside the ids: pixel_values [I, 3, H, W] of the images that messages show, in their order.
        Raises RunFault where the model sees nothing, or an image cannot be used."""
        images = images_of(messages)
        if not images:
            return {}
        if self.eyes is None:
            raise sees_nothing()
        return {"pixel_values": self.eyes.at(images).to(_device(model))}

    @torch.inference_mode()
    def answer(
        self,
        model: Any,
        messages: list[Message],
        *,
        max_new_tokens: int | None = None,
        show: Callable[[str], None] = lambda _piece: None,
        tools: list[Any] | None = None,
        cancel: Event | None = None,
        begun: Sequence[int] = (),
    ) -> Answer:
        """The model's answer to a conversation. `show` gets each piece of text as it comes; `cancel` ends it after the next token.

        `begun` are ids that the answer begins with; only what follows them comes back. Raises RunFault for an image that cannot be used.
        """
        prompt = [*self.form.prompt_ids(self.form.with_system(messages), tools), *begun]
        settings = generation_config(self.chat, self.tokenizer, self.form, model.generation_config, max_new_tokens)
        pieces: list[str] = []

        def take(piece: str) -> None:
            if piece:
                pieces.append(piece)
                show(piece)

        stream = TextStream(self.tokenizer, (*self.chat.stop, *template_stops(self.form)))
        feeder = _Feeder(stream, take, cancel)  # no streamer: transformers calls that after the criteria, a token late
        torch.manual_seed(self.chat.seed)
        input_ids = torch.tensor([prompt], device=_device(model))
        output = model.generate(
            input_ids=input_ids,
            attention_mask=torch.ones_like(input_ids),
            **self.seen(messages, model),
            generation_config=settings,
            stopping_criteria=StoppingCriteriaList([feeder]),
            synced_gpus=False,  # one process asks alone; under ZeRO-3 transformers would wait for the others
        )
        take(stream.flush())
        new = output[0, len(prompt) :].tolist()
        ended = bool(new) and new[-1] in _as_list(settings.eos_token_id)
        stopped = stream.stopped or ended
        return Answer(
            text="".join(pieces),
            stopped=stopped,
            tokens=len(new),
            prompt_tokens=len(prompt),
            cancelled=cancel is not None and cancel.is_set() and not stopped,
            raw=self.tokenizer.decode(new, skip_special_tokens=False),
            ids=tuple(new),
        )


def generator_of(config: Config, tokenizer: Any, chat: ChatConfig) -> Generator:
    """What makes answers by the spec's format and these settings; it sees images where the model does."""
    return Generator(tokenizer, row_format(tokenizer, config, system=chat.system), chat, eyes_of(config))


def sees_nothing() -> RunFault:
    """What is told where an image is shown to a model that sees none."""
    return RunFault("SG410", "this model sees no images", "train one with model.vision", exit_code=WRONG)


def _device(model: Any) -> torch.device:
    """Where a model takes its input; one whose first weights were moved out of memory says meta."""
    device = model.device
    if device.type == "meta":
        device = torch.device(getattr(getattr(model, "_hf_hook", None), "execution_device", None) or "cpu")
    return device


def generation_config(
    chat: ChatConfig, tokenizer: PreTrainedTokenizerBase, form: RowFormat, own: GenerationConfig | None, max_new_tokens: int | None = None
) -> GenerationConfig:
    """The chat settings in transformers' terms; generation stops on the template's end of turn and the ends of the model's `own`."""
    sampling: dict[str, Any] = {"do_sample": False}
    if not is_greedy(chat):
        sampling = {"do_sample": True, "temperature": chat.temperature, "top_k": chat.top_k, "top_p": chat.top_p}
    return GenerationConfig(
        max_new_tokens=max_new_tokens or chat.max_new_tokens,
        repetition_penalty=chat.repetition_penalty,
        eos_token_id=stop_ids(tokenizer, form, own),
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        **sampling,
    )


def is_greedy(chat: ChatConfig) -> bool:
    """Whether the likeliest token is always taken."""
    return chat.temperature < COLDEST


def stop_ids(tokenizer: PreTrainedTokenizerBase, form: RowFormat, base: GenerationConfig | None) -> list[int]:
    """Every id that ends an answer: those of the template's stop texts that are one token, too."""
    ids = {*_as_list(form.end_of_turn), *_as_list(base.eos_token_id if base else None), *_as_list(tokenizer.eos_token_id)}
    ids |= {token for text in template_stops(form) if (token := _token(tokenizer, text)) is not None}
    return sorted(ids)


def template_stops(form: RowFormat) -> tuple[str, ...]:
    """The texts that end an answer by the chat template."""
    return form.masks.stop if isinstance(form, ChatFormat) else ()


def _token(tokenizer: PreTrainedTokenizerBase, text: str) -> int | None:
    """The id of a text that is a token of its own; None where it is several."""
    token = tokenizer.convert_tokens_to_ids(text)
    return int(token) if token is not None and tokenizer.convert_ids_to_tokens(token) == text else None


def _as_list(ids: int | list[int] | None) -> list[int]:
    return [] if ids is None else [ids] if isinstance(ids, int) else list(ids)


class _Feeder(StoppingCriteria):
    """Feeds each new token to a TextStream, and ends generation where that has met a stop text, or where it is cancelled."""

    def __init__(self, stream: TextStream, take: Callable[[str], None], cancel: Event | None) -> None:
        self.stream, self.take, self.cancel = stream, take, cancel

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:
        self.take(self.stream.feed(int(input_ids[0, -1])))
        over = self.stream.stopped or (self.cancel is not None and self.cancel.is_set())
        return torch.full((input_ids.shape[0],), over, device=input_ids.device, dtype=torch.bool)

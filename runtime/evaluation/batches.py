"""Answers to many conversations, several at a time: what generation/generate.py makes one by one, in batches padded on the left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import StoppingCriteria, StoppingCriteriaList

from conversations.row import Conversation
from runtime.generation.generate import Answer, Generator, TextStream, generation_config, template_stops
from runtime.tokens.chat_template import ChatFormat
from runtime.tokens.text_format import RowFormat
from runtime.vision.form import placed

# B batch, T tokens


def answers(
    generator: Generator, model: Any, conversations: Sequence[Conversation], *, batch_size: int, max_new_tokens: int
) -> Iterator[Answer]:
    """The answer to each conversation, in order. The seed is set for each batch."""
    for first in range(0, len(conversations), batch_size):
        yield from _batch(generator, model, conversations[first : first + batch_size], max_new_tokens)


@torch.inference_mode()
def _batch(generator: Generator, model: Any, conversations: Sequence[Conversation], max_new_tokens: int) -> list[Answer]:
    form = generator.form
    conversations = [placed(conversation) for conversation in conversations]
    prompts = [_prompt(form, conversation) for conversation in conversations]
    settings = generation_config(generator.chat, generator.tokenizer, form, model.generation_config, max_new_tokens)
    ends = settings.eos_token_id if isinstance(settings.eos_token_id, list) else [settings.eos_token_id]
    if settings.pad_token_id is None:
        settings.pad_token_id = ends[0]
    longest = max(map(len, prompts))
    input_ids_BT = torch.full((len(prompts), longest), settings.pad_token_id)
    attention_mask_BT = torch.zeros_like(input_ids_BT)
    for row, prompt in enumerate(prompts):
        input_ids_BT[row, longest - len(prompt) :] = torch.tensor(prompt)
        attention_mask_BT[row, longest - len(prompt) :] = 1
    stops = (*generator.chat.stop, *template_stops(form))
    rows = [_Row(TextStream(generator.tokenizer, stops), ends) for _ in prompts]
    torch.manual_seed(generator.chat.seed)
    model.generate(
        input_ids=input_ids_BT.to(model.device),
        attention_mask=attention_mask_BT.to(model.device),
        **generator.seen([message for conversation in conversations for message in conversation["messages"]], model),
        generation_config=settings,
        stopping_criteria=StoppingCriteriaList([_Feeder(rows)]),
        synced_gpus=False,
    )
    return [row.answer() for row in rows]


def _prompt(form: RowFormat, conversation: Conversation) -> list[int]:
    messages = form.with_system(conversation["messages"])
    return form.prompt_ids(messages, conversation.get("tools")) if isinstance(form, ChatFormat) else form.prompt_ids(messages)


class _Row:
    """One answer of a batch as it comes; what follows its end is padding."""

    def __init__(self, stream: TextStream, ends: Sequence[int]) -> None:
        self.stream, self.ends = stream, ends
        self.text, self.tokens, self.ended = "", 0, False

    def feed(self, token: int) -> bool:
        """Takes a token; whether the answer is at its end."""
        if not self.ended:
            self.tokens += 1
            self.text += self.stream.feed(token)
            self.ended = self.stream.stopped or token in self.ends
        return self.ended

    def answer(self) -> Answer:
        return Answer(text=self.text + self.stream.flush(), stopped=self.ended, tokens=self.tokens)


class _Feeder(StoppingCriteria):
    """Feeds each new token to its row, and ends the rows that have met a stop text."""

    def __init__(self, rows: Sequence[_Row]) -> None:
        self.rows = rows

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:
        ended = [row.feed(token) for row, token in zip(self.rows, input_ids[:, -1].tolist(), strict=True)]
        return torch.tensor(ended, device=input_ids.device, dtype=torch.bool)

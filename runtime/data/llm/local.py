"""A model that is loaded here and answers in batches. An answer is drawn with its own seed, whatever else is in the batch."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from runtime.config import Dtype, HubBase, LlmSource, LocalBase, ModelConfig, PackageBase, TemplateConfig
from runtime.data.llm.budget import Meter
from runtime.data.llm.request import Reply, Request
from runtime.devices import roomy_device
from runtime.faults import WRONG, RunFault
from runtime.models.base import Base, folder_of, identity
from runtime.models.model import load_model, load_tokenizer

if TYPE_CHECKING:
    import torch

GATHERED_S = 0.01  # what is asked within this comes into one batch


class LocalModel:
    """Answers from the model that `source.model` names as model.base would. Loaded when something is asked."""

    resent = 0

    def __init__(self, source: LlmSource, meter: Meter) -> None:
        self.source, self.meter = source, meter
        self.base = base_of(source.model)
        self.where = json.dumps(identity(self.base), sort_keys=True)
        self._waiting: list[tuple[Request, asyncio.Future[Reply]]] = []
        self._worker: asyncio.Task[None] | None = None
        self._loaded: tuple[Any, Any] | None = None

    async def ask(self, request: Request) -> Reply:
        """The reply. Raises RunFault where the model is not to be had, and UsedUp."""
        async with self.meter.spending(request.most_tokens()) as bill:
            future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
            self._waiting.append((request, future))
            if self._worker is None or self._worker.done():
                self._worker = asyncio.create_task(self._answer_waiting())
            reply = await future
            bill.tokens = reply.tokens
            return reply

    async def close(self) -> None:
        """Lets go of the model."""
        self._loaded = None

    async def _answer_waiting(self) -> None:
        while True:
            await asyncio.sleep(GATHERED_S)
            batch, self._waiting = self._waiting[: self.source.concurrency], self._waiting[self.source.concurrency :]
            if not batch:
                return
            try:
                replies = await asyncio.to_thread(self._answer, [request for request, _ in batch])
            except Exception as error:
                for _, future in [*batch, *self._waiting]:
                    future.set_exception(error)
                self._waiting.clear()
                return
            for (_, future), reply in zip(batch, replies, strict=True):
                future.set_result(reply)

    def _answer(self, requests: list[Request]) -> list[Reply]:
        if self._loaded is None:
            self._loaded = _load(self.base)
        model, tokenizer = self._loaded
        return answers(model, tokenizer, requests)


def base_of(text: str) -> Base:
    """The base model that a text of the spec means: package:NAME/PATH, hf:OWNER/NAME@REVISION, or a path."""
    kind, _, rest = text.partition(":")
    if kind == "package":
        package, _, path = rest.partition("/")
        return PackageBase(package=package, path=path)
    if kind == "hf":
        repo, _, revision = rest.partition("@")
        return HubBase(repo=repo, revision=revision or None)
    return LocalBase(path=text)


def answers(model: Any, tokenizer: Any, requests: Sequence[Request]) -> list[Reply]:
    """One batch of answers."""
    import torch
    from transformers import GenerationConfig

    ids = [tokenizer(_prompt(request, tokenizer), add_special_tokens=False)["input_ids"] for request in requests]
    longest = max(map(len, ids))
    input_ids_BT = torch.tensor([[tokenizer.pad_token_id] * (longest - len(row)) + row for row in ids], device=model.device)
    mask_BT = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in ids], device=model.device)
    own = model.generation_config.eos_token_id
    ends = {tokenizer.eos_token_id, *(own if isinstance(own, list) else [] if own is None else [own])}
    settings = GenerationConfig(
        max_new_tokens=requests[0].max_tokens, do_sample=False, eos_token_id=sorted(ends), pad_token_id=tokenizer.pad_token_id
    )
    with torch.inference_mode():
        output_BT = model.generate(
            input_ids=input_ids_BT, attention_mask=mask_BT, generation_config=settings, logits_processor=[_Drawn(requests)]
        )
    return [_reply(new, len(row), ends, tokenizer) for new, row in zip(output_BT[:, longest:].tolist(), ids, strict=True)]


def _prompt(request: Request, tokenizer: Any) -> str:
    """What the model is asked. Raises RunFault where the chat template refuses it."""
    from jinja2 import TemplateError

    try:
        return str(tokenizer.apply_chat_template(list(request.messages), add_generation_prompt=True, tokenize=False))
    except (TemplateError, TypeError, ValueError, AttributeError, LookupError, ArithmeticError) as error:
        message = f"the local model's chat template does not render a prompt: {error}"
        hint = "ask in turns that the template knows: many take no system turn"
        raise RunFault("SG203", message, hint, exit_code=WRONG) from None


def _reply(new: list[int], prompt_tokens: int, ends: set[int], tokenizer: Any) -> Reply:
    at = next((index for index, token in enumerate(new) if token in ends), None)
    text = tokenizer.decode(new[:at], skip_special_tokens=True)
    tokens = prompt_tokens + (len(new) if at is None else at + 1)
    return Reply(text=text, finish="length" if at is None else "stop", tokens=tokens)


class _Drawn:
    """Draws each row's token with the row's own generator: the largest of the scores plus Gumbel noise is a draw from their softmax,
    so that greedy decoding of the noisy scores samples."""

    def __init__(self, requests: Sequence[Request]) -> None:
        import torch

        self.requests = requests
        self.generators = [torch.Generator().manual_seed(request.seed) for request in requests]

    def __call__(self, _input_ids: torch.Tensor, scores_BV: torch.Tensor) -> torch.Tensor:
        import torch

        drawn = [
            _noisy(scores_V.float(), request, generator) if request.temperature > 0 else scores_V.float()
            for scores_V, request, generator in zip(scores_BV, self.requests, self.generators, strict=True)
        ]
        return torch.stack(drawn)


def _noisy(scores_V: torch.Tensor, request: Request, generator: torch.Generator) -> torch.Tensor:
    import torch

    scores_V = scores_V / request.temperature
    if request.top_p < 1:
        ordered, order = scores_V.softmax(-1).sort(descending=True)
        too_many = ordered.cumsum(-1) - ordered >= request.top_p  # the token that reaches the share still belongs to it
        scores_V = scores_V.index_fill(0, order[too_many], -torch.inf)
    uniform_V = torch.rand(scores_V.shape, generator=generator).clamp_min(torch.finfo(torch.float32).tiny)
    return scores_V - torch.log(-torch.log(uniform_V)).to(scores_V.device)


def _load(base: Base) -> tuple[Any, Any]:
    import torch

    device = roomy_device("auto", folder_of(base), torch.bfloat16)
    dtype: Dtype = "bfloat16" if device.type == "cuda" else "float32"
    settings = ModelConfig(base=base, dtype=dtype, attention="auto", quantization=None, trust_remote_code=False, from_run=None, vision=None)
    tokenizer = load_tokenizer(settings, TemplateConfig(name="tokenizer", jinja=None, stop=()))
    if not tokenizer.chat_template:
        hint = "take the chat model that was made of it, or serve it with a template and give its base_url"
        raise RunFault("SG487", "the local model has no chat template, so that nothing can be asked", hint, exit_code=WRONG)
    return load_model(settings, device=device).eval(), tokenizer

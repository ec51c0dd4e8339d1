"""The rows of an `llm` source, in the order of its prompts whatever the order of the answers."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from conversations.row import Conversation, canonical, digest
from conversations.rules import RowsOf, RuleFault, Writer
from runtime import console
from runtime.cache import cache_folder
from runtime.config import LlmSource
from runtime.data.llm.answer import Misfit, answer_of, mark_of
from runtime.data.llm.budget import Meter, UsedUp
from runtime.data.llm.cache import Cache
from runtime.data.llm.endpoint import Endpoint
from runtime.data.llm.prompts import Prompt, derived_seed, prompts_of, writer_of
from runtime.data.llm.request import Reply, Request
from runtime.faults import WRONG, RunFault

MOST_REFUSED = 0.1  # share of the answers
AHEAD = 4  # prompts at work for each request that may be under way

Say = Callable[[str, str], None]


class Model(Protocol):
    """An endpoint or a local model."""

    where: str
    resent: int

    async def ask(self, request: Request) -> Reply:
        """The reply to a request. Raises RunFault where there is none to be had."""

    async def close(self) -> None:
        """Gives back what it holds: connections, or memory."""


@dataclass(slots=True)
class Counts:
    """What came of the prompts. `asked` and `kept` count requests: sent, and answered from the disk."""

    prompts: int = 0
    asked: int = 0
    kept: int = 0
    refused: int = 0
    judged_out: int = 0
    equal: int = 0
    rows: int = 0
    first_misfit: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What one prompt came to: a conversation, or why there is none."""

    conversation: Conversation | None
    misfit: str | None = None


def rows(
    source: LlmSource, *, seed: int, rows_of: RowsOf, cache: Path | None = None, say: Say = console.say, asks: bool = True
) -> Iterator[Conversation]:
    """Conversations, one after the other; `rows_of` gives those of the synthetic sources that variables name. Replies are kept in
    `cache`, or in llm/ of the cache folder.

    Raises RunFault where the model, its answers, the budget or a prompt that does not render end it before its end; what was answered
    until then is kept. With `asks` false, where an answer is not kept.
    """
    cache = cache or cache_folder() / "llm"
    with asyncio.Runner() as runner:
        maker = runner.run(_maker(source, Cache(cache), seed, asks=asks))
        counts, met, work = maker.counts, set[int](), deque[asyncio.Task[Made]]()
        prompts = prompts_of(source, seed=seed, rows_of=rows_of)
        with console.counting_bar(f"llm {name_of(source)}", source.requests) as bar:
            try:
                while True:
                    runner.run(maker.begin(prompts, work))
                    if not work:
                        break
                    made = runner.run(_wait(work.popleft()))
                    counts.prompts += 1
                    bar(counts.prompts)
                    conversation = _counted(made, maker, met)
                    if conversation is not None:
                        yield conversation
            except UsedUp as error:
                runner.run(_ended(work))
                raise _used_up(str(error), maker) from None
            except RuleFault as fault:
                runner.run(_ended(work))
                raise _no_prompt(fault, source) from None
            except RunFault:
                runner.run(_ended(work))
                raise
            finally:
                runner.run(_left(work))
                runner.run(maker.model.close())
    say("data", line(source, maker))
    if not counts.rows:
        raise RunFault("SG486", f"no row is left of what {name_of(source)} wrote: {_lost(counts)}", "look at the answers: " + str(cache))


def name_of(source: LlmSource) -> str:
    """What messages call the source."""
    return source.name or source.model


def line(source: LlmSource, maker: Maker) -> str:
    """The counts in a line."""
    counts = maker.counts
    parts = [
        f"{name_of(source)}: {counts.prompts:,} prompts → {counts.rows:,} rows",
        f"{counts.asked:,} asked, {counts.kept:,} from the cache" if counts.kept else f"{counts.asked:,} asked",
        f"{maker.model.resent:,} sent again" if maker.model.resent else "",
        _lost(counts),
        f"{maker.meter.tokens:,} tokens" if maker.meter.tokens else "",
    ]
    return " · ".join(part for part in parts if part)


@dataclass(slots=True)
class Maker:
    """Makes a conversation of a prompt. Equal requests are asked once, at the same time, too."""

    source: LlmSource
    cache: Cache
    model: Model
    meter: Meter
    row: Writer
    judge: Writer | None
    counts: Counts = field(default_factory=Counts)
    _under_way: dict[str, asyncio.Task[Reply]] = field(default_factory=dict)

    async def begin(self, prompts: Iterator[Prompt], work: deque[asyncio.Task[Made]]) -> None:
        """Puts prompts to work until enough are."""
        while len(work) < AHEAD * self.source.concurrency and (prompt := next(prompts, None)):
            work.append(asyncio.create_task(self.made(prompt)))

    async def made(self, prompt: Prompt) -> Made:
        """Asks until an answer fits and, where there is a judge, until that gives a mark. Raises RunFault and UsedUp."""

        def row(reply: Reply) -> Conversation:
            try:
                conversation = self.row.write({**prompt.values, "answer": answer_of(reply, self.source.schema)})
                canonical(conversation).encode("utf-8")
            except UnicodeEncodeError:
                raise Misfit("it holds half a character") from None
            except RuleFault as fault:
                why = fault.text.removeprefix("the text does not render: ")
                raise Misfit("the assistant's text is empty" if fault.kind == "empty answer" else f"it makes no row: {why}") from None
            return conversation

        try:
            conversation = await self._fitting(prompt.messages, prompt.sample, row, judging=False)
            if self.judge is None or self.source.judge is None:
                return Made(conversation=conversation)
            messages = tuple(self.judge.write(_judged(conversation))["messages"])
            mark = await self._fitting(messages, 0, mark_of, judging=True)
        except Misfit as misfit:
            return Made(conversation=None, misfit=str(misfit))
        return Made(conversation=conversation if mark >= self.source.judge.least else None)

    async def _fitting(self, messages: tuple[dict[str, str], ...], sample: int, read: Callable[[Reply], Any], *, judging: bool) -> Any:
        """What `read` makes of the first reply that it takes. Raises Misfit, of the first reply, where it takes none."""
        first: Misfit | None = None
        for attempt in range(self.source.retries + 1):
            request = self._request(messages, sample, attempt, judging=judging)
            reply = await self._reply(request)
            try:
                return read(reply)
            except Misfit as misfit:
                first = first or Misfit(f"{misfit}: {console.one_line(reply.text)!r}" if reply.text else str(misfit))
        assert first is not None
        raise first

    def _request(self, messages: tuple[dict[str, str], ...], sample: int, attempt: int, *, judging: bool) -> Request:
        return Request(
            where=self.model.where,
            model=self.source.model,
            messages=messages,
            temperature=0.0 if judging and attempt == 0 else self.source.temperature,  # a mark is no matter of chance
            top_p=self.source.top_p,
            max_tokens=self.source.max_tokens,
            seed=derived_seed(messages, sample, attempt),
            schema=None if judging else self.source.schema,
        )

    async def _reply(self, request: Request) -> Reply:
        if (reply := self.cache.get(request)) is not None:
            self.counts.kept += 1
            return reply
        key = request.key()
        if key not in self._under_way:
            self._under_way[key] = asyncio.create_task(self._asked(request))
            self._under_way[key].add_done_callback(lambda _task: self._under_way.pop(key))
        return await asyncio.shield(self._under_way[key])

    async def _asked(self, request: Request) -> Reply:
        reply = await self.model.ask(request)
        self.counts.asked += 1
        self.cache.put(request, reply)
        return reply


async def _maker(source: LlmSource, cache: Cache, seed: int, *, asks: bool) -> Maker:
    meter = Meter(source.budget)
    model = _model(source, meter)
    judge = writer_of(source.judge.prompt, seed=seed) if source.judge else None
    return Maker(source, cache, model if asks else _Silent(model, name_of(source)), meter, writer_of(source.row, seed=seed), judge)


def _model(source: LlmSource, meter: Meter) -> Model:
    if not source.local:
        return Endpoint(source, meter)
    from runtime.data.llm.local import LocalModel

    return LocalModel(source, meter)


class _Silent:
    """Stands for a model that is not to be asked."""

    resent = 0

    def __init__(self, model: Model, name: str) -> None:
        self.where, self.name = model.where, name

    async def ask(self, request: Request) -> Reply:
        """Raises RunFault: nobody is asked here."""
        message = f"{self.name}: another model writes these rows, and not all of them have been made"
        raise RunFault("SG491", message, "specgen run SPEC --stage data makes them", exit_code=WRONG)

    async def close(self) -> None:
        """Holds nothing."""


async def _wait(task: asyncio.Task[Made]) -> Made:
    return await task


async def _ended(work: deque[asyncio.Task[Made]]) -> None:
    """Waits for what is under way, so that its answers are kept, too: they are paid for."""
    await asyncio.gather(*work, return_exceptions=True)


async def _left(work: deque[asyncio.Task[Made]]) -> None:
    """Ends what was begun ahead for a reader who wants no more of it. What it raised is nobody's to tell then."""
    for task in work:
        task.cancel()
    await asyncio.gather(*work, return_exceptions=True)


def _counted(made: Made, maker: Maker, met: set[int]) -> Conversation | None:
    """The conversation, if it stays. Raises RunFault once too many answers are refused."""
    counts, source = maker.counts, maker.source
    if made.misfit is not None:
        counts.refused += 1
        counts.first_misfit = counts.first_misfit or made.misfit
        if counts.refused > MOST_REFUSED * source.requests:
            raise _too_many(maker)
        return None
    if made.conversation is None:
        counts.judged_out += 1
        return None
    if source.unique:
        name = digest(canonical(made.conversation))
        if name in met:
            counts.equal += 1
            return None
        met.add(name)
    counts.rows += 1
    return made.conversation


def _judged(conversation: Conversation) -> dict[str, Any]:
    """What a judge's prompt may name: the last text of each role, empty where there is none, and all messages."""
    last = {message["role"]: message["content"] for message in conversation["messages"]}
    return {"system": "", "user": "", "assistant": "", **last, "messages": conversation["messages"]}


def _lost(counts: Counts) -> str:
    kinds = ((counts.refused, "refused"), (counts.judged_out, "below the judge's mark"), (counts.equal, "equal to others"))
    return ", ".join(f"{number:,} {what}" for number, what in kinds if number)


def _too_many(maker: Maker) -> RunFault:
    counts, source = maker.counts, maker.source
    tried = f"each asked {source.retries + 1} times; " if source.retries else ""
    message = (
        f"{counts.refused:,} of the first {counts.prompts:,} prompts of {name_of(source)} have no answer that fits ({tried}"
        f"{MOST_REFUSED:.0%} of {source.requests:,} may fail). The first: {counts.first_misfit}"
    )
    return RunFault("SG485", message, "say in the prompt how to answer, ease the schema, or raise max_tokens")


def _no_prompt(fault: RuleFault, source: LlmSource) -> RunFault:
    """A prompt that cannot be asked: the source's own, or its judge's, whose texts hang on what was answered."""
    return RunFault("SG204", f"a prompt of {name_of(source)} cannot be asked: {fault.text}", fault.hint, exit_code=WRONG)


def _used_up(what: str, maker: Maker) -> RunFault:
    counts, source = maker.counts, maker.source
    message = (
        f"the budget of {name_of(source)}, {what}, is used up: {counts.prompts:,} of {source.requests:,} prompts are done"
        f" ({maker.meter.requests:,} requests, {maker.meter.tokens:,} tokens)"
    )
    return RunFault("SG484", message, "all answers are kept: run it again to go on with the same budget, or raise budget in the spec")

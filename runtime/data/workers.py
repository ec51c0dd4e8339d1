"""Parts tokenized in several processes, or in this one where there are few: the results come in the order of the parts.

A process starts in about half a second, and imports neither PyTorch nor transformers.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain, islice
from multiprocessing import connection
from multiprocessing.connection import Connection

from runtime.config import Config
from runtime.data.encode import Encoder, Tokenized
from runtime.data.lengths import policy_of
from runtime.data.near_duplicates import sketcher
from runtime.data.parts import Part
from runtime.faults import RunFault
from runtime.tokens.text_format import row_format
from runtime.tokens.vocabulary import Vocabulary

FEW = 8  # parts: tokenized in about the time that processes take to start
MOST_PROCESSES = 8
AHEAD = 2  # parts for each process that are done before it is their turn


def encoder(config: Config, vocabulary: Vocabulary) -> Encoder:
    """What the config makes of rows. Raises RunFault."""
    sketch = sketcher() if config.data.near_duplicates else None
    form = row_format(vocabulary, config, system=config.data.system)
    return Encoder(form, policy_of(config), sketch, prompts=config.data.validation is not None)


def tokenized(parts: Iterator[Part], config: Config, load: Callable[[], Vocabulary]) -> Iterator[Tokenized]:
    """The parts as arrays, in their order. Processes start while the tokenizer is loaded. Raises RunFault."""
    first = list(islice(parts, FEW))
    processes = min(MOST_PROCESSES, cores())
    if len(first) < FEW or processes < 2:
        yield from map(encoder(config, load()), chain(first, parts))
        return
    with _started(processes) as workers:
        vocabulary = load()
        here = encoder(config, vocabulary)
        if vocabulary.tokenizer is None:  # it cannot travel
            yield from map(here, chain(first, parts))
            return
        _begin(workers, config, vocabulary)
        try:
            yield from _in_order(chain(first, parts), workers)
        except (EOFError, ConnectionError):
            hint = "the system may have killed it for want of memory: leave it more, or give it shorter rows"
            raise RunFault("SG476", "a process that tokenizes rows has ended before its work was done", hint) from None


def cores() -> int:
    """Cores that this process may use; on macOS, which tells nobody that, all there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _in_order(parts: Iterator[Part], workers: list[Connection]) -> Iterator[Tokenized]:
    """A part goes to whoever is free, but none is far ahead of the one that is waited for: memory stays what it is."""
    numbered = enumerate(parts)
    free, at_work = list(workers), dict[Connection, int]()
    done: dict[int, Tokenized] = {}
    following = 0
    while True:
        while free and len(done) < AHEAD * len(workers) and (given := next(numbered, None)) is not None:
            worker = free.pop()
            at_work[worker] = given[0]
            worker.send(given[1])
        if following in done:
            yield done.pop(following)
            following += 1
        elif at_work:
            ready = set(map(id, connection.wait(list(at_work))))
            for worker in [worker for worker in at_work if id(worker) in ready]:
                result = worker.recv()
                if isinstance(result, Exception):
                    raise result
                done[at_work.pop(worker)] = result
                free.append(worker)
        else:
            return


@contextmanager
def _started(processes: int) -> Iterator[list[Connection]]:
    """The ends here of pipes to new processes, which end with this. A process is sent only what it is asked for and sends only
    its answer, so that neither waits for the other to read."""
    context = multiprocessing.get_context("spawn")
    pipes = [context.Pipe() for _ in range(processes)]
    running = [context.Process(target=_work, args=(there,), daemon=True) for _, there in pipes]
    try:
        for process in running:
            process.start()
        for _, there in pipes:
            there.close()  # the other process alone has it now: when it ends, so does the pipe
        yield [here for here, _ in pipes]
    finally:
        for process, (here, _) in zip(running, pipes, strict=True):
            here.close()
            process.terminate()
            process.join()


def _begin(workers: list[Connection], config: Config, vocabulary: Vocabulary) -> None:
    """Tells processes what they need to know of all parts."""
    beginning = pickle.dumps((config, vocabulary))
    for worker in workers:
        with suppress(ConnectionError):  # told when its first answer is waited for
            worker.send_bytes(beginning)


def _work(there: Connection) -> None:
    """What another process does until the pipe ends. The one that started it alone answers to Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(EOFError):
        here = encoder(*there.recv())
        gc.freeze()
        gc.disable()  # nothing here refers to itself
        while True:
            part = there.recv()
            try:
                result: Tokenized | Exception = here(part)
            except Exception as error:
                result = error
            there.send(result)

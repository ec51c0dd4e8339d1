"""runtime/web/answering.py: answers beside the page. What answers here is a double whose tokens the tests let go one by one."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

import pytest

from runtime.faults import RunFault
from runtime.generation.generate import Answer
from runtime.web import answering
from runtime.web.answering import Answering
from runtime.web.conversation import Said, Turn
from runtime.web.models import Side


@dataclass
class Double:
    """Says its words, one for each `go`; ends early where it is told to stop."""

    words: list[str]
    fault: Exception | None = None
    has_turns: bool = True
    lock: threading.Lock = field(default_factory=threading.Lock)
    go: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    asked: list[object] = field(default_factory=list)

    def fitted(self, messages, _chat):
        return messages[-1:], len(messages) // 2

    def answer(self, messages, *, chat, show, stop, base):
        with self.lock:
            self.asked.append((messages, chat, base))
            said = ""
            for word in self.words:
                self.go.acquire(timeout=20)
                if self.fault:
                    raise self.fault
                said += word
                show(word)
                if stop.is_set():
                    return Answer(text=said, stopped=False, tokens=1, cancelled=True)
            return Answer(text=said, stopped=self.words[-1] == ".", tokens=len(self.words))


def side(talker, said, base=False):
    return Side(said=said, talker=lambda: talker, base=base)


def wait(condition):
    until = time.monotonic() + 20
    while not condition() and time.monotonic() < until:
        time.sleep(0.005)
    assert condition()


def begin(talker, turn=None, messages=("one",), making=None):
    turn = turn or Turn(question="?")
    sides = [side(talker, turn.answer)] + ([side(talker, turn.base, base=True)] if turn.base else [])
    (making or Answering()).begin(turn, list(messages), "settings", sides)
    return turn


def test_an_answer_grows_and_says_how_it_ended():
    talker = Double(["I", " am", "."])
    turn = begin(talker)
    talker.go.release()
    wait(lambda: turn.answer.text == "I")
    assert turn.running
    talker.go.release(2)
    wait(lambda: not turn.running)
    assert turn.answer == Said(text="I am.", ended="stop", tokens=3)


def test_an_answer_that_is_cut_says_so():
    talker = Double(["I", " am"])
    talker.go.release(2)
    turn = begin(talker)
    wait(lambda: turn.answer.ended == "length")


def test_stop_ends_an_answer_after_the_next_token_and_keeps_what_was_said():
    talker = Double(["I", " am", " not", " done"])
    turn = begin(talker)
    talker.go.release()
    wait(lambda: turn.answer.text)
    turn.stop.set()
    talker.go.release()
    wait(lambda: not turn.running)
    assert (turn.answer.text, turn.answer.ended) == ("I am", "cancelled")


def test_both_models_are_asked_the_same_one_after_the_other():
    talker = Double(["."])
    turn = begin(talker, Turn(question="?", base=Said()), messages=("a", "b", "c"))
    talker.go.release(2)
    wait(lambda: not turn.running)
    assert talker.asked == [(["c"], "settings", False), (["c"], "settings", True)]
    assert turn.answer.left_out == turn.base.left_out == 1


def test_after_stop_the_base_model_is_not_asked_any_more():
    talker = Double(["I", "."])
    turn = begin(talker, Turn(question="?", base=Said()))
    turn.stop.set()
    talker.go.release(4)
    wait(lambda: not turn.running)
    assert turn.base == Said(ended="cancelled")


def test_text_is_continued_for_itself():
    talker = Double(["."], has_turns=False)
    talker.go.release()
    turn = begin(talker, messages=("a", "b", "c"))
    wait(lambda: not turn.running)
    assert talker.asked[0][0] == ["c"]


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (RunFault("SG664", "the conversation is too long", "begin anew"), "the conversation is too long (begin anew)"),
        (RunFault("SG664", "the conversation is too long"), "the conversation is too long"),
        (MemoryError("out of memory"), "MemoryError: out of memory"),
    ],
)
def test_a_fault_is_told_in_the_place_of_the_answer(fault, text, capsys):
    talker = Double(["never"], fault=fault)
    talker.go.release()
    turn = begin(talker)
    wait(lambda: not turn.running)
    assert turn.answer == Said(text=text, ended="failed")
    assert ("Traceback" in capsys.readouterr().err) == isinstance(fault, MemoryError)


def test_who_waits_knows_how_many_are_before():
    making, talker = Answering(), Double(["."])
    turns = [begin(talker, making=making) for _ in range(3)]
    assert [making.before(turn) for turn in turns] == [0, 1, 2]
    talker.go.release(3)
    wait(lambda: not any(turn.running for turn in turns))
    assert making.before(turns[2]) == 0


def test_an_answer_that_nobody_looks_at_ends(monkeypatch):
    monkeypatch.setattr(answering, "ABANDONED_S", 0.0)
    talker = Double(["I", " go", " on"])
    talker.go.release(3)
    turn = begin(talker)
    wait(lambda: not turn.running)
    assert (turn.answer.text, turn.answer.ended) == ("I", "cancelled")


def test_when_the_server_ends_all_answers_do():
    making, talker = Answering(), Double(["I", "."])
    turns = [begin(talker, making=making) for _ in range(2)]
    talker.go.release(2)
    making.end()
    assert [turn.answer.ended for turn in turns] == ["cancelled", "cancelled"]

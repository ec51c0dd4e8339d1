"""A chat in the terminal as tests have it: with whichever model a file's `talker` is, and nothing on a screen."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runtime.chat.session import Session
from runtime.talking.answering import Plainly
from runtime.talking.talker import START


class Quiet:
    """A view that keeps what it is given."""

    def __init__(self):
        self.notes, self.pieces = [], []

    def note(self, text):
        self.notes.append(text)

    def fault(self, fault):
        self.notes.append(str(fault))

    def begin(self):
        self.pieces = []

    def piece(self, text):
        self.pieces.append(text)

    def end(self, answer):
        pass


@pytest.fixture
def session(talker):
    return Session(talker=talker, view=Quiet(), chat=replace(START, max_new_tokens=4), answering=Plainly())

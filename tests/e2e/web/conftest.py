"""A real Chromium, and the page of a real small model in it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

PATIENCE_S = 240.0  # on a busy machine
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking")


@pytest.fixture(scope="module")
def browser():
    """Chromium, or these tests are skipped."""
    playwright = pytest.importorskip("playwright.sync_api", reason="the tests of the page need playwright")
    playwright.expect.set_options(timeout=PATIENCE_S * 1000)
    with playwright.sync_playwright() as started:
        try:
            chromium = launched(started)
        except playwright.Error as error:
            pytest.skip(f"there is no Chromium (apt-get install chromium, or playwright install chromium): {str(error).splitlines()[0]}")
        yield chromium
        chromium.close()


def launched(playwright):
    """Chromium: the system's, else Playwright's own."""
    found = next(filter(None, map(shutil.which, CHROMIUM)), None)
    return playwright.chromium.launch(executable_path=found, args=FLAGS, timeout=PATIENCE_S * 1000)


@dataclass(frozen=True)
class Served:
    """A page that is served: the address that was printed, and the file that its output goes to."""

    url: str
    log: Path


@contextmanager
def served(words: Sequence[str | Path], *, log: Path, **environment: str) -> Iterator[Served]:
    """`specgen chat … --web` until it says where, and Ctrl-C at the end."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "specgen", "chat", *map(str, words), "--web", "--port", "0"],
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield Served(_address(process, log), log)
    finally:
        os.killpg(process.pid, signal.SIGINT)
        code = process.wait(60)
    assert code == 130, log.read_text()
    assert "Traceback" not in log.read_text(), log.read_text()


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    while True:
        for line in log.read_text().splitlines():
            if line.endswith("Ctrl-C ends"):
                return line.split(" · ")[1]
        try:
            raise AssertionError(f"ended with {process.wait(0.2)}: {log.read_text()}")
        except subprocess.TimeoutExpired:
            continue


class Chat:
    """A user's page."""

    def __init__(self, context, url: str) -> None:
        self.page = context.new_page()
        self.page.set_default_timeout(PATIENCE_S * 1000)
        self.elsewhere: list[str] = []
        self.page.on("response", lambda response: self._note(response.url, url))
        self.page.goto(url)
        self.messages = self.page.get_by_test_id("stChatMessage")
        self.last = self.messages.last
        self.field("Your question").wait_for()

    def _note(self, loaded: str, url: str) -> None:
        if loaded.split("/")[:3] != url.split("/")[:3] and not loaded.startswith(("data:", "blob:")):
            self.elsewhere.append(loaded)

    def field(self, label: str):
        """A field by its label, or by what stands in it while it is empty."""
        return self.page.get_by_label(label, exact=True).or_(self.page.get_by_placeholder(label, exact=True)).first

    def click(self, name: str) -> None:
        """Clicks a button; where there are several of that name, the last."""
        self.page.get_by_role("button", name=name).last.click()

    def set(self, **values: object) -> None:
        """Opens the settings where they are closed, and sets some: max_new_tokens=6."""
        summary = self.page.get_by_text("Settings", exact=True)
        if not self.field("Seed").is_visible():
            summary.click()
        for name, value in values.items():
            field = self.field(name.replace("_", " ").capitalize())
            field.fill(str(value))
            field.press("Control+Enter" if name in ("system", "stop_texts") else "Enter")

    def type(self, question: str) -> None:
        """Sends a question. While a file beside it is on its way, Streamlit takes no Enter: then first the button is waited for."""
        self.field("Your question").fill(question)
        self.page.locator('[data-testid="stChatInputSubmitButton"]:enabled').wait_for()
        self.page.keyboard.press("Enter")

    def ask(self, question: str) -> list[dict[str, str]]:
        """Sends a question and waits for the answer; returns the conversation."""
        before = self.messages.count()
        self.type(question)
        self.messages.nth(before + 1).wait_for()
        return self.answered()

    def answered(self) -> list[dict[str, str]]:
        """Waits until the last question is answered; returns the conversation."""
        self.last.get_by_role("button", name="Regenerate").wait_for()
        return self.conversation()

    def conversation(self) -> list[dict[str, str]]:
        """What Download JSON has."""
        return json.loads(self.download("Download JSON")[1])["messages"]

    def until(self, holds: Callable[[list[dict[str, str]]], bool]) -> None:
        """Waits until the conversation is so."""
        deadline = time.monotonic() + PATIENCE_S
        while not holds(self.conversation()):
            assert time.monotonic() < deadline, self.conversation()

    def download(self, button: str) -> tuple[str, str]:
        """A file's name and text. While an answer comes the page is drawn anew, and a file of before may be gone: then once more."""
        for _ in range(20):
            with self.page.expect_download() as download:
                self.click(button)
            if download.value.failure() is None:
                break
        return download.value.suggested_filename, Path(download.value.path()).read_text(encoding="utf-8")

"""python -m pictures [NAME…]: makes the pictures in docs/ anew, all or those named, of a run of the default spec that is made for them.

Needs a Chromium, and half a minute of training.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import chdir
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyte
from PIL import Image
from playwright.sync_api import sync_playwright

from pictures.review import comment_on
from pictures.terminal import html_of, screen_of, text_of
from tests.e2e.web.conftest import Chat, launched, served

HERE = Path(__file__).parent
ROOT = HERE.parent
DOCS = ROOT / "docs"
SPEC = "specs/assistant.yaml"
MOST_BYTES = 200_000
SHARPER = 1.25  # dots of a picture for one of the page


@dataclass
class Studio:
    """A folder with the default spec in it, as users have it, and a browser."""

    folder: Path
    browser: Any

    @cached_property
    def screen(self) -> pyte.Screen:
        """What the run of the spec shows; the model is there from then on."""
        return screen_of([sys.executable, "-m", "specgen", "run", SPEC], shown_as=f"specgen run {SPEC}", folder=self.folder)

    def page(self, width: int, height: int) -> Any:
        """An empty page; one that is `height` high or higher."""
        context = self.browser.new_context(viewport={"width": width, "height": height}, device_scale_factor=SHARPER)
        return context.new_page()

    def drawn(self, template: str, content: str) -> bytes:
        """HTML in one of the frames beside this file."""
        page = self.page(1200, 900)
        page.set_content((HERE / template).read_text(encoding="utf-8").replace("CONTENT", content))
        return bytes(page.locator("#picture").screenshot(omit_background=True))


def run(studio: Studio) -> bytes:
    """A run, from the spec to the model; the README has its words, too."""
    readme = ROOT / "README.md"
    readme.write_text(with_run(readme.read_text(encoding="utf-8"), text_of(studio.screen)), encoding="utf-8")
    return studio.drawn("terminal.html", html_of(studio.screen))


def with_run(page: str, text: str) -> str:
    """A page whose example of a run is this one."""
    first, _, _ = text.partition("\n")
    return re.sub(rf"^{re.escape(first)}\n(?:.*\n)*?(?=```)", lambda _: text, page, count=1, flags=re.MULTILINE)


def report(studio: Studio) -> bytes:
    """The report of the run, its first screen."""
    assert studio.screen
    page = studio.page(960, 1180)
    page.goto((studio.folder / "runs/assistant/report/report.html").as_uri())
    return bytes(page.screenshot())


def web(studio: Studio) -> bytes:
    """The trained model beside its base, asked twice."""
    assert studio.screen
    with chdir(studio.folder), served([SPEC], log=studio.folder / "web.txt") as site:
        chat = Chat(studio.browser.new_context(viewport={"width": 1200, "height": 1000}), site.url)
        chat.page.get_by_text("Beside the base model").click()
        chat.ask("Who are you?")
        chat.ask("What is the capital of Italy?")
        chat.page.mouse.move(700, 980)
        return bytes(chat.page.screenshot(animations="disabled"))


def preview(studio: Studio) -> bytes:
    """Rows as the model sees them."""
    words = ["data", "preview", SPEC, "--rows", "1", "--html", "preview.html"]
    subprocess.run([sys.executable, "-m", "specgen", *words], cwd=studio.folder, check=True, stdout=subprocess.DEVNULL)
    page = studio.page(900, 600)
    page.goto((studio.folder / "preview.html").as_uri())
    return bytes(page.screenshot(full_page=True))


def comment(studio: Studio) -> bytes:
    """What a review of a changed spec says."""
    return studio.drawn("comment.html", comment_on(studio.folder / "product"))


PICTURES: dict[str, Callable[[Studio], bytes]] = {picture.__name__: picture for picture in (run, report, web, preview, comment)}


def shrunk(png: bytes) -> bytes:
    """The same picture in 256 colours."""
    with io.BytesIO() as small:
        Image.open(io.BytesIO(png)).quantize(256, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
        return small.getvalue()


def main() -> None:
    """Makes all pictures, or those that are named."""
    names = sys.argv[1:] or list(PICTURES)
    if unknown := set(names) - set(PICTURES):
        sys.exit(f"no picture is called {', '.join(sorted(unknown))}; there are {', '.join(PICTURES)}")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as started:
        studio = Studio(Path(folder), launched(started))
        (studio.folder / "specs").mkdir()
        (studio.folder / SPEC).write_bytes((ROOT / SPEC).read_bytes())
        for name in names:
            png = shrunk(PICTURES[name](studio))
            assert len(png) < MOST_BYTES, (name, len(png))
            (DOCS / f"{name}.png").write_bytes(png)
            print(f"docs/{name}.png · {len(png) / 1000:.0f} kB", flush=True)
        studio.browser.close()


if __name__ == "__main__":
    main()

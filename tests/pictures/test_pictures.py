"""pictures/: what a terminal shows becomes HTML; the pictures in docs/ are small and each is on a page."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pictures.__main__ import MOST_BYTES, PICTURES, with_run
from pictures.terminal import COLOURS, html_of, screen_of, text_of

ROOT = Path(__file__).parents[2]
PAGES = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")))


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_small_and_on_a_page(name):
    assert 10_000 < (ROOT / "docs" / f"{name}.png").stat().st_size < MOST_BYTES
    assert f"{name}.png)" in PAGES


def test_the_last_screen_of_a_command_keeps_colours_and_what_was_written_over(tmp_path):
    script = r"print('gone\rlast'); print('\x1b[32m<ok>\x1b[0m', __import__('sys').stdout.isatty())"
    screen = screen_of([sys.executable, "-c", script], shown_as="a command", folder=tmp_path)
    assert text_of(screen) == "$ a command\nlast\n<ok> True\n"
    shown = html_of(screen).splitlines()
    assert "font-weight: bold" in shown[0] and "$ a command" in shown[0]
    assert ">last</span>" in shown[1]
    assert f'<span style="color: {COLOURS["green"]}">&lt;ok&gt;</span>' in shown[2] and "True" in shown[2]
    assert len(shown) == 3


def test_the_words_of_a_run_take_the_place_of_those_before():
    page = "# A\n```\nmake run\n```\n```\n$ specgen run a.yaml\nold\n\ndone\n```\nb\n```\nc\n```\n"
    assert with_run(page, "$ specgen run a.yaml\nnew\n") == page.replace("old\n\ndone", "new")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert with_run(readme, "$ specgen run specs/assistant.yaml\nnew\n").count("```") == readme.count("```")


def test_a_command_that_fails_makes_no_picture(tmp_path):
    with pytest.raises(subprocess.CalledProcessError):
        screen_of([sys.executable, "-c", "raise SystemExit(2)"], shown_as="a command", folder=tmp_path)

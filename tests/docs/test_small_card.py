"""docs/guides/small_card.md and pretraining.md: the figures are those of the plan, and the spec that is shown is valid."""

from __future__ import annotations

import re

import pytest

from specgen.compiler import compile_spec
from specgen.memory import memory_plan

SPEC = "specs/internlm2_chat_1_8b_qlora_alpaca_e3.yaml"
GIB = 2**30


def guide(root, name):
    return (root / "docs" / "guides" / f"{name}.md").read_text(encoding="utf-8")


def test_the_figures_are_those_of_the_plan(root, monkeypatch):
    monkeypatch.chdir(root)
    rows = re.findall(r"^\| (?:as it stands|`([a-z0-9_.=]+)`) \| ([0-9.]+) \|$", guide(root, "small_card"), re.MULTILINE)
    assert len(rows) == 7
    for setting, told in rows:
        done = compile_spec(root / SPEC, None, tuple(filter(None, [setting, "hardware.device_memory=null"])))
        assert f"{memory_plan(done.plan, done.facts.model, None).total / GIB:.2f}" == told, setting


def test_what_is_refused_is_refused_in_these_words(root, cli):
    ran = cli("validate", SPEC, "--set", "train.gradient_checkpointing=false", cwd=root)
    block = re.findall(r"```\n\$ specgen validate.*?\n(.*?)```", guide(root, "small_card"), re.DOTALL)[0]
    assert ran.code == 2
    for line in block.splitlines():
        assert line in (ran.out + ran.err).splitlines()


@pytest.mark.parametrize("text", ["One page.\n" * 400])
def test_the_spec_of_pretraining_is_valid(root, cli, tmp_path, text):
    (spec,) = [block for block in re.findall(r"```yaml\n(.*?)```", guide(root, "pretraining"), re.DOTALL) if block.startswith("specgen: 1")]
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "handbook.txt").write_text(text, encoding="utf-8")
    (tmp_path / "handbook.yaml").write_text(spec, encoding="utf-8")
    ran = cli("validate", "handbook.yaml")
    assert ran.code == 0, ran.out + ran.err

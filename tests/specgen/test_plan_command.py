"""specgen plan --measure: what is told once the memory is measured."""

from __future__ import annotations

import json

import pytest

from specgen.commands import plan as planning
from specgen.diagnostics import Diagnostic, SpecError
from specgen.memory import MemoryPlan

PARTS = dict.fromkeys(("weights", "adapter", "gradients", "optimizer", "activations", "logits", "buffers"), 2**20)
MEASURED = MemoryPlan(**PARTS, on_cpu=0, disk=None, row_tokens=64, trained_share=0.5)
CONFIG = {"model_type": "of-tomorrow", "hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 32}
SPEC = """\
specgen: 1
name: unknown
model: {base: base}
template: chatml
data: {sources: [{synthetic: {messages: [{user: Hi}, {assistant: Hello.}]}}]}
hardware: {device_memory: 8GiB}
"""


@pytest.fixture
def unknown(tmp_path, monkeypatch):
    """A base model of a type whose sizes are not known, measured all the same."""

    def no_tokens(_compiled):
        raise SpecError(Diagnostic(code="SG311", message="no PyTorch here"))

    (tmp_path / "base").mkdir()
    (tmp_path / "base/config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "spec.yaml").write_text(SPEC)
    monkeypatch.setattr(planning, "measured_data", no_tokens)
    monkeypatch.setattr(planning, "_measured_step", lambda _compiled: MEASURED)


def test_memory_is_told_where_the_sizes_of_the_files_are_not_known(cli, unknown):
    ran = cli("plan", "spec.yaml", "--measure")
    assert ran.code == 0, ran.err
    assert "| together | 0.01 GiB of 8.00 GiB |" in ran.out
    assert "The run writes" not in ran.out


def test_what_is_measured_is_not_unknown(cli, unknown):
    assert "SG282" in cli("plan", "spec.yaml").err
    assert "SG282" not in cli("plan", "spec.yaml", "--measure").err

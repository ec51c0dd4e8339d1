"""Exit codes and the surface of the command line."""

import subprocess
import sys

import pytest

LOADED = "import sys, specgen.cli; print([name for name in ('jinja2', 'yaml', 'jsonschema', 'specgen.plan') if name in sys.modules])"


def test_a_valid_spec_is_said_to_be_valid(cli, small, tmp_path):
    (tmp_path / "spec.yaml").write_text(small)
    ran = cli("validate", "spec.yaml")
    assert (ran.code, ran.out) == (0, "spec.yaml  valid · 0 errors\n")


def test_several_specs_are_checked_in_one_call(cli, small, tmp_path):
    (tmp_path / "good.yaml").write_text(small)
    (tmp_path / "bad.yaml").write_text(small.replace("small", "a b"))
    ran = cli("validate", "bad.yaml", "good.yaml")
    assert ran.code == 2
    assert "bad.yaml:2:7: error SG107" in ran.err
    assert "good.yaml  valid" in ran.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["validate", "absent.yaml"], "error SG001: absent.yaml does not exist"),
        (["compile", "."], "error SG001: . is a folder, not a spec file"),
        (["run", "absent.yaml"], "error SG001: absent.yaml does not exist"),
        (["explain", "nonsense"], "error SG111: nonsense is neither a code nor a key"),
        (["run", "spec.yaml", "--accept-change", "--begin-anew"], "give one of them"),
        (["validate"], "Missing argument 'SPECS...'"),
        (["vaildate"], "No such command 'vaildate'"),
    ],
)
def test_a_wrong_call_is_told_and_exits_with_2(cli, tmp_path, arguments, message):
    ran = cli(*arguments)
    assert ran.code == 2
    assert message in ran.err
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_is_130(cli, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("specgen.compiler.compile_spec", interrupted)
    assert cli("validate", "spec.yaml").code == 130


def test_a_fault_of_ours_is_3_and_asks_for_a_report(cli, monkeypatch):
    monkeypatch.setattr("specgen.compiler.compile_spec", lambda *_: 1 / 0)
    ran = cli("validate", "spec.yaml")
    assert ran.code == 3
    assert "this is a fault of specgen 0.1.0, not of your spec" in ran.err


def test_the_commands_are_there_before_what_they_need_is_loaded(root):
    assert subprocess.run([sys.executable, "-c", LOADED], cwd=root, capture_output=True, text=True, check=True).stdout == "[]\n"


def test_schema_prints_what_the_file_holds(cli, root):
    assert cli("schema").out == (root / "schemas/spec.schema.json").read_text()
    assert cli("schema", "--plan").out == (root / "schemas/plan.schema.json").read_text()


def test_an_unknown_profile_is_told_with_the_nearest(cli, root):
    ran = cli("validate", root / "specs/assistant.yaml", "--profile", "zreo2")
    assert ran.code == 2
    assert "error SG109: the spec has no profile 'zreo2'" in ran.err
    assert "hint: did you mean 'zero2'?" in ran.err


def test_a_setting_is_checked_like_the_spec(cli, root):
    ran = cli("validate", root / "specs/assistant.yaml", "--set", "train.learning_rate=fast")
    assert ran.code == 2
    assert "--set train.learning_rate=fast: error SG103: train.learning_rate is the text fast; it has to be a number" in ran.err

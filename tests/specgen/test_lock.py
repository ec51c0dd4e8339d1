"""The lock file: what it says, each kind of drift in its words, and who refuses it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from specgen.diagnostics import SpecError
from specgen.lock import file as lock
from specgen.lock import hashes, take
from specgen.lock.contents import LockedBase, LockedFile, LockedHubData, LockedRows, LockedTemplate, LockedTokenizer, Part

CONFIG = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2, "vocab_size": 32, "max_position_embeddings": 64, "use_cache": True,
}  # fmt: skip
SPEC = """\
specgen: 1
name: locked
model: {base: models/tiny}
data:
  sources:
    - file: {path: rows.jsonl, format: openai}
    - synthetic:
        repeat: 3
        messages: [{user: Hi}, {assistant: Hello.}]
profiles:
  short: {train: {epochs: 1}}
"""
ROW = '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]}\n'


@pytest.fixture
def spec(tmp_path, monkeypatch):
    """A spec of a local base model, of a data file and of generated rows."""
    monkeypatch.setenv("SPECGEN_CACHE", str(tmp_path / "cache"))
    model = tmp_path / "models/tiny"
    model.mkdir(parents=True)
    (model / "config.json").write_text(json.dumps(CONFIG))
    (model / "tokenizer.json").write_text("{}")
    (model / "tokenizer_config.json").write_text(
        json.dumps({"chat_template": "{% for message in messages %}{{ message.content }}</s>{% endfor %}"})
    )
    (tmp_path / "rows.jsonl").write_text(ROW)
    (tmp_path / "spec.yaml").write_text(SPEC)
    return tmp_path / "spec.yaml"


@pytest.fixture
def locked(spec, cli):
    """The same, with its lock file."""
    assert cli("lock", "spec.yaml").code == 0
    return spec


def faults(ran):
    """The first lines of the faults that a command told of the lock."""
    return [line for line in ran.err.splitlines() if line.startswith("spec.lock.yaml:")]


def test_a_lock_is_written_beside_the_spec_and_read_back(spec, cli):
    ran = cli("lock", "spec.yaml")
    assert (ran.code, ran.out) == (0, "wrote spec.lock.yaml; next: commit it beside the spec\n")
    found = lock.read(spec.with_name("spec.lock.yaml"))
    assert found.name == "locked"
    assert (found.base.source, found.base.revision) == ("models/tiny", None)
    assert [file.path for file in found.base.files] == ["config.json"]
    assert found.base.config == {key: value for key, value in CONFIG.items() if key != "use_cache"}
    assert [file.path for file in found.tokenizer.files] == ["tokenizer.json", "tokenizer_config.json"]
    assert found.tokenizer.files[0] == LockedFile(
        path="tokenizer.json", size=2, sha256="44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    )
    assert (found.template.name, found.template.jinja[:5]) == ("tokenizer", "{% fo")
    assert [(file.path, file.rows) for file in found.data[0].files] == [("rows.jsonl", 1)]
    assert (type(found.data[1]), found.data[1].rows) == (LockedRows, 3)
    assert found.libraries == take.take_libraries()
    assert found.figures is None


def test_a_lock_in_another_form_leaves_the_output_to_it(spec, cli):
    ran = cli("lock", "spec.yaml", "--format", "json")
    assert (ran.code, ran.out, ran.err) == (0, "[]\n", "wrote spec.lock.yaml; next: commit it beside the spec\n")


@pytest.mark.parametrize(
    "words", [("validate",), ("compile", "--locked"), ("run",), ("lock",), ("lock", "--check"), ("lock", "--update", "data")]
)
@pytest.mark.parametrize("profile", ["a/b", "none", "a" * 300])
def test_a_profile_that_is_not_there_is_told_and_not_its_lock(spec, cli, words, profile):
    ran = cli(words[0], "spec.yaml", "--profile", profile, *words[1:])
    assert ran.code == 2
    assert f": error SG109: the spec has no profile '{profile}'\n" in ran.err


@pytest.mark.parametrize("words", [("lock",), ("lock", "--check"), ("lock", "--update", "data")])
def test_a_folder_has_no_lock(spec, cli, words):
    ran = cli(words[0], ".", *words[1:])
    assert (ran.code, ran.err.splitlines()[0]) == (2, "error SG001: . is a folder, not a spec file")


def test_a_profile_whose_name_is_no_name_is_told(spec, cli):
    spec.write_text(SPEC.replace("short:", "a/b:"))
    ran = cli("check", "spec.yaml")
    assert ran.code == 2
    assert "the profile name a/b may hold only letters" in ran.err


def test_a_cache_that_is_a_file_is_no_fault(tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("")
    monkeypatch.setenv("SPECGEN_CACHE", str(tmp_path / "cache"))
    (tmp_path / "large").write_bytes(b"weights" * hashes.LARGE)
    assert hashes.sha256_of(tmp_path / "large") == hashlib.sha256(b"weights" * hashes.LARGE).hexdigest()


def test_a_lock_that_cannot_be_written_is_told_where_nothing_can_be_tidied_up_either(spec, cli, monkeypatch):
    def refused(*_words, **_more):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "write_bytes", refused)
    monkeypatch.setattr(Path, "unlink", refused)
    ran = cli("lock", "spec.yaml")
    assert ran.code == 2
    assert "error SG302: spec.lock.yaml cannot be written: Read-only file system\n" in ran.err


def test_the_same_things_are_locked_with_the_same_bytes(locked, cli):
    path = locked.with_name("spec.lock.yaml")
    before = path.read_bytes()
    assert cli("lock", "spec.yaml").code == 0
    assert path.read_bytes() == before
    lock.write(lock.read(path), path)
    assert path.read_bytes() == before


def test_other_yaml_readers_read_the_same(locked):
    text = locked.with_name("spec.lock.yaml").read_text()
    plain = yaml.safe_load(text)
    assert plain["data"][1] == {"synthetic": {"rows": 3, "sha256": lock.read(locked.with_name("spec.lock.yaml")).data[1].sha256}}
    assert list(plain) == ["lock", "name", "base", "tokenizer", "template", "data", "libraries", "figures", "checksum"]


def test_a_profile_has_a_lock_of_its_own(locked, cli):
    assert cli("lock", "spec.yaml", "--profile", "short").out == "wrote spec.short.lock.yaml; next: commit it beside the spec\n"
    assert lock.read(locked.with_name("spec.short.lock.yaml")).name == "locked-short"


def test_a_profile_without_one_is_held_by_the_lock_of_its_spec(locked, cli):
    add_row(locked.parent)
    ran = cli("compile", "spec.yaml", "--locked", "--profile", "short")
    assert faults(ran)[0].startswith("spec.lock.yaml:35:1: error SG295: the data are not the locked ones: rows.jsonl")
    assert "hint: if that is meant: specgen lock spec.yaml --update data\n" in ran.err
    assert cli("lock", "spec.yaml", "--check", "--profile", "short").code == 1
    assert cli("lock", "spec.yaml", "--profile", "short").code == 0
    assert cli("compile", "spec.yaml", "--locked", "--profile", "short").code == 0
    assert cli("lock", "spec.yaml", "--check", "--profile", "short").out == "spec.short.lock.yaml holds\n"


def test_a_gguf_file_is_locked_with_the_tokenizer_inside_it(cli, small, tmp_path):
    (tmp_path / "small.yaml").write_text(small)
    assert cli("lock", "small.yaml").code == 0
    found = lock.read(tmp_path / "small.lock.yaml")
    assert found.base.revision == "0.1.2"
    assert [file.size for file in found.base.files] == [98_362_432]
    assert found.tokenizer.files == ()
    assert len(found.tokenizer.sha256) == 64


def test_what_holds_is_said_to_hold(locked, cli):
    ran = cli("lock", "spec.yaml", "--check")
    assert (ran.code, ran.out, ran.err) == (0, "spec.lock.yaml holds\n", "")
    assert cli("compile", "spec.yaml", "--locked").code == 0


def change_base(folder):
    (folder / "models/tiny/config.json").write_text(json.dumps({**CONFIG, "vocab_size": 33}))


def add_weights(folder):
    (folder / "models/tiny/extra.bin").write_bytes(b"weights")


def change_tokenizer(folder):
    (folder / "models/tiny/tokenizer.json").write_text('{"version": 2}')


def lose_tokenizer(folder):
    (folder / "models/tiny/tokenizer.json").unlink()


def add_row(folder):
    (folder / "rows.jsonl").write_text(ROW + ROW)


def other_base(folder):
    (folder / "models/tiny").rename(folder / "models/other")
    (folder / "spec.yaml").write_text(SPEC.replace("models/tiny", "models/other"))


def other_template(folder):
    (folder / "spec.yaml").write_text(SPEC + "template: chatml\n")


def other_text(folder):
    (folder / "spec.yaml").write_text(SPEC.replace("Hello.", "Hello!"))


def more_rows(folder):
    (folder / "spec.yaml").write_text(SPEC.replace("repeat: 3", "repeat: 4"))


def other_kind(folder):
    rows = "    - synthetic: {messages: [{user: Hi}, {assistant: Hello.}]}\n"
    (folder / "spec.yaml").write_text(SPEC.replace("    - file: {path: rows.jsonl, format: openai}\n", rows))


def source_gone(folder):
    (folder / "spec.yaml").write_text(SPEC.replace("    - file: {path: rows.jsonl, format: openai}\n", ""))


DRIFTS = [
    (change_base, "spec.lock.yaml:6:1: error SG292: the base model is not the locked one: config.json d12a0f39e5a9 → a662e527fcda"),
    (add_weights, "spec.lock.yaml:6:1: error SG292: the base model is not the locked one: extra.bin is new"),
    (other_base, "spec.lock.yaml:6:1: error SG292: the base model is not the locked one: model.base models/tiny → models/other"),
    (change_tokenizer, "spec.lock.yaml:22:1: error SG293: the tokenizer is not the locked one: tokenizer.json 44136fa355b3 → 0899eaeee76d"),
    (lose_tokenizer, "spec.lock.yaml:22:1: error SG293: the tokenizer is not the locked one: tokenizer.json is gone"),
    (other_template, "spec.lock.yaml:31:1: error SG294: the chat template is not the locked one: template tokenizer → chatml"),
    (add_row, "spec.lock.yaml:35:1: error SG295: the data are not the locked ones: rows.jsonl a7aa437ed5ff → 246955b63398 (1 → 2 rows)"),
    (other_text, "spec.lock.yaml:35:1: error SG295: the data are not the locked ones: source 2 fc0f4d7ea8dd → 01e277ce27ac"),
    (more_rows, "spec.lock.yaml:35:1: error SG295: the data are not the locked ones: source 2 fc0f4d7ea8dd → d9c72a600fe4 (3 → 4 rows)"),
    (other_kind, "spec.lock.yaml:35:1: error SG295: the data are not the locked ones: source 1 file → synthetic"),
    (source_gone, "spec.lock.yaml:35:1: error SG295: the data are not the locked ones: 2 sources → 1"),
]


@pytest.mark.parametrize(("change", "fault"), DRIFTS, ids=[change.__name__ for change, _ in DRIFTS])
def test_a_drift_is_refused_and_says_what_changed(locked, cli, change, fault):
    change(locked.parent)
    checked, compiled = cli("lock", "spec.yaml", "--check"), cli("compile", "spec.yaml", "--locked")
    assert (checked.code, faults(checked)) == (1, [fault])
    assert (compiled.code, faults(compiled)) == (2, [fault])
    part = {"SG292": "base", "SG293": "tokenizer", "SG294": "template", "SG295": "data"}[fault.split("error ")[1][:5]]
    assert f"  hint: if that is meant: specgen lock spec.yaml --update {part}\n" in checked.err
    assert cli("lock", "spec.yaml", "--update", part).code == 0
    assert cli("lock", "spec.yaml", "--check").code == 0


def test_every_part_can_be_renewed(cli):
    assert f"[{'|'.join(get_args(Part))}]" in cli("lock", "--help").out


def test_many_changes_are_counted(locked, cli):
    for number in range(7):
        (locked.parent / f"models/tiny/more{number}.bin").write_bytes(b"")
    expected = ", ".join(f"more{number}.bin is new" for number in range(5))
    assert faults(cli("lock", "spec.yaml", "--check")) == [
        f"spec.lock.yaml:6:1: error SG292: the base model is not the locked one: {expected}, and 2 more"
    ]


def test_an_update_renews_its_part_and_names_the_others_that_differ(locked, cli):
    add_row(locked.parent)
    change_tokenizer(locked.parent)
    before = lock.read(locked.with_name("spec.lock.yaml"))
    ran = cli("lock", "spec.yaml", "--update", "data")
    assert ran.out == "wrote spec.lock.yaml; still not as locked: tokenizer\n"
    after = lock.read(locked.with_name("spec.lock.yaml"))
    assert after == replace(before, data=after.data)
    assert after.data != before.data


def test_figures_pass_through(locked, cli):
    path = locked.with_name("spec.lock.yaml")
    figures = {"key": "3f2a", "tokens": 2940, "overlap": 0.5, "lengths": [1, 2]}
    lock.write(replace(lock.read(path), figures=figures), path)
    assert cli("lock", "spec.yaml").code == 0
    assert cli("lock", "spec.yaml", "--update", "data").code == 0
    assert lock.read(path).figures == figures


words = st.text(min_size=1, max_size=20)


@given(name=words, source=words, paths=st.lists(words, unique=True), jinja=st.none() | st.text(max_size=80), figures=words)
def test_any_text_is_read_back_as_it_was(tmp_path_factory, name, source, paths, jinja, figures):
    files = tuple(LockedFile(path=path, size=1, sha256="0") for path in paths)
    written = lock.Lock(
        lock=1,
        name=name,
        base=LockedBase(source=source, revision=None, files=files, config={"model_type": source, "layers": 2, "tied": False}),
        tokenizer=LockedTokenizer(sha256=None, files=()),
        template=LockedTemplate(name=name, sha256=None, jinja=jinja),
        data=(LockedHubData(repo=name, asked=None, revision=source, subset=name, split=source, rows=None),),
        libraries={name: source},
        figures={figures: [0.1, 1e-7, True, None, figures]},
    )
    path = tmp_path_factory.mktemp("lock") / "any.lock.yaml"
    lock.write(written, path)
    assert lock.read(path) == written


def newer(monkeypatch, name="torch", version="9.9.9"):
    """Another version of one library is installed from here on."""
    installed = take.version
    monkeypatch.setattr(take, "version", lambda package: version if package == name else installed(package))


def test_other_libraries_are_refused_by_compile_and_told_by_run(locked, cli, monkeypatch):
    old = take.take_libraries()["torch"]
    newer(monkeypatch)
    fault = f"SG296: libraries are not the locked ones: torch {old} → 9.9.9"
    assert [line.partition("error ")[2] for line in faults(cli("compile", "spec.yaml", "--locked"))] == [fault]
    monkeypatch.setattr("specgen.launch.become", lambda *_: (_ for _ in ()).throw(SystemExit(0)))
    ran = cli("run", "spec.yaml")
    assert [line.partition("warning ")[2] for line in faults(ran)] == [fault]
    assert ran.code == 0
    assert faults(cli("validate", "spec.yaml")) == []


def test_a_library_that_is_not_installed_here_is_no_difference(locked, cli, monkeypatch):
    def absent(package):
        raise take.PackageNotFoundError(package)

    monkeypatch.setattr(take, "version", absent)
    assert cli("compile", "spec.yaml", "--locked").code == 0


def test_what_a_build_adds_to_a_version_is_left_out(monkeypatch):
    newer(monkeypatch, version="2.13.0+cu128")
    assert take.take_libraries()["torch"] == "2.13.0"


def test_run_refuses_a_drift_unless_told_otherwise(locked, cli, monkeypatch):
    started = []
    monkeypatch.setattr("specgen.launch.become", lambda module, arguments: started.append(module) or exec("raise SystemExit(0)"))
    add_row(locked.parent)
    ran = cli("run", "spec.yaml")
    assert (ran.code, started) == (2, [])
    assert "error SG295: the data are not the locked ones: rows.jsonl" in ran.err
    ran = cli("run", "spec.yaml", "--unlocked")
    assert (ran.code, started) == (0, ["runtime"])
    assert "warning SG295: the data are not the locked ones: rows.jsonl" in ran.err


def test_validate_and_compile_tell_a_drift_and_go_on(locked, cli):
    add_row(locked.parent)
    for verb in ("validate", "compile"):
        ran = cli(verb, "spec.yaml")
        assert ran.code == 0
        assert "spec.lock.yaml:35:1: warning SG295: the data are not the locked ones" in ran.err


def test_validate_and_compile_hash_no_weights(locked, cli, monkeypatch):
    monkeypatch.setattr(hashes, "_digest", lambda _: pytest.fail("a file of the base model was hashed"))
    assert cli("validate", "spec.yaml").code == 0
    assert cli("compile", "spec.yaml").code == 0


def test_without_a_lock_file_nothing_is_held_unless_asked_for(spec, cli):
    assert cli("compile", "spec.yaml").code == 0
    for call in (["compile", "spec.yaml", "--locked"], ["lock", "spec.yaml", "--check"], ["lock", "spec.yaml", "--update", "data"]):
        ran = cli(*call)
        assert ran.code == 2
        assert ran.err == (
            "error SG290: there is no lock file spec.lock.yaml\n"
            "  hint: make it: specgen lock spec.yaml\n"
            "1 error. Explanation: specgen explain SG290\n"
        )  # fmt: skip


@pytest.mark.parametrize(
    ("edit", "what"),
    [
        (lambda text: "a: [", "it is not YAML as specgen writes it: "),
        (lambda text: "- a\n", "it is not YAML as specgen writes it: "),
        (lambda text: "name: x\n", "it is no lock file"),
        (lambda text: text.replace("lock: 1", "lock: 2"), "it is of version 2; this specgen reads version 1"),
        (lambda text: text.replace("lock: 1", "lock: new"), "it is of version new; this specgen reads version 1"),
        (lambda text: text.replace('name: "locked"\n', ""), "name is missing"),
        (lambda text: text.replace('name: "locked"\n', "name: 3\n"), "name has to be text"),
        (lambda text: text.replace("      size: 2\n", ""), "tokenizer.files[0].size is missing"),
        (lambda text: text.replace("      size: 2\n", "      size: true\n"), "tokenizer.files[0].size has to be a number"),
        (lambda text: text.replace("      rows: 3\n", "      rows: 3\n      more: 1\n"), "data[1].synthetic.more is not known"),
        (lambda text: text.replace("  - synthetic:", "  - other:"), "data[1] has to be a mapping with the key file"),
        (
            lambda text: text.replace("      rows: 3\n", "      rows: 4\n"),
            "it was changed by hand, or cut off: its checksum is another one",
        ),
        (lambda text: text[: text.index("checksum")], "it was changed by hand, or cut off: its checksum is another one"),
    ],
)
def test_a_lock_file_that_is_broken_is_told(locked, cli, edit, what):
    path = locked.with_name("spec.lock.yaml")
    path.write_text(edit(path.read_text()))
    start = f"spec.lock.yaml:1:1: {{}} SG291: the lock file cannot be used: {what}"
    for call in (["validate", "spec.yaml"], ["compile", "spec.yaml", "--locked"], ["run", "spec.yaml"], ["lock", "spec.yaml", "--check"]):
        ran = cli(*call)
        assert ran.code == 2
        assert ran.err.startswith(start.format("error"))
        assert "hint: bring back the committed file, or make it again with specgen lock" in ran.err


def test_a_broken_lock_file_can_be_made_again_and_is_no_hindrance_unlocked(locked, cli, monkeypatch):
    path = locked.with_name("spec.lock.yaml")
    whole = path.read_bytes()
    path.write_text("lock: 1\n")
    monkeypatch.setattr("specgen.launch.become", lambda *_: exec("raise SystemExit(0)"))
    ran = cli("run", "spec.yaml", "--unlocked")
    assert ran.code == 0
    assert "warning SG291: the lock file cannot be used: base is missing" in ran.err
    assert cli("lock", "spec.yaml").code == 0
    assert path.read_bytes() == whole


def test_comments_and_line_ends_are_no_change(locked, cli):
    path = locked.with_name("spec.lock.yaml")
    path.write_bytes(b"# reviewed\r\n" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert cli("compile", "spec.yaml", "--locked").code == 0


def test_a_lock_file_is_validated_like_a_spec(locked, cli):
    assert cli("validate", "spec.yaml", "spec.lock.yaml").out.endswith("spec.lock.yaml  valid · 0 errors\n")
    locked.with_name("spec.lock.yaml").write_text("lock: 1\n")
    assert cli("validate", "spec.lock.yaml").code == 2


def test_a_spec_with_a_fault_is_not_locked(spec, cli):
    spec.write_text(SPEC + "traim: {}\n")
    ran = cli("lock", "spec.yaml")
    assert ran.code == 2
    assert "error SG101" in ran.err
    assert not spec.with_name("spec.lock.yaml").exists()


def test_a_large_file_is_hashed_once_until_it_changes(tmp_path, monkeypatch):
    monkeypatch.setenv("SPECGEN_CACHE", str(tmp_path / "cache"))
    large = tmp_path / "weights.bin"
    large.write_bytes(b"a" * hashes.LARGE)
    first = hashes.sha256_of(large)
    with monkeypatch.context() as patched:
        patched.setattr(hashes, "_digest", lambda _: pytest.fail("hashed again"))
        assert hashes.sha256_of(large) == first
    large.write_bytes(b"b" * hashes.LARGE)
    assert hashes.sha256_of(large) != first


@pytest.mark.parametrize("content", ["", "[]", "{", '{"x": 3}', '{"FILE": [1, 2, 3, 4]}'])
def test_a_broken_cache_of_hashes_is_no_fault(tmp_path, monkeypatch, content):
    monkeypatch.setenv("SPECGEN_CACHE", str(tmp_path / "cache"))
    large = tmp_path / "weights.bin"
    large.write_bytes(b"a" * hashes.LARGE)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/hashes.json").write_text(content.replace("FILE", str(large)))
    assert len(hashes.sha256_of(large)) == 64


def test_a_file_that_cannot_be_read_is_told(locked, cli, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied", "models/tiny/config.json")

    monkeypatch.setattr(take, "hashed", refuse)
    for call in (["lock", "spec.yaml"], ["lock", "spec.yaml", "--check"], ["compile", "spec.yaml", "--locked"]):
        ran = cli(*call)
        fault = "error SG212: the base model cannot be read: [Errno 13] Permission denied: 'models/tiny/config.json'"
        assert (ran.code, ran.err.splitlines()[0]) == (2, f"spec.yaml:3:15: {fault}")


def test_a_folder_that_may_not_be_written_is_told(locked):
    path = Path(locked.parent, "absent", "spec.lock.yaml")
    with pytest.raises(SpecError, match=r"spec\.lock\.yaml cannot be written: No such file or directory"):
        lock.write(lock.read(locked.with_name("spec.lock.yaml")), path)


TOWER = {
    "model_type": "clip",
    "vision_config": {"hidden_size": 32, "num_attention_heads": 2, "patch_size": 14, "image_size": 28, "dropout": 0.0},
}
SEEING = {
    "model": {"base": "models/tiny", "vision": {"tower": "models/tower"}},
    "adapter": {"lora": {"modules_to_save": ["multi_modal_projector"]}},
}


@pytest.fixture
def seeing(spec):
    """The same spec of a model that sees."""
    tower = spec.parent / "models/tower"
    tower.mkdir()
    (tower / "config.json").write_text(json.dumps(TOWER))
    spec.write_text(yaml.safe_dump({**yaml.safe_load(SPEC), **SEEING}))
    return spec


def test_a_vision_tower_is_locked_with_its_sizes(seeing, cli):
    ran = cli("lock", "spec.yaml")
    assert ran.code == 0, ran.err
    found = lock.read(seeing.with_name("spec.lock.yaml"))
    assert (found.tower.source, found.tower.revision, [file.path for file in found.tower.files]) == ("models/tower", None, ["config.json"])
    sizes = {key: value for key, value in TOWER["vision_config"].items() if key != "dropout"}
    assert found.tower.config == {"model_type": "clip", "vision_config": sizes}


def test_another_tower_is_told_and_renewed_with_the_base(seeing, cli):
    assert cli("lock", "spec.yaml").code == 0
    (seeing.parent / "models/tower/config.json").write_text(json.dumps({**TOWER, "more": 1}))
    ran = cli("lock", "spec.yaml", "--check")
    assert ran.code != 0
    (told,) = faults(ran)
    assert told.startswith("spec.lock.yaml:6:1: error SG292: the base model is not the locked one: config.json ")
    assert cli("lock", "spec.yaml", "--update", "base").code == 0
    assert cli("lock", "spec.yaml", "--check").code == 0
    seeing.write_text(SPEC)
    (told,) = faults(cli("lock", "spec.yaml", "--check"))
    assert told == "spec.lock.yaml:6:1: error SG292: the base model is not the locked one: model.vision.tower models/tower → none"


def test_a_lock_of_before_there_were_towers_is_read(locked):
    assert lock.read(locked.with_name("spec.lock.yaml")).tower is None


@pytest.fixture
def judged(spec):
    """The same spec, with sources of its own for validation and evaluation."""
    (spec.parent / "held.jsonl").write_text(ROW.replace("Hi", "Good day"))
    (spec.parent / "asked.jsonl").write_text(ROW.replace("Hi", "Good evening"))
    sources = "  validation: {sources: [{file: {path: held.jsonl, format: openai}}]}\n"
    asked = "eval: {sources: [{file: {path: asked.jsonl, format: openai}}]}\n"
    spec.write_text(SPEC.replace("  sources:\n", f"{sources}  sources:\n") + asked)
    return spec


def test_rows_that_judge_are_locked_as_those_that_train(judged, cli):
    assert cli("lock", "spec.yaml").code == 0
    found = lock.read(judged.with_name("spec.lock.yaml"))
    assert [source.files[0].path for (source,) in (found.validation, found.eval)] == ["held.jsonl", "asked.jsonl"]
    (judged.parent / "held.jsonl").write_text(ROW.replace("Hi", "Good day, all"))
    (judged.parent / "asked.jsonl").write_text(ROW.replace("Hi", "Good evening") + ROW.replace("Hi", "Good night"))
    (told,) = faults(cli("lock", "spec.yaml", "--check"))
    assert "error SG295: the data are not the locked ones: held.jsonl " in told
    assert "(1 → 2 rows)" in told
    assert cli("lock", "spec.yaml", "--update", "data").code == 0
    assert cli("lock", "spec.yaml", "--check").code == 0


def test_a_lock_of_before_rows_that_judge_were_locked_says_so(judged, cli):
    assert cli("lock", "spec.yaml").code == 0
    path = judged.with_name("spec.lock.yaml")
    lock.write(replace(lock.read(path), validation=(), eval=()), path)
    (told,) = faults(cli("lock", "spec.yaml", "--check"))
    assert told.endswith("error SG295: the data are not the locked ones: 0 validation sources → 1, 0 eval sources → 1")

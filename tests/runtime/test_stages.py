"""runtime/stages.py: keys, atomic outputs, the manifest, the run folder."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest

from runtime import stages
from runtime.stages import Stage, adopt, carry_out, is_done, keys, open_folder, prepare_partial, read_stage


@pytest.fixture(scope="module")
def config(tmp_path_factory, configured):
    return configured(tmp_path_factory.mktemp("stages"))


def stage(name, *needs, part=lambda config: config.train.seed, text="made", **options):
    def work(config, folder, out):
        (out / "output.txt").write_text(text)
        return {"figure": 1}

    return Stage(name=name, needs=needs, part=part, libraries=("numpy",), work=work, **options)


def done(folder, config, *graph):
    for item in graph:
        carry_out(item, config, folder, keys(graph, config))


def test_a_key_changes_with_its_part_of_the_config_and_with_nothing_else(config):
    graph = (stage("one"), stage("two", part=lambda config: config.chat))
    seeded = replace(config, train=replace(config.train, seed=config.train.seed + 1))
    renamed = replace(config, name="other", description="other")
    before, after = keys(graph, config), keys(graph, seeded)
    assert before["one"] != after["one"]
    assert before["two"] == after["two"]
    assert keys(graph, renamed) == before


def test_a_key_changes_with_its_inputs_keys(config):
    before, after = (
        keys((stage("one", part=lambda _config, number=number: number), stage("two", "one"), stage("three")), config) for number in (1, 2)
    )
    assert before["two"] != after["two"]
    assert before["three"] == after["three"]


def test_a_key_changes_with_the_versions_of_its_libraries(config, monkeypatch):
    graph = (stage("one"), replace(stage("two"), libraries=("jinja2",)))
    before = keys(graph, config)
    installed = stages.version
    monkeypatch.setattr(stages, "version", lambda library: "0" if library == "numpy" else installed(library))
    after = keys(graph, config)
    assert before["one"] != after["one"]
    assert before["two"] == after["two"]


def test_a_stage_is_done_when_its_output_was_made_from_exactly_this(tmp_path, config):
    one = stage("one")
    key = keys([one], config)["one"]
    assert not is_done(tmp_path, "one", key)
    done(tmp_path, config, one)
    assert is_done(tmp_path, "one", key)
    assert not is_done(tmp_path, "one", "other")
    record = read_stage(tmp_path, "one")
    assert (record["key"], record["summary"]) == (key, {"figure": 1})
    assert sorted(record["versions"]) == ["numpy", "specgen"]


def test_a_stage_that_fails_leaves_the_output_before_as_it_was(tmp_path, config):
    done(tmp_path, config, stage("one", text="before"))

    def fail(config, folder, out):
        (out / "output.txt").write_text("half")
        raise OSError("disk full")

    failing = replace(stage("one", part=lambda _config: "other"), work=fail)
    with pytest.raises(OSError, match="disk full"):
        done(tmp_path, config, failing)
    assert (tmp_path / "one" / "output.txt").read_text() == "before"
    assert is_done(tmp_path, "one", keys([stage("one")], config)["one"])


def test_an_output_is_replaced_as_a_whole(tmp_path, config):
    done(tmp_path, config, stage("one"))
    (tmp_path / "one" / "old.txt").write_text("old")
    done(tmp_path, config, stage("one", text="after"))
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == ["output.txt", "stage.json"]
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["one"]


def test_a_resumable_stage_finds_its_partial_folder_as_it_left_it(tmp_path):
    train = stage("train", resumable=True)
    (prepare_partial(train, tmp_path) / "checkpoint-2").mkdir()
    assert [path.name for path in prepare_partial(train, tmp_path).iterdir()] == ["checkpoint-2"]


def test_any_other_stage_begins_with_an_empty_folder(tmp_path):
    (prepare_partial(stage("data"), tmp_path) / "half.txt").write_text("half")
    assert not list(prepare_partial(stage("data"), tmp_path).iterdir())


def test_an_output_that_is_whole_and_not_in_place_is_put_there(tmp_path, config, monkeypatch):
    one = stage("one")
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(stages, "put_in_place", lambda _stage, _folder: (_ for _ in ()).throw(KeyboardInterrupt))
        done(tmp_path, config, one)
    assert not (tmp_path / "one").exists()
    done(tmp_path, config, replace(one, work=pytest.fail))
    assert (tmp_path / "one" / "output.txt").read_text() == "made"


def test_the_manifest_says_what_made_what(tmp_path, config):
    graph = (stage("one"), stage("two", "one"))
    done(tmp_path, config, *graph)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert {name: record["inputs"] for name, record in manifest.items()} == {"one": {}, "two": {"one": manifest["one"]["key"]}}
    assert {name: record["key"] for name, record in manifest.items()} == keys(graph, config)


def test_a_folder_of_someone_else_is_refused_and_untouched(tmp_path, fault_of):
    (tmp_path / "notes.txt").write_text("mine")
    assert fault_of(open_folder, tmp_path) == (
        f"error SG403: {tmp_path} holds files that specgen did not write; nothing was touched\n"
        "  hint: choose another folder with --runs-dir, or move them away; a run of ours is resumed by itself"
    )
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("notes.txt", "mine")]


def test_a_file_in_place_of_the_run_folder_is_refused(tmp_path, fault_of):
    (tmp_path / "run").write_text("mine")
    expected = f"error SG403: {tmp_path}/run is a file\n  hint: choose another folder with --runs-dir"
    assert fault_of(open_folder, tmp_path / "run") == expected


def test_a_run_folder_of_ours_is_opened_again(tmp_path):
    for _ in range(2):
        open_folder(tmp_path / "a" / "run")
        (tmp_path / "a" / "run" / "output.txt").write_text("ours")
    assert (tmp_path / "a" / "run" / "output.txt").read_text() == "ours"


def test_a_key_is_the_same_in_every_process(config):
    """It is on disk: it may not depend on hash seeds or addresses."""
    (key,) = keys([replace(stage("one"), libraries=())], config).values()
    content = {"stage": "one", "config": config.train.seed, "inputs": {}, "versions": {"specgen": stages.__version__}}
    assert key == hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def test_an_output_that_another_run_has_made_just_so_is_taken_from_there(tmp_path, config, monkeypatch):
    monkeypatch.setattr(stages, "LARGE_BYTES", 10)
    one, large = stage("one"), stage("one", text="large enough to be shared")
    key = keys([one], config)["one"]
    for name, made in (("first", one), ("large", large)):
        open_folder(tmp_path / name)
        done(tmp_path / name, config, made)
    open_folder(tmp_path / "second")
    assert adopt(one, tmp_path / "second", key) == tmp_path / "first" / "one"
    assert is_done(tmp_path / "second", "one", key)
    assert json.loads((tmp_path / "second/manifest.json").read_text())["one"]["key"] == key
    shared = [(tmp_path / run / "one/output.txt").stat().st_ino for run in ("first", "second")]
    assert shared[0] != shared[1]
    (tmp_path / "first").rename(tmp_path / "zuletzt")
    open_folder(tmp_path / "third")
    assert adopt(one, tmp_path / "third", key) == tmp_path / "large" / "one"
    assert (tmp_path / "third/one/output.txt").stat().st_ino == (tmp_path / "large/one/output.txt").stat().st_ino
    assert sorted(path.name for path in (tmp_path / "third").iterdir()) == [".specgen", "manifest.json", "one"]


def test_an_output_of_other_settings_is_not_taken(tmp_path, config):
    one = stage("one")
    open_folder(tmp_path / "first")
    done(tmp_path / "first", config, one)
    assert adopt(one, tmp_path / "second", "another key") is None
    assert not (tmp_path / "second").exists()

"""runtime/cache.py: folders that are made of others once, and anew where these have changed."""

from __future__ import annotations

import pytest

from runtime.cache import kept_as, made_once, name_of, state_of


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Makes a folder of a model's; returns it and what was told."""
    monkeypatch.setenv("SPECGEN_CACHE", str(tmp_path / "cache"))

    def make(model):
        told = []
        target = kept_as(name_of(model), places=str(model), state=state_of(model))
        made_once(target, lambda out: (out / "made").write_text("x"), lock=model / "config.json", tell=lambda: told.append(target.name))
        return target, told

    return make


def model_in(folder):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    return folder


def test_a_folder_is_made_once_and_of_a_changed_model_anew(tmp_path, made):
    model, other = model_in(tmp_path / "a[1]"), model_in(tmp_path / "a[1]-b")
    first, told = made(model)
    assert told == [first.name]
    assert (first / "made").is_file()
    assert made(model) == (first, [])
    beside, _ = made(other)
    (model / "weights.safetensors").write_bytes(b"1")
    second, told = made(model)
    assert told == [second.name]
    assert {folder.name for folder in first.parent.iterdir()} == {second.name, beside.name}


def test_what_nobody_reads_changes_nothing(tmp_path, made):
    model = model_in(tmp_path / "a")
    first, _ = made(model)
    (model / "README.md").write_text("x")
    assert made(model) == (first, [])


def test_a_snapshot_of_the_hub_is_known_by_its_commit(tmp_path):
    snapshot = model_in(tmp_path / "models--owner--name" / "snapshots" / "0123abc")
    assert (name_of(snapshot), state_of(snapshot)) == ("name", "")

"""runtime/exports/hub.py: what a run has made goes to a stand-in of the hub on loopback, in one commit, or not at all."""

from __future__ import annotations

import pytest

from runtime import config as configs
from runtime.exports.hub import push, require_push
from runtime.run import pipeline
from runtime.stages import write_json
from tests.hub_stand_in import COMMIT
from tests.hub_uploads import TOKEN, Pushed, UploadHub

HUB = {"repo_id": "team/tiny", "parts": ["merged", "gguf"]}


@pytest.fixture
def hub(monkeypatch):
    server = UploadHub()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.url)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)  # the stand-in stores files by itself
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _seconds: None)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    yield server
    server.shutdown()


@pytest.fixture
def config(tmp_path, configured):
    return configured(tmp_path / "spec", export={"gguf": {"types": ["q8_0"]}, "hub": HUB})


@pytest.fixture
def run(tmp_path):
    """A run folder with a file or two in each part."""
    folder = tmp_path / "tiny"
    contents = {
        "merge/README.md": b"---\ntags: [specgen]\n---\n# tiny\n",
        "merge/model.safetensors": b"merged weights",
        "export/gguf/tiny.q8_0.gguf": b"quantized weights",
        "export/gguf/Modelfile": b"FROM ./tiny.q8_0.gguf\n",
    }
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    for stage in ("merge", "export", "smoke"):
        (folder / stage).mkdir(exist_ok=True)
        write_json(folder / stage / "stage.json", {"key": "k", "summary": {"passed": True}})
    return folder


WANTED = {
    "README.md": b"---\ntags: [specgen]\n---\n# tiny\n",
    "model.safetensors": b"merged weights",
    "gguf/tiny.q8_0.gguf": b"quantized weights",
    "gguf/Modelfile": b"FROM ./tiny.q8_0.gguf\n",
}


def test_parts_lie_in_folders_and_the_merged_model_at_the_top(hub, config, run, capsys):
    address = push(config, run)
    repo = hub.repos["models/team/tiny"]
    assert repo.files == WANTED
    assert repo.private
    assert repo.messages == ["tiny, by specgen"]
    assert address == f"{hub.url}/team/tiny/commit/{COMMIT}"
    assert capsys.readouterr().out == f"push     merged, gguf · 84 B · {address}\n"
    assert hub.tokens - {None} == {f"Bearer {TOKEN}"}


def test_a_server_that_stumbles_is_asked_again(hub, config, run):
    hub.failing = {"POST api/models/team/tiny/preupload/main": 503, "POST api/models/team/tiny/commit/main": 500}
    push(config, run)
    assert hub.repos["models/team/tiny"].files == WANTED


def test_an_upload_that_broke_off_goes_on_and_nobody_sees_a_half(hub, config, run, fault_of):
    hub.broken = 1
    text = fault_of(push, config, run)
    assert text.startswith("error SG480: team/tiny was not pushed: the upload broke off (")
    assert text.endswith("\n  hint: everything is kept; the same command goes on")
    assert hub.repos["models/team/tiny"].files == {}
    hub.broken = None
    push(config, run)
    assert hub.repos["models/team/tiny"].files == WANTED
    assert len(hub.sent) == len(set(hub.sent)) == 2  # what had arrived was not sent again


def test_shards_of_an_earlier_push_go_with_it(hub, config, run):
    mine = {"notes.md": b"mine", "other/a.gguf": b"mine"}
    before = {"model-00001-of-00002.safetensors": b"old", "model.safetensors.index.json": b"{}", **mine}
    hub.repos["models/team/tiny"] = Pushed(dict(before))
    push(config, run)
    assert hub.repos["models/team/tiny"].files == {**WANTED, **mine}


def test_a_model_that_failed_its_smoke_test_is_not_pushed(hub, config, run, fault_of):
    write_json(run / "smoke" / "stage.json", {"key": "k", "summary": {"passed": False}})
    assert fault_of(push, config, run) == (
        "error SG480: nothing was pushed: failed: smoke\n  hint: everything is kept; the report shows the answers"
    )
    assert hub.asked == []


def test_a_token_that_may_not_write_is_told(hub, config, run, fault_of, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_reads")
    assert fault_of(push, config, run) == (
        "error SG480: team/tiny was not pushed: the hub answered 401\n"
        "  hint: the token may not write there: take one with write access, and check export.hub.repo_id"
    )


def test_without_a_token_nothing_begins(config, fault_of, monkeypatch):
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    assert fault_of(require_push, config) == (
        "error SG480: pushing to team/tiny needs a token of the hub\n  hint: set HF_TOKEN, or call hf auth login"
    )


def test_without_a_place_nothing_begins(tmp_path, compiled, fault_of):
    build = compiled(tmp_path)
    text = fault_of(pipeline.run, configs.load(build), build=build, runs_dir=tmp_path / "runs", only=(), talk="", push=True)
    assert text == (
        "error SG480: --push needs a place to push to, and export.hub is null\n"
        "  hint: write export: {hub: {repo_id: OWNER/NAME}}, or leave out --push"
    )
    assert not (tmp_path / "runs").exists()

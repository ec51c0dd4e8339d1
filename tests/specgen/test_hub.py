"""Locking what is on the hub, against a stand-in of its API on loopback; and compiling from the lock without it."""

from __future__ import annotations

import hashlib
import json

import pytest
import yaml

from specgen.diagnostics import Diagnostic, SpecError
from specgen.lock import file as lock
from specgen.lock import hub as asking
from specgen.lock.contents import LockedFile, LockedHubData
from specgen.sweep import planning
from specgen.sweep.builds import read_sweep
from specgen.sweep.trials import listed
from tests.hub_stand_in import COMMIT, NEWER, Hub, Repo

CONFIG = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2, "vocab_size": 32, "max_position_embeddings": 64, "tie_word_embeddings": False,
}  # fmt: skip
TEMPLATE = "{% for message in messages %}<{{ message.role }}>{{ message.content }}</s>{% endfor %}"
FILES = {
    ".gitattributes": b"*.safetensors filter=lfs",
    "README.md": b"# Tiny",
    "config.json": json.dumps(CONFIG).encode(),
    "model.safetensors": b"weights" * 100,
    "consolidated.safetensors": b"weights" * 100,
    "original/model.safetensors": b"weights",
    "tokenizer.json": b'{"version": "1.0"}',
    "tokenizer_config.json": json.dumps({"chat_template": TEMPLATE}).encode(),
}
TOWER = {"model_type": "siglip", "vision_config": {"image_size": 28, "patch_size": 14, "hidden_size": 32, "num_attention_heads": 2}}
CARD = {"dataset_info": [{"config_name": "default", "splits": [{"name": "train", "num_examples": 1000}]}]}
SPEC = """\
specgen: 1
name: hubbed
model: {base: "hf:team/tiny"}
data:
  system: Be brief.
  sources:
    - synthetic: {messages: [{user: Hi}, {assistant: Hello.}]}
"""
HUB_DATA = "    - hub: {repo: team/rows, split: train, format: openai}\n"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """The stand-in, as the only hub that there is; its cache is a fresh one."""
    for name in ("HF_TOKEN", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    served = Hub(
        {
            "models/team/tiny": Repo(FILES, large=("model.safetensors",), tags={"v1": COMMIT}),
            "models/team/gated": Repo(FILES, large=("model.safetensors",), gated=True),
            "models/team/tower": Repo(
                {"config.json": json.dumps(TOWER).encode(), "model.safetensors": b"eyes"}, large=("model.safetensors",)
            ),
            "models/team/notes": Repo({"README.md": b"# Notes"}),
            "datasets/team/rows": Repo({"train.jsonl": b"{}"}, card=CARD),
        }
    )
    monkeypatch.setenv("HF_ENDPOINT", served.url)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("SPECGEN_CACHE", str(tmp_path / "cache"))
    yield served
    served.shutdown()
    served.server_close()


@pytest.fixture
def locking(hub, cli, tmp_path):
    """Locks a spec, with other words in it; returns what the command said."""

    def run(*changes, arguments=()):
        text = SPEC
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "spec.yaml").write_text(text)
        return cli("lock", "spec.yaml", *arguments)

    return run


@pytest.fixture
def compiled(cli, tmp_path):
    """Compiles the spec; returns its config.yaml, its plan.md and what was said."""

    def run(*arguments):
        ran = cli("compile", "spec.yaml", *arguments)
        assert ran.code == 0, ran.err
        build = tmp_path / "build/hubbed"
        return yaml.safe_load((build / "config.yaml").read_text()), (build / "plan.md").read_text(), ran

    return run


@pytest.fixture
def written(tmp_path):
    return lambda: lock.read(tmp_path / "spec.lock.yaml")


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def test_a_branch_becomes_a_commit_and_every_file_has_its_hash(locking, written):
    assert locking().code == 0
    base = written().base
    assert (base.source, base.revision, base.config) == ("hf:team/tiny", COMMIT, CONFIG)
    assert base.files == tuple(
        LockedFile(path=name, size=len(FILES[name]), sha256=sha256(FILES[name])) for name in ("config.json", "model.safetensors")
    )
    assert [file.path for file in written().tokenizer.files] == ["tokenizer.json", "tokenizer_config.json"]
    assert written().template.jinja == TEMPLATE


def test_the_plan_of_a_sweep_is_one_of_the_locked_commit(locking, tmp_path, monkeypatch):
    assert locking(("name: hubbed", "name: hubbed\nsweep: {metric: train_loss, parameters: {train.seed: [1, 2]}}")).code == 0
    measured = []

    def asked(compiled):
        measured.append(compiled.plan.model.base.revision)
        raise SpecError(Diagnostic(code="SG411", message="the hub is not asked here"))

    monkeypatch.setattr(planning, "measured_data", asked)
    swept = read_sweep(tmp_path / "spec.yaml", None, ())
    planning.plan(swept, list(listed(swept.sweep)), 2)
    assert set(measured) == {COMMIT}


def test_weights_are_not_downloaded(hub, locking):
    assert locking().code == 0
    assert f"GET team/tiny/resolve/{COMMIT}/config.json" in hub.asked
    assert not [call for call in hub.asked if "safetensors" in call]


def test_the_compiled_config_has_the_commit_and_the_plan_its_sizes(hub, locking, compiled):
    locking()
    hub.shutdown()
    config, plan, _ = compiled("--locked")
    assert config["model"]["base"]["hub"] == {"repo": "team/tiny", "revision": COMMIT}
    assert f"team/tiny at {COMMIT}, from the hub; sizes from the lock file" in plan
    assert "<user>Hi</s>" in plan


def test_the_locked_commit_stays_until_it_is_renewed(hub, locking, compiled, cli, written):
    locking()
    hub.repos["models/team/tiny"].main = NEWER
    hub.repos["models/team/tiny"].files = {**FILES, "tokenizer.json": b'{"version": "2.0"}'}
    assert compiled()[0]["model"]["base"]["hub"]["revision"] == COMMIT
    assert cli("lock", "spec.yaml", "--check").code == 0
    assert cli("lock", "spec.yaml", "--update", "base").out == "wrote spec.lock.yaml\n"
    assert written().base.revision == NEWER
    assert written().tokenizer.files[0].sha256 == sha256(b'{"version": "2.0"}')
    assert compiled()[0]["model"]["base"]["hub"]["revision"] == NEWER


def test_data_at_hand_are_renewed_without_the_hub_and_leave_the_commit(hub, locking, cli, tmp_path, written):
    locking()
    hub.shutdown()
    (tmp_path / "spec.yaml").write_text(SPEC.replace("Hello.", "Hello!"))
    assert cli("lock", "spec.yaml", "--check").code == 1
    assert cli("lock", "spec.yaml", "--update", "data", "--update", "libraries").out == "wrote spec.lock.yaml\n"
    assert cli("lock", "spec.yaml", "--check").code == 0
    assert written().base.revision == COMMIT


def test_a_template_is_renewed_from_the_locked_commit(hub, locking, cli, tmp_path, written):
    locking(("data:", "template: chatml\ndata:"))
    hub.repos["models/team/tiny"].main = NEWER
    (tmp_path / "spec.yaml").write_text(SPEC)
    assert cli("lock", "spec.yaml", "--update", "template").out == "wrote spec.lock.yaml\n"
    assert (written().base.revision, written().template.jinja) == (COMMIT, TEMPLATE)


def test_a_tag_is_resolved(locking, written):
    locking(("hf:team/tiny", "hf:team/tiny@v1"))
    assert (written().base.source, written().base.revision) == ("hf:team/tiny@v1", COMMIT)


def test_another_model_than_the_locked_one_is_refused_and_not_pinned(locking, cli, tmp_path, compiled):
    locking()
    (tmp_path / "spec.yaml").write_text(SPEC.replace("hf:team/tiny", "hf:Qwen/Qwen3-8B").replace("data:", "template: chatml\ndata:"))
    ran = cli("compile", "spec.yaml", "--locked")
    assert ran.code == 2
    assert "error SG292: the base model is not the locked one: model.base hf:team/tiny → hf:Qwen/Qwen3-8B\n" in ran.err
    config, plan, ran = compiled()
    assert "warning SG292: the base model is not the locked one" in ran.err
    assert config["model"]["base"]["hub"] == {"repo": "Qwen/Qwen3-8B", "revision": None}
    assert "sizes from its published config.json" in plan


def test_a_data_set_is_locked_with_commit_and_rows(locking, written, compiled):
    locking(("data:", "template: chatml\ndata:"), ("    - synthetic", HUB_DATA + "    - synthetic"))
    assert written().data[0] == LockedHubData(repo="team/rows", asked=None, revision=COMMIT, subset=None, split="train", rows=1000)
    config, _, _ = compiled("--locked")
    assert config["data"]["sources"][0]["hub"]["revision"] == COMMIT
    assert config["data"]["sources"][0]["hub"]["rows"] == 1000
    assert (config["data"]["rows"], config["data"]["train_rows"]) == (1001, 1001)


def test_data_sets_that_judge_are_pinned_as_those_that_train(locking, written, compiled):
    sources = HUB_DATA.strip().removeprefix("- ")
    assert (
        locking(
            ("  sources:\n", f"  validation: {{sources: [{{{sources}}}]}}\n  sources:\n"),
            ("name: hubbed\n", f"name: hubbed\neval: {{sources: [{{{sources}}}]}}\n"),
        ).code
        == 0
    )
    assert [source.revision for (source,) in (written().validation, written().eval)] == [COMMIT, COMMIT]
    config, _, ran = compiled("--locked")
    assert config["data"]["validation"]["sources"][0]["hub"]["revision"] == config["eval"]["sources"][0]["hub"]["revision"] == COMMIT
    assert "SG521" not in ran.err


def test_rows_that_are_held_out_of_a_data_set_on_the_hub_stay_unknown(locking, compiled):
    locking(("data:", "template: chatml\ndata:\n  validation: {fraction: 0.1}"), ("    - synthetic", HUB_DATA + "    - synthetic"))
    data = compiled("--locked")[0]["data"]
    assert (data["rows"], data["train_rows"], data["validation"]["rows"]) == (1001, None, None)


def test_a_weight_counts(locking, compiled):
    weighted = HUB_DATA.replace("openai}", "openai, weight: 1.5}")
    locking(("data:", "template: chatml\ndata:"), ("    - synthetic", weighted + "    - synthetic"))
    assert compiled()[0]["data"]["sources"][0]["hub"]["rows"] == 1500


def test_another_split_than_the_locked_one_is_refused(locking, cli, tmp_path):
    locking(("data:", "template: chatml\ndata:"), ("    - synthetic", HUB_DATA + "    - synthetic"))
    spec = tmp_path / "spec.yaml"
    spec.write_text(spec.read_text().replace("split: train", "split: test"))
    assert (
        "error SG295: the data are not the locked ones: source 1 team/rows@main train → team/rows@main test\n"
        in cli("compile", "spec.yaml", "--locked").err
    )


@pytest.mark.parametrize(
    ("described", "subset", "split", "rows"),
    [
        ({"splits": [{"name": "train", "num_examples": 7}]}, None, "train", 7),
        ([{"config_name": "en", "splits": [{"name": "train", "num_examples": 7}]}], None, "train", 7),
        ([{"config_name": "en", "splits": [{"name": "train", "num_examples": 7}]}], "en", "train", 7),
        ([{"config_name": "en", "splits": [{"name": "train", "num_examples": 7}]}], "de", "train", None),
        ([{"config_name": "en", "splits": [{"name": "train", "num_examples": 7}]}, {"config_name": "de"}], None, "train", None),
        ({"splits": [{"name": "train", "num_examples": 7}]}, None, "test", None),
        (None, None, "train", None),
        ("nonsense", None, "train", None),
    ],
)
def test_rows_come_from_the_card_of_a_data_set_where_it_has_them(hub, described, subset, split, rows):
    hub.repos["datasets/team/rows"].card = {"dataset_info": described}
    assert asking.ask_data_set("team/rows", None, subset, split).rows == rows


REFUSALS = {
    "hf:team/gated": (
        "error SG412: team/gated@main is gated\n"
        "  hint: accept its terms on https://huggingface.co/team/gated, and set HF_TOKEN\n"
    ),
    "hf:team/absent": (
        "error SG412: there is no repository team/absent on the hub\n"
        "  hint: check the name; for a private repository set HF_TOKEN\n"
    ),
    "hf:team/tiny@v9": "error SG412: team/tiny has no revision v9\n",
    "hf:team/notes": (
        "error SG412: team/notes@main holds no config.json, so it is no model\n"
        "  hint: name a repository of a model in transformers' form\n"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("base", "fault"), REFUSALS.items())
def test_what_the_hub_refuses_is_told(locking, tmp_path, base, fault):
    ran = locking(("hf:team/tiny", base), ("data:", "template: chatml\ndata:"))
    assert (ran.code, ran.err) == (2, fault + "1 error. Explanation: specgen explain SG412\n")
    assert not (tmp_path / "spec.lock.yaml").exists()


@pytest.mark.parametrize(
    ("config", "what"),
    [
        (b"{", "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        (b"[]", "config.json holds no object"),
        (b'{"model_type": "llama"}', "its config.json has no hidden_size"),
    ],
)
def test_a_model_whose_config_is_nonsense_is_not_locked(hub, locking, config, what):
    hub.repos["models/team/tiny"].files = {**FILES, "config.json": config}
    ran = locking()
    assert (ran.code, ran.err.splitlines()[0]) == (2, f"spec.yaml:3:15: error SG212: the base model cannot be read: {what}")


def test_a_data_set_that_is_not_there_is_told(locking):
    ran = locking(("data:", "template: chatml\ndata:"), ("    - synthetic", HUB_DATA.replace("rows", "none") + "    - synthetic"))
    assert (ran.code, ran.err.splitlines()[0]) == (2, "error SG412: there is no repository team/none on the hub")


def test_a_hub_that_is_down_is_told(hub, locking):
    hub.shutdown()
    hub.server_close()
    ran = locking()
    assert (ran.code, ran.err) == (
        2,
        "error SG411: team/tiny@main is not to be had: the hub cannot be reached, or fails (ConnectError)\n"
        "  hint: lock with network; a lock file once made is read without\n"
        "1 error. Explanation: specgen explain SG411\n",
    )


def test_a_hub_that_fails_is_told(hub, locking):
    hub.repos["models/team/tiny"].fails = True
    ran = locking()
    fault = "error SG411: team/tiny@main is not to be had: the hub cannot be reached, or fails (HfHubHTTPError)"
    assert (ran.code, ran.err.splitlines()[0]) == (2, fault)


def test_a_token_opens_a_gated_model_and_is_written_nowhere(hub, locking, compiled, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_TOKEN", "hf_opens")
    ran = locking(("hf:team/tiny", "hf:team/gated"))
    assert ran.code == 0, ran.err
    assert hub.tokens == {"Bearer hf_opens"}
    compiled("--locked")
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert {file.name for file in files} >= {"spec.lock.yaml", "config.yaml", "tokenizer.json"}
    assert not [file for file in files if b"hf_opens" in file.read_bytes()]
    assert "hf_opens" not in ran.out + ran.err


def test_a_token_that_does_not_open_it_is_not_shown(locking, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_closed")
    ran = locking(("hf:team/tiny", "hf:team/gated"))
    assert (ran.code, ran.err.splitlines()[0]) == (2, "error SG412: team/gated@main is gated")
    assert "hf_closed" not in ran.out + ran.err


def test_without_huggingface_hub_it_is_said_what_to_install(locking, monkeypatch):
    monkeypatch.setattr(asking.importlib.util, "find_spec", lambda _: None)
    ran = locking()
    assert (ran.code, ran.err) == (
        2,
        "error SG297: locking what is on the hub needs huggingface_hub, which is not installed\n"
        "  hint: pip install huggingface_hub, or pip install 'specgen[train]'\n"
        "1 error. Explanation: specgen explain SG297\n",
    )


def test_a_vision_tower_on_the_hub_is_pinned_with_what_it_says(locking, cli, tmp_path, hub):
    sees = 'model: {base: "hf:team/tiny", vision: {tower: "hf:team/tower"}}\nadapter: {lora: {modules_to_save: [multi_modal_projector]}}\n'
    assert locking(('model: {base: "hf:team/tiny"}\n', sees)).code == 0
    hub.shutdown()
    ran = cli("compile", "spec.yaml", "--locked")
    assert ran.code == 0, ran.err
    assert "SG521" not in ran.out + ran.err
    vision = yaml.safe_load((tmp_path / "build/hubbed/config.yaml").read_text())["model"]["vision"]
    assert vision["tower"] == {"hub": {"repo": "team/tower", "revision": COMMIT}}
    assert vision["image_tokens"] == 4
    assert "Unknown: the base model's sizes are not at hand." not in (tmp_path / "build/hubbed/plan.md").read_text()

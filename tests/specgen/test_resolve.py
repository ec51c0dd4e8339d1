"""specgen/resolve.py: specs of the library that use much of the language, compiled to the folders under tests/golden (make golden)."""

from __future__ import annotations

import pytest

LIBRARY = (
    "assistant_rules",
    "internlm2_chat_1_8b_assistant",
    "llava_internlm2_chat_1_8b_qlora_clip_vit_large_p14_336_lora_e1_gpu8_finetune",
    "mistral_7b_v0_3_qlora_skypile_pretrain_e1",
    "self_introduction_zh",
)


def contents(folder):
    return {file.name: file.read_text(encoding="utf-8") for file in folder.iterdir()}


@pytest.mark.parametrize("name", LIBRARY)
def test_a_spec_of_the_library_compiles_to_what_is_committed(root, cli, tmp_path, name, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "no hub"))
    ran = cli("compile", f"specs/{name}.yaml", "--output", tmp_path / "build", cwd=root)
    assert ran.code == 0, ran.err
    assert contents(tmp_path / "build") == contents(root / "tests" / "golden" / name)


def test_what_text_is_expected_to_end_with_is_the_specs_own_word(compiled_with):
    asked = "smoke=[{user: One, expect: {contains: [two]}, then: [{user: Two, expect: {contains: [three]}}]}]"
    for objective, stops in (("text", False), ("chat", True)):
        (item,) = compiled_with(f"train.objective={objective}", asked).plan.smoke
        assert (item.expect.stops, item.then[0].expect.stops) == (stops, stops)


def test_of_text_only_the_perplexity_is_measured(compiled_with):
    asked = "eval={sources: [{synthetic: {messages: [{user: How late is it?}, {assistant: Nine.}]}}]}"
    for objective, measured in (("text", ["perplexity"]), ("chat", ["exact_match", "rouge_l", "perplexity"])):
        metrics = compiled_with(f"train.objective={objective}", asked).plan.eval.metrics
        assert [name for name in ("exact_match", "rouge_l", "perplexity") if getattr(metrics, name) is not None] == measured

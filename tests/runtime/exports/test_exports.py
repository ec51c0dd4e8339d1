"""runtime/exports/stage.py: what a run exports beside the adapter and the merged model, and the cards that go with it."""

from __future__ import annotations

import json
import re
import shutil

import pytest
import torch
import yaml
from gguf import GGUFReader
from transformers import AutoModelForCausalLM, AutoTokenizer

from runtime import config as configs
from runtime.exports.card import model_card
from runtime.exports.gguf_head import general_texts
from runtime.exports.licence import licence_of
from runtime.exports.q4 import quantize_q4
from runtime.exports.quantized import write_quantized
from runtime.exports.stage import export
from runtime.stages import read_stage
from tests.runtime.conftest import SMOLLM
from tests.runtime.small_models import in_float16

SECRET = "hf_abcdefghijklmnop"


@pytest.fixture(scope="module")
def exported(tmp_path_factory, finished, compiled, carried_out):
    """The finished run gone on with, now that GGUF files are asked for; and what it printed."""
    folder = tmp_path_factory.mktemp("exported")
    run = shutil.copytree(finished[1], folder / "runs" / "tiny")
    build = compiled(folder, description="Counts.", export={"gguf": {"types": ["q8_0", "f16"]}}, chat={"system": "Count!", "stop": ["END"]})
    carried_out(build, run.parent)
    return build, run


def test_the_stage_comes_before_the_report_and_is_shown(exported, carried_out, capsys):
    build, run = exported
    figures = read_stage(run, "export")["summary"]["gguf"]
    assert [(file["type"], file["file"]) for file in figures] == [("f16", "tiny.f16.gguf"), ("q8_0", "tiny.q8_0.gguf")]
    assert "tiny.q8_0.gguf" in (run / "report" / "report.html").read_text(encoding="utf-8")
    carried_out(build, run.parent)
    assert re.findall(r"^(\w+) +up to date", capsys.readouterr().out, re.M)[-3:] == ["smoke", "export", "report"]


def test_nothing_asked_is_nothing_written_and_not_shown(finished, carried_out, capsys):
    build, run = finished
    carried_out(build, run.parent)
    assert "export" not in capsys.readouterr().out
    assert not (run / "export").exists()


def test_the_files_are_the_merged_model(exported):
    run = exported[1]
    ids = torch.arange(5, 25)[None]
    merged = AutoModelForCausalLM.from_pretrained(run / "merge").eval()
    read = AutoModelForCausalLM.from_pretrained(run / "export" / "gguf", gguf_file="tiny.f16.gguf", dtype=torch.float32).eval()
    assert (read(ids).logits - in_float16(merged)(ids).logits).abs().max() < 1e-5


def test_the_modelfile_says_what_ollama_has_to_know(exported):
    text = (exported[1] / "export" / "gguf" / "Modelfile").read_text(encoding="utf-8")
    assert text.splitlines()[0] == "FROM ./tiny.q8_0.gguf"
    wanted = ["PARAMETER temperature 0", "PARAMETER num_predict 6", 'PARAMETER stop "<|im_end|>"', 'PARAMETER stop "END"']
    for line in ('SYSTEM "Count!"', *wanted):
        assert line in text.splitlines()
    assert '{{ else if eq .Role "user" }}<|im_start|>user\n{{ .Content }}<|im_end|>\n' in text


def test_cards_tell_data_recipe_curve_answers_and_limits(exported, monkeypatch):
    build, run = exported
    monkeypatch.setenv("HF_TOKEN", SECRET)
    for part, folder in (("adapter", "convert"), ("merged", "merge"), ("gguf", "export/gguf")):
        card = (run / folder / "README.md").read_text(encoding="utf-8")
        front = yaml.safe_load(card.split("---\n")[1])
        assert front["pipeline_tag"] == "text-generation"
        assert front.get("library_name") == {"adapter": "peft", "merged": "transformers"}.get(part)
        for heading in ("# tiny", "## Data", "## Recipe", "## Training curve", "## What it answers", "## Limits", "## Made by"):
            assert f"\n{heading}\n" in card
        assert "| made by rules | 4 |" in card
        assert "LoRA r 4, alpha 8, dropout 0" in card
        assert "It passed its smoke test." in card
        assert SECRET not in card
        assert str(run) not in card
        assert card == model_card(configs.load(build), run, part=part)  # nothing in it differs from one run to the next


def test_a_card_shows_answers_as_text(exported, tmp_path):
    build, run = exported
    copied = shutil.copytree(run, tmp_path / "tiny", ignore=shutil.ignore_patterns("*.safetensors", "*.gguf"))
    record = read_stage(copied, "smoke")
    record["summary"]["transcript"][0]["answer"] = "a | b\n# c <script>x</script> `d` *e*"
    (copied / "smoke" / "stage.json").write_text(json.dumps(record))
    card = model_card(configs.load(build), copied, part="merged")
    assert "| a \\| b # c &lt;script&gt;x&lt;/script&gt; \\`d\\` \\*e\\* |" in card


def test_the_licence_of_the_base_is_read_from_its_file_or_its_card(tmp_path, configured, tiny_base):
    assert licence_of(SMOLLM) == "apache-2.0"
    base = shutil.copytree(tiny_base, tmp_path / "base")
    config = configured(tmp_path / "spec", model={"base": str(base)})
    assert licence_of(config.model.base) is None
    (base / "README.md").write_text("---\nlicense: mit\n---\n# Base\n")
    assert licence_of(config.model.base) == "mit"
    assert general_texts(base / "README.md") == {}


def test_int8_is_loaded_as_anyone_would_and_asked(tmp_path, finished, configured, capsys):
    config = configured(tmp_path, export={"quantized": {"int8": {}}})
    figures = export(config, finished[1], made(tmp_path / "out"))["quantized"]
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out" / "quantized")
    assert loaded.config.quantization_config.load_in_8bit
    assert loaded.model.layers[0].mlp.up_proj.weight.dtype == torch.int8
    assert AutoTokenizer.from_pretrained(tmp_path / "out" / "quantized").chat_template
    assert [entry["user"] for entry in figures["transcript"]] == ["Count 1."]
    assert figures["passed"]
    assert capsys.readouterr().out.startswith("export   int8 · ")


def test_nf4_keeps_its_settings(tmp_path, finished, configured):
    config = configured(tmp_path, export={"quantized": {"nf4": {"double_quant": False, "compute_dtype": "float32"}}})
    figures = write_quantized(config, finished[1] / "merge", tmp_path / "out")
    settings = json.loads((tmp_path / "out" / "config.json").read_text())["quantization_config"]
    assert (settings["bnb_4bit_quant_type"], settings["bnb_4bit_use_double_quant"], settings["load_in_4bit"]) == ("nf4", False, True)
    assert figures["kind"] == "nf4"


def test_an_expectation_that_fails_once_quantized_is_told(tmp_path, finished, configured, capsys):
    config = configured(tmp_path, export={"quantized": {"int8": {}}}, smoke=[{"user": "Count 1.", "expect": {"contains": ["never said"]}}])
    assert write_quantized(config, finished[1] / "merge", tmp_path / "out")["passed"] is False
    assert "✗ the smoke test is not passed once it is quantized" in capsys.readouterr().out


def test_torchao_that_is_not_installed_is_told(tmp_path, finished, configured, fault_of, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "torchao" else name)
    config = configured(tmp_path, export={"quantized": {"torchao": {"type": "int8_weight_only"}}})
    assert fault_of(write_quantized, config, finished[1] / "merge", tmp_path / "out") == (
        "error SG479: export.quantized needs torchao, which is not installed\n  hint: pip install 'specgen[torchao]'"
    )


def test_llama_quantize_that_is_missing_or_fails_is_told(tmp_path, fault_of, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert fault_of(quantize_q4, tmp_path / "a.gguf", tmp_path / "b.gguf") == (
        "error SG478: export.gguf: q4_k_m is made by llama-quantize, which is not on PATH\n"
        "  hint: install llama.cpp, or write types: [q8_0]"
    )
    (tmp_path / "llama-quantize").write_text("#!/bin/sh\necho 'cannot read it' >&2\nexit 3\n")
    (tmp_path / "llama-quantize").chmod(0o755)
    assert fault_of(quantize_q4, tmp_path / "a.gguf", tmp_path / "b.gguf") == (
        "error SG478: llama-quantize ended with exit code 3: cannot read it\n  hint: write types: [q8_0]"
    )


def test_q4_k_m_is_made_from_an_f16_file_that_goes_again(tmp_path, finished, configured, monkeypatch):
    """The tool is a stand-in that copies: what it is given has to be a whole f16 file."""
    tool = tmp_path / "bin" / "llama-quantize"
    tool.parent.mkdir()
    tool.write_text('#!/bin/sh\n[ "$3" = Q4_K_M ] && /bin/cp "$1" "$2"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tool.parent))
    config = configured(tmp_path, export={"gguf": {"types": ["q4_k_m"]}})
    figures = export(config, finished[1], made(tmp_path / "out"))["gguf"]
    assert [(file["type"], file["off"]) for file in figures] == [("q4_k_m", None)]
    assert sorted(file.name for file in (tmp_path / "out" / "gguf").iterdir()) == ["Modelfile", "tiny.q4_k_m.gguf"]
    assert GGUFReader(tmp_path / "out" / "gguf" / "tiny.q4_k_m.gguf").get_field("general.architecture").contents() == "llama"


def made(folder):
    folder.mkdir()
    return folder

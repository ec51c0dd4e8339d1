"""runtime/unused.py: what a run has no use for is never loaded."""

from __future__ import annotations

import subprocess
import sys

import pytest

from runtime.unused import unused

HUB = {"hub": {"repo": "owner/rows", "split": "train"}}


@pytest.mark.parametrize(
    ("sections", "used"),
    [
        pytest.param({}, set(), id="plain LoRA"),
        pytest.param({"model": {"quantization": {"nf4": {}}}}, {"bitsandbytes"}, id="QLoRA"),
        pytest.param({"train": {"optimizer": "paged_adamw_8bit"}}, {"bitsandbytes"}, id="an optimizer of bitsandbytes"),
        pytest.param({"export": {"quantized": {"nf4": {}}}}, {"bitsandbytes"}, id="an export in 4 bits"),
        pytest.param({"distributed": {"zero_stage": 2, "processes_per_node": 2}}, {"deepspeed"}, id="ZeRO"),
        pytest.param({"eval": {"tasks": [{"name": "arc_easy"}]}}, {"datasets"}, id="a task of lm-evaluation-harness"),
    ],
)
def test_only_what_no_stage_asks_for_is_hidden(tmp_path, configured, sections, used):
    assert {"bitsandbytes", "deepspeed", "datasets"} - unused(configured(tmp_path, **sections)) == used


def test_a_whole_run_loads_none_of_them(tmp_path, compiled):
    pytest.importorskip("bitsandbytes")
    build = compiled(tmp_path)
    words = ["runtime", str(build), "--runs-dir", str(tmp_path / "runs")]
    script = f"""
import atexit, runpy, sys
atexit.register(lambda: print("loaded:", [name for name in ("bitsandbytes", "deepspeed", "datasets", "peft") if sys.modules.get(name)]))
sys.argv = {words!r}
runpy.run_module("runtime", run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "loaded: ['peft']" in done.stdout, done.stdout + done.stderr

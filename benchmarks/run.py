"""Wall time and peak memory of the default run, cold and again, beside TRL's SFTTrainer doing the same training if it is installed.

Run by hand: python benchmarks/run.py
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
SPEC = ROOT / "specs" / "assistant.yaml"

TRL = """
import json, sys
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer
base, rows = sys.argv[1], json.load(open(sys.argv[2]))
trainer = SFTTrainer(
    model=AutoModelForCausalLM.from_pretrained(base, dtype="bfloat16"),
    processing_class=AutoTokenizer.from_pretrained(base),
    train_dataset=Dataset.from_list(rows),
    peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
    args=SFTConfig(output_dir=sys.argv[3], max_steps=30, per_device_train_batch_size=8, learning_rate=5e-4, bf16=True,
                   use_cpu=True, report_to=[], save_strategy="no", lr_scheduler_type="cosine", warmup_steps=2),
)
trainer.train()
trainer.save_model(sys.argv[3])
"""


def measured(command: list[str], cwd: Path, **environment: str) -> tuple[float, float]:
    """Wall seconds and the peak memory in GB of the largest process."""
    started = time.monotonic()
    process = subprocess.Popen(command, cwd=cwd, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, f"{' '.join(command)} failed"
    return time.monotonic() - started, usage.ru_maxrss * 1024 / 1e9


def prompts_and_answers(run: Path) -> list[dict[str, list[dict[str, str]]]]:
    """The rows of the default spec as TRL takes them."""
    from runtime.config import load
    from runtime.data.parts import parts_of
    from runtime.data.synthetic import rules_of

    data = load(run / "build" / "assistant").data
    rules = rules_of(data, seed=42)
    parts = [(source, part) for number, source in enumerate(data.sources) for part in parts_of(source, number, seed=42, rows_of=rules)]
    rows = [row["messages"] for source, part in parts for _, row in part for _ in range(source.repeat)]
    return [{"prompt": row[:-1], "completion": row[-1:]} for row in rows]


def main() -> None:
    figures: dict[str, tuple[float, float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        run = [sys.executable, "-m", "specgen", "run", str(SPEC)]
        cold = folder / "cold"
        cold.mkdir()
        figures["run, nothing cached"] = measured(run, cold, SPECGEN_CACHE=str(folder / "cache"))
        figures["run, nothing changed"] = measured(run, cold, SPECGEN_CACHE=str(folder / "cache"))
        warm = folder / "warm"
        warm.mkdir()
        figures["run, base model cached"] = measured(run, warm, SPECGEN_CACHE=str(folder / "cache"))
        if importlib.util.find_spec("trl"):
            (folder / "rows.json").write_text(json.dumps(prompts_and_answers(cold)))
            (base,) = (folder / "cache").glob("SmolLM2*")
            command = [sys.executable, "-c", TRL, str(base), str(folder / "rows.json"), str(folder / "trl")]
            figures["TRL, the training alone"] = measured(command, folder)
    peer = figures.get("TRL, the training alone")
    print(f"{SPEC.name}: 30 optimizer steps of 8 rows, {os.cpu_count()} cores")
    for name, (seconds, memory) in figures.items():
        ratio = f"   {seconds / peer[0]:5.2f} of TRL's time" if peer else ""
        print(f"  {name:<26} {seconds:6.1f} s   {memory:4.1f} GB{ratio}")
    if not peer:
        print("  (pip install trl datasets shows TRL beside it)")


if __name__ == "__main__":
    main()

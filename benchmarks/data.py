"""How fast conversations become ids and masks, and in how much memory, beside the bare tokenizer, a plain `datasets.map` and TRL.

    python -m benchmarks.data [--rows 200000]

The rows are made by a seed.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path

import psutil
import yaml

from benchmarks.bench import BASE, ROOT, RUNS, TRL, Figures, Report, Table, Target, measured, medians, versions
from conversations.row import conversation_of

TEMPLATES = {"marked": "chatml", "own": "tokenizer"}
WORDS = {"marked": "a template that marks answers", "own": "the model's own template"}
MAP, THEIRS = "datasets.map, row by row", "TRL's preparation"
USUAL = 200_000
SOME = 5_000  # rows for what takes minutes with all of them
OF_TRL = 15_000  # and for TRL, of whose time the making of a trainer for a few rows is taken off
ENOUGH = 20_000  # rows that tell how fast the bare tokenizer is
SEED = 7
THREADS = 2
PACK = 2048
MARKED = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}{% if m.role == 'assistant' %}{% generation %}"
    "{{ m.content + '<|im_end|>' }}{% endgeneration %}{% else %}{{ m.content + '<|im_end|>' }}{% endif %}{{ '\\n' }}{% endfor %}"
)


def main() -> None:
    """Measures all ways of making the data and shows the report; with --part one of them, in this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=USUAL)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        print(json.dumps(PARTS[arguments.part](arguments.folder)))
        return
    packages = versions("specgen", "tokenizers", "transformers", "datasets", "jinja2", "numpy")
    packages |= {"trl": TRL.version()} if TRL.is_installed else {}
    about = f"{arguments.rows:,} short conversations become ids and masks, in {THREADS} processes or threads"
    report = Report(name="data", about=about, runs=arguments.runs, versions=packages)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_rows(folder / "rows.jsonl", arguments.rows)
        for template, jinja in TEMPLATES.items():
            compiled(folder, template, jinja)
        report.figures["data"] = medians(ways(folder, arguments.rows), runs=arguments.runs, what="data")
    show(report)
    report.show()


def ways(folder: Path, rows: int) -> dict[str, Callable[[], Figures]]:
    """What is measured, by its name."""
    found: dict[str, Callable[[], Figures]] = {}
    for template in TEMPLATES:
        build = folder / "build" / template
        found[_bare(template)] = partial(part, "bare", build)
        found[_ours(template)] = partial(stage, build, rows)
    found[MAP] = partial(part, "map", folder / "build" / "marked")
    if TRL.is_installed:
        found[THEIRS] = partial(part, "trl", folder / "build" / "marked")
    return found


def stage(build: Path, rows: int) -> Figures:
    """The data stage as a command, made anew; and the same again, when nothing is to be done."""
    shutil.rmtree(build.parent.parent / "runs", ignore_errors=True)
    whole, most = run(build)
    again, _ = run(build)
    record = json.loads((build.parent.parent / "runs" / build.name / "data" / "stage.json").read_text(encoding="utf-8"))
    return {"rows_s": rows / record["seconds"], "whole_s": whole, "again_s": again, "gb": most}


def _bare(template: str) -> str:
    return f"bare tokenizer, {WORDS[template]}"


def _ours(template: str) -> str:
    return f"data stage, {WORDS[template]}"


def show(report: Report) -> None:
    """The table, and what has to hold."""
    found = report.figures["data"]
    columns = ("", "rows/s", "of the bare tokenizer's", "whole command, s", "the same again, s", "peak memory, GB")
    table = Table(title="Conversations to ids and masks", columns=columns)
    for way, of in found.items():
        bare = found[_bare("own" if way.endswith(WORDS["own"]) else "marked")]
        rest = [f"{of[key]:.{digits}f}" if key in of else "" for key, digits in (("whole_s", 1), ("again_s", 1), ("gb", 2))]
        table.rows.append((way, f"{of['rows_s']:,.0f}", f"{of['rows_s'] / bare['rows_s']:.2f}", *rest))
    report.tables.append(table)
    ours = found[_ours("marked")]
    for way in (MAP, THEIRS):
        if way in found:
            report.targets.append(Target(what=f"rows/s beside {way}", found=ours["rows_s"] / found[way]["rows_s"], least=3))
    for template, words in WORDS.items():
        ratio = found[_ours(template)]["rows_s"] / found[_bare(template)]["rows_s"]
        report.targets.append(Target(what=f"rows/s of the bare tokenizer's, {words}", found=ratio, least=0.7))
    report.targets.append(Target(what="peak memory of all processes, GB", found=ours["gb"], most=0.5))


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


def run(build: Path) -> tuple[float, float]:
    """Seconds, and peak gigabytes of the data stage as a command, all its processes together."""
    command = [sys.executable, "-m", "runtime", str(build), "--stage", "data"]
    started, peak = time.monotonic(), 0
    process = subprocess.Popen(command, cwd=build.parent.parent, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        peak = max(peak, memory(process.pid))
        time.sleep(0.2)
    assert process.returncode == 0, command
    return time.monotonic() - started, peak / 1e9


def memory(pid: int) -> int:
    """Bytes of a process and its children; what they share is counted once (PSS)."""
    try:
        own = psutil.Process(pid)
        return sum(process.memory_full_info().pss for process in [own, *own.children(recursive=True)])
    except psutil.Error:
        return 0


def part(name: str, folder: Path) -> Figures:
    """What a part finds, in a process of its own."""
    environment = {**TRL.environment, "RAYON_NUM_THREADS": str(THREADS)}
    words = [sys.executable, "-m", "benchmarks.data", "--part", name, "--folder", str(folder)]
    found: Figures = json.loads(measured(words, cwd=folder, **environment).output.splitlines()[-1])
    return found


def conversations(folder: Path, most: int | None = None) -> Iterator[list[dict[str, str]]]:
    """The messages of the first `most` rows, all without."""
    with (folder.parent.parent / "rows.jsonl").open(encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            if number == most:
                return
            yield conversation_of(line)["messages"]


def bare(folder: Path) -> Figures:
    """The tokenizers library alone on the rendered texts, which are made before."""
    from runtime import config as configs
    from runtime.models.model import load_tokenizer
    from runtime.tokens.chat_render import ChatTemplate
    from runtime.tokens.vocabulary import vocabulary_of

    config = configs.load(folder)
    vocabulary = vocabulary_of(load_tokenizer(config.model, config.template))
    template = ChatTemplate(vocabulary.templates, vocabulary.names)
    spent, rows = 0.0, 0
    found = conversations(folder, ENOUGH)
    while texts := [template.render(messages) for messages in islice(found, 10_000)]:
        started = time.monotonic()
        vocabulary.encode_batch(texts, offsets=True)
        spent, rows = spent + time.monotonic() - started, rows + len(texts)
    return {"rows_s": rows / spent}


def plain_map(folder: Path) -> Figures:
    """datasets.map with apply_chat_template, row by row."""
    from datasets import Dataset

    from runtime import config as configs
    from runtime.models.model import load_tokenizer

    config = configs.load(folder)
    tokenizer = load_tokenizer(config.model, config.template)
    rows = Dataset.from_list([{"messages": messages} for messages in conversations(folder, SOME)])
    started = time.monotonic()
    options = {"chat_template": MARKED, "return_assistant_tokens_mask": True}
    rows.map(lambda row: dict(tokenizer.apply_chat_template(row["messages"], **options)))
    spent = time.monotonic() - started
    return {"rows_s": len(rows) / spent}


def trl(folder: Path) -> Figures:
    """TRL's preparation of the same rows with masks, in two processes: the making of a trainer, less that for a few rows."""
    from datasets import Dataset
    from transformers import LlamaConfig, LlamaForCausalLM
    from trl import SFTConfig, SFTTrainer

    from runtime import config as configs
    from runtime.models.model import load_tokenizer

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
    spent = seconds(OF_TRL) - few
    return {"rows_s": OF_TRL / spent}


PARTS = {"bare": bare, "map": plain_map, "trl": trl}


if __name__ == "__main__":
    main()

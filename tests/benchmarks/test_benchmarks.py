"""benchmarks/: the page is made of the figures, and each benchmark says what it does. None is run here: they are about time."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from benchmarks import bench, page
from benchmarks.bench import RESULTS, ROOT, Report, Table, Target, medians


def test_the_page_is_what_the_figures_make(capsys):
    page.main()
    assert capsys.readouterr().out == (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")


def test_every_picture_of_the_figures_is_there():
    pictures = [picture for file in RESULTS.glob("*.json") for picture in json.loads(file.read_text(encoding="utf-8"))["pictures"]]
    assert pictures
    assert all((bench.PICTURES / picture).exists() for picture in pictures)


@pytest.mark.parametrize("name", page.ORDER)
def test_each_benchmark_says_what_it_does(name):
    command = [sys.executable, "-m", f"benchmarks.{name}", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert f"python -m benchmarks.{name}" in done.stdout


def test_ways_take_turns_and_the_median_of_each_figure_counts():
    asked = []

    def way(name, figures):
        def measure():
            asked.append(name)
            return {"seconds": figures[asked.count(name) - 1]}

        return measure

    found = medians({"ours": way("ours", [1.0, 9.0, 2.0]), "theirs": way("theirs", [4.0, 5.0, 3.0])}, runs=3)
    assert found == {"ours": {"seconds": 2.0}, "theirs": {"seconds": 4.0}}
    assert asked == ["ours", "theirs"] * 3


def test_a_command_that_fails_is_no_figure(capfd):
    with pytest.raises(subprocess.CalledProcessError):
        bench.measured([sys.executable, "-c", "print('what was wrong'); raise SystemExit(3)"])
    assert "what was wrong" in capfd.readouterr().err


def test_seconds_and_memory_are_those_of_the_process_and_its_children():
    """Asked in a small process: Linux counts what a process was before it became another."""
    child = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(len(bytearray(300_000_000)))'])"
    script = (
        f"import json, sys; from benchmarks import bench; print(json.dumps(bench.measured([sys.executable, '-c', {child!r}]).figures()))"
    )
    found = json.loads(bench.measured([sys.executable, "-c", script]).output)
    assert 0.3 < found["gb"] < 0.5
    assert 0 < found["cpu"] < found["seconds"] + 1


@pytest.mark.parametrize(
    ("target", "is_met", "wanted"),
    [
        (Target(what="", found=2.0, least=2), True, "at least 2"),
        (Target(what="", found=1.99, least=2), False, "at least 2"),
        (Target(what="", found=0.56, most=0.55), False, "at most 0.55"),
    ],
)
def test_a_target_is_met_or_missed(target, is_met, wanted):
    assert (target.is_met, target.wanted) == (is_met, wanted)


def test_a_report_is_printed_and_written_down(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "RESULTS", tmp_path)
    report = Report(name="some", about="Something", versions={"torch": "2"})
    report.tables.append(Table(title="Title", columns=("", "seconds"), rows=[("ours", "1.0")]))
    report.targets.append(Target(what="seconds", found=1.0, most=0.5))
    report.show()
    assert "MISSED seconds: 1, at most 0.5" in capsys.readouterr().out
    written = json.loads((tmp_path / "some.json").read_text(encoding="utf-8"))
    assert written["targets"][0] == {"what": "seconds", "found": 1.0, "least": None, "most": 0.5, "wanted": "at most 0.5", "is_met": False}
    assert written["tables"][0]["rows"] == [["ours", "1.0"]]

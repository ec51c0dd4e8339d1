"""runtime/data/hub.py: data sets on the hub, from a stand-in of its API on loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from conversations.row import plain_row
from runtime.config import HubSource
from runtime.data.dataset import load_rows
from runtime.data.hub import checked, read_hub
from runtime.stages import read_stage
from tests.hub_stand_in import COMMIT, NEWER, Hub, Repo

ALPACA = [{"instruction": f"Count {number}.", "input": "", "output": f"It is {number}."} for number in range(6)]
CHATS = [{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]}]


def jsonl(rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def source(**changed):
    settings = {"repo": "team/rows", "revision": None, "subset": None, "split": "train", "format": "alpaca", "weight": 1.0, "rows": None}
    return HubSource(**{**settings, **changed})


@pytest.fixture(scope="module")
def hub():
    card = b"---\nconfigs:\n- config_name: one\n  data_files: one/train.jsonl\n- config_name: two\n  data_files: two/train.jsonl\n---\n"
    served = Hub(
        {
            "datasets/team/rows": Repo({"train.jsonl": jsonl(ALPACA), "test.jsonl": jsonl(ALPACA[:2])}, main=NEWER),
            "datasets/team/parts": Repo({"README.md": card, "one/train.jsonl": jsonl(ALPACA[:1]), "two/train.jsonl": jsonl(ALPACA[:3])}),
        }
    )
    yield served
    served.shutdown()
    served.server_close()


@pytest.fixture
def data_stage(tmp_path, compiled, hub):
    """Runs the data stage of the tiny spec with these sources in a process of its own: the hub's address is read at its start."""

    def run(*sources, **data):
        build = compiled(tmp_path, data={"sources": [{"hub": found} for found in sources], **data})
        environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1"}
        command = [sys.executable, "-m", "runtime", str(build), "--runs-dir", str(tmp_path / "runs"), "--stage", "data"]
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    return run


def test_rows_of_a_split_at_a_revision_are_read_weighted_and_held_out(tmp_path, data_stage, hub):
    done = data_stage({"repo": "team/rows", "revision": COMMIT, "format": "alpaca", "weight": 1.5}, validation={"fraction": 0.2})
    assert done.returncode == 0, done.stderr
    summary = read_stage(tmp_path / "runs" / "tiny", "data")["summary"]
    assert (summary["rows"], summary["by_source"], summary["distinct"]) == (9, [9], 6)
    assert summary["train_rows"] + summary["validation_rows"] == 9
    train, held_out = load_rows(tmp_path / "runs" / "tiny" / "data")
    assert (len(train), len(held_out)) == (summary["examples"], summary["validation_rows"])
    assert not [call for call in hub.asked if NEWER in call]


def test_a_subset_and_a_split_are_chosen(tmp_path, data_stage):
    done = data_stage(
        {"repo": "team/parts", "subset": "two", "format": "alpaca"}, {"repo": "team/rows", "split": "test", "format": "alpaca"}
    )
    assert done.returncode == 0, done.stderr
    assert read_stage(tmp_path / "runs" / "tiny", "data")["summary"]["by_source"] == [3, 2]


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ({"repo": "team/none"}, "error SG417: the hub has no data set team/none@main, or not for you\n  hint: check name and revision"),
        ({"repo": "team/rows", "split": "trian"}, 'error SG417: team/rows@main is not to be had: Unknown split "trian".'),
        (
            {"repo": "team/parts", "subset": "three"},
            "error SG417: team/parts@main (three) is not to be had: BuilderConfig 'three' not found.",
        ),
        ({"repo": "team/rows", "revision": "v9"}, "error SG417: "),
    ],
    ids=["repo", "split", "subset", "revision"],
)
def test_what_is_not_on_the_hub_is_named(data_stage, named, said):
    done = data_stage({**named, "format": "alpaca"})
    assert done.returncode != 0
    assert done.stderr.startswith(said)
    assert "Traceback" not in done.stderr


def test_faulty_rows_are_listed_with_their_index_and_the_rest_counted(fault_of):
    rows = [{"instruction": "a", "output": "b"}, {"instruction": None, "output": "b"}, *({"output": "b"} for _ in range(30))]
    text = fault_of(checked, rows, source())
    lines = text.splitlines()
    assert lines[:3] == [
        "error SG418: rows of team/rows@main do not have the format alpaca",
        "  row 1: the row has no instruction",
        "  row 2: the row has no instruction",
    ]
    assert lines[-2:] == ["  and 11 more like these", "  hint: name the right format, or another data set"]
    assert len(lines) == 1 + 20 + 2


def test_a_split_without_rows_is_refused(fault_of):
    assert fault_of(checked, [], source()) == "error SG418: the split train of team/rows@main holds no rows"


def test_nulls_that_arrow_fills_in_are_no_keys_of_a_row():
    filled = {
        "messages": [{"role": "user", "content": "Hi", "tool_calls": None}, {**CHATS[0]["messages"][1], "tool_calls": None}],
        "id": None,
    }
    assert checked([filled], source(format="openai")) == [plain_row([("user", "Hi"), ("assistant", "Hello.")])]


def test_a_null_that_is_a_text_is_a_fault(fault_of):
    row = {"messages": [{"role": "user", "content": None}, {"role": "assistant", "content": "Hello."}]}
    assert "  row 0: messages[0].content is null; it has to be text" in fault_of(checked, [row], source(format="openai"))


def test_datasets_that_is_not_installed_is_named(monkeypatch, fault_of):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert fault_of(read_hub, source()) == (
        "error SG416: data sets on the hub need `datasets`, which is not installed\n  hint: pip install 'specgen[train]'"
    )


def test_nothing_loads_datasets_unless_a_spec_names_the_hub(tmp_path, compiled):
    build = compiled(tmp_path)
    code = "import sys; from runtime.__main__ import main; main(); print(sorted({'datasets', 'pyarrow', 'pandas'} & set(sys.modules)))"
    command = [sys.executable, "-c", code, str(build), "--runs-dir", str(tmp_path / "runs"), "--stage", "data"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"

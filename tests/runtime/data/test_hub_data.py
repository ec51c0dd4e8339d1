"""runtime/data/hub.py: data sets on the hub, from a stand-in of its API on loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from runtime.config import HubSource, TurnRule
from runtime.data.dataset import load_rows
from runtime.data.hub import checked, conversations_of
from runtime.stages import read_stage
from tests.hub_stand_in import COMMIT, NEWER, Hub, Repo

ALPACA = [{"instruction": f"Count {number}.", "input": "", "output": f"It is {number}."} for number in range(6)]
CHATS = [{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]}]


def jsonl(rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def source(**changed):
    settings = {"name": None, "repo": "team/rows", "revision": None, "subset": None, "split": "train", "streaming": False}
    settings |= {"format": "alpaca", "fields": {}, "row": None, "weight": 1.0, "share": None, "limit": None, "rows": None}
    return HubSource(**{**settings, **changed})


def rows(found, of, **how):
    return list(checked(found, of, **how))


@pytest.fixture(scope="module")
def hub():
    card = b"---\nconfigs:\n- config_name: one\n  data_files: one/train.jsonl\n- config_name: two\n  data_files: two/train.jsonl\n---\n"
    served = Hub(
        {
            "datasets/team/rows": Repo({"train.jsonl": jsonl(ALPACA), "test.jsonl": jsonl(ALPACA[:2])}, main=NEWER),
            "datasets/team/faulty": Repo({"train.jsonl": jsonl([*ALPACA, {"instruction": "a", "input": None, "output": ""}])}),
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


def test_faulty_rows_are_listed_by_kind_and_the_rest_counted(fault_of):
    found = [{"instruction": "a", "output": "b"}, {"instruction": None, "output": "b"}, *({"output": "b"} for _ in range(30))]
    lines = fault_of(rows, found, source()).splitlines()
    assert lines[:4] == [
        "error SG418: rows of team/rows@main do not have the format alpaca",
        "  row 2: instruction is null; it has to be text",
        "  row 3: the row has no instruction",
        "  row 4: the row has no instruction",
    ]
    assert lines[-2:] == ["  and 10 more of this kind: no column instruction", "  hint: name the right format, or another data set"]
    assert len(lines) == 1 + 1 + 20 + 2


def test_the_format_or_the_column_that_is_meant_is_named(fault_of):
    assert fault_of(rows, CHATS, source()).splitlines()[-1] == "  hint: write format: openai"
    found = [{"dialog": CHATS[0]["messages"], "id": 1}]
    assert fault_of(rows, found, source(format="openai")).splitlines()[-1] == "  hint: write format: sharegpt"
    found = [{"exchange": CHATS[0]["messages"], "id": 1}]
    assert fault_of(rows, found, source(format="openai")).splitlines()[-1] == "  hint: write fields: {messages: exchange}"
    assert fault_of(rows, [{"a": "x"}], source()).splitlines()[-1] == "  hint: its columns are a"


def test_rows_without_their_format_may_be_left_out(fault_of):
    faulty = {"messages": [{"role": "user", "content": None}]}
    chat, problems = rows([*CHATS, faulty], source(format="openai"), drop=True)
    assert [chat] == CHATS
    assert problems[0].text == "messages[0].content is null; it has to be text"
    assert fault_of(rows, [faulty], source(format="openai"), drop=True).startswith("error SG418: ")


def test_columns_are_renamed_and_rows_are_made_by_a_template():
    found = [{"dialog": CHATS[0]["messages"]}]
    assert rows(found, source(format="openai", fields={"messages": "dialog"})) == CHATS
    template = (TurnRule(role="user", content="{{ q }}"), TurnRule(role="assistant", content="{{ a }}"))
    assert rows([{"q": "Hi", "a": "Hello."}], source(row=template)) == CHATS
    assert rows([{"q": "Hi", "a": "Hello."}], source(row='{"instruction": {{ q | tojson }}, "output": {{ a | tojson }}}')) == CHATS


def test_a_split_without_rows_is_refused(fault_of):
    assert fault_of(rows, [], source()) == "error SG418: the split train of team/rows@main holds no rows"


def test_nulls_that_arrow_fills_in_are_no_keys_of_a_row():
    filled = {
        "messages": [{"role": "user", "content": "Hi", "tool_calls": None}, {**CHATS[0]["messages"][1], "tool_calls": None}],
        "id": None,
    }
    assert rows([filled], source(format="openai")) == CHATS


def test_a_null_that_is_a_text_is_a_fault(fault_of):
    row = {"messages": [{"role": "user", "content": None}, {"role": "assistant", "content": "Hello."}]}
    assert "  row 1: messages[0].content is null; it has to be text" in fault_of(rows, [row], source(format="openai"))


def test_what_is_streamed_is_fetched_as_far_as_it_is_read(tmp_path, hub):
    """Of a stream the first row is there before the second is asked for; and a token in a message is hidden."""
    code = (
        "import itertools; from runtime.data import hub; from runtime.faults import RunFault\n"
        "from tests.runtime.data.test_hub_data import source\n"
        "of = source(streaming=True)\n"
        "print(list(itertools.islice(hub.conversations_of(of), 1))[0]['messages'][0]['content'], len(list(hub.conversations_of(of))))\n"
        "try: list(hub.conversations_of(source(split='hf_abcdefghijklmnop', streaming=True)))\n"
        "except RunFault as fault: print(fault.code, 'hf_abc' in fault.message.replace('split', ''), sep=' ')\n"
    )
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["Count 0. 6", "SG417 False"], done.stderr


def test_rows_that_are_left_out_are_counted_by_the_run(tmp_path, data_stage):
    done = data_stage({"repo": "team/faulty", "format": "alpaca"}, on_bad_row="drop", limits={"dropped": 0.2})
    assert done.returncode == 0, done.stderr
    summary = read_stage(tmp_path / "runs" / "tiny", "data")["summary"]
    assert (summary["rows"], summary["dropped"]) == (6, 1)


@pytest.mark.parametrize("streaming", [False, True])
def test_a_folder_is_a_data_set_too(tmp_path, streaming):
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "train.jsonl").write_bytes(jsonl(ALPACA))
    of = source(repo=str(tmp_path / "rows"), streaming=streaming)
    assert [row["messages"][1]["content"] for row in conversations_of(of)] == [row["output"] for row in ALPACA]


def test_datasets_that_is_not_installed_is_named(monkeypatch, fault_of):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert fault_of(lambda of: list(conversations_of(of)), source()) == (
        "error SG416: data sets on the hub need `datasets`, which is not installed\n  hint: pip install 'specgen[train]'"
    )


def test_nothing_loads_datasets_unless_a_spec_names_the_hub(tmp_path, compiled):
    build = compiled(tmp_path)
    code = (
        "import sys; from runtime.__main__ import main; main();"
        " print([name for name in ('datasets', 'pyarrow', 'pandas') if sys.modules.get(name)])"
    )
    command = [sys.executable, "-c", code, str(build), "--runs-dir", str(tmp_path / "runs"), "--stage", "data"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"

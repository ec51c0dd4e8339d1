"""How nodes meet: over real connections of this machine, each node a thread."""

from __future__ import annotations

import json
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from runtime import config as configs
from runtime.faults import Interrupted, RunFault
from runtime.processes import nodes
from runtime.processes.meeting import Meeting, is_own, meeting
from runtime.processes.nodes import Leader, Member, introduction
from runtime.run import pipeline
from runtime.run.run_lock import locked
from runtime.stages import open_folder

OWN = {"host": "a", "config": "c", "versions": {"torch": "2.13.0", "deepspeed": None}}


@pytest.fixture
def place():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    return lambda rank=None, nodes=2: Meeting(nodes=nodes, address="127.0.0.1", port=port, rank=rank)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(nodes, "LOOK_S", 0.2)
    monkeypatch.setattr(nodes, "JOIN_S", 1.0)


def joined(place, folder, rank=None, of=2, host="b", **differs):
    """What a member gets: its rendezvous, None, or the text of its fault."""
    try:
        with Member(place(rank, of), own={**OWN, "host": host, **differs}) as member:
            member.look(folder)
            return member.wait()
    except RunFault as fault:
        return str(fault)


def led(place, folder, *members, then=Leader.begin):
    """What the leader gets, and what members get that join it: each a dict of arguments of `joined`."""
    with ThreadPoolExecutor() as pool:
        first = Leader(place(0, len(members) + 1), own=OWN)
        waiting = [pool.submit(joined, place, of=len(members) + 1, **{"folder": folder, **member}) for member in members]
        try:
            with first as leader:
                leader.gather(folder)
                found = then(leader)
        except RunFault as fault:
            found = str(fault)
        return found, [one.result(timeout=30) for one in waiting]


def test_nodes_that_meet_get_numbers_and_one_store(place, folder):
    own, others = led(place, folder, {"rank": 2}, {})
    assert [own.rank, *(other.rank for other in others)] == [0, 2, 1]
    assert {own.port} == {other.port for other in others}
    assert {(one.nodes, one.address, one.interface) for one in (own, *others)} == {(3, "127.0.0.1", "lo")}
    assert list(folder.iterdir()) == [], "nothing is left in the run folder"


def test_the_leader_may_be_the_last_to_start(place, folder, monkeypatch):
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(joined, place, folder)
        with pytest.raises(TimeoutError):
            waiting.result(timeout=0.5)
        with Leader(place(0), own=OWN) as leader:
            leader.gather(folder)
            leader.begin()
        assert waiting.result(timeout=30).rank == 1


def test_a_run_folder_that_is_not_shared_is_told_on_both_sides(place, folder, tmp_path, quick):
    own, (other,) = led(place, folder, {"folder": tmp_path / "other"})
    assert own == other
    assert own.splitlines()[0] == (
        f"error SG462: node b does not see what a wrote to the run folder: {tmp_path}/other there is not {tmp_path}/run here"
    )


@pytest.mark.parametrize(
    ("differs", "told"),
    [
        ({"versions": {"torch": "2.12.0", "deepspeed": None}}, "node b has torch 2.12.0, and a has torch 2.13.0"),
        ({"versions": {"torch": "2.13.0", "deepspeed": "0.19.8"}}, "node b has deepspeed 0.19.8, and a has no deepspeed"),
        ({"versions": {"deepspeed": None}}, "node b has no torch, and a has torch 2.13.0"),
        ({"config": "d"}, "node b has another compiled folder than a"),
    ],
)
def test_nodes_that_are_not_alike_are_refused_on_both_sides(place, folder, differs, told):
    own, (other,) = led(place, folder, differs)
    assert own == other == f"error SG440: {told}\n  hint: install and compile the same on every node"


def test_a_node_that_does_not_come_is_waited_for_in_vain(place, folder, quick):
    own, _ = led(lambda rank, _nodes: place(rank, 2), folder)
    assert own.startswith(f"error SG439: only 1 of 2 nodes came to {place()} within 1 s")
    assert joined(place, folder).startswith(
        f"error SG439: the first node was not to be reached at {place()} within 1 s: Connection refused"
    )


def test_two_nodes_of_one_number_are_refused(place, folder):
    own, others = led(place, folder, {"rank": 1}, {"rank": 1})
    assert {own, *others} == {"error SG439: two nodes have the same NODE_RANK: 0, 1, 1"}


def test_who_does_not_speak_like_a_node_is_no_node(place, folder):
    where = (place().address, place().port)
    with Leader(place(0), own=OWN) as leader, ThreadPoolExecutor() as pool:
        for words in (b"GET / HTTP/1.1\r\n\r\n", b"[]\n", b""):
            stranger = socket.create_connection(where)
            stranger.sendall(words)
            stranger.close()
        waiting = pool.submit(joined, place, folder)
        leader.gather(folder)
        assert leader.begin().rank == 0
        assert waiting.result(timeout=30).rank == 1


def test_where_there_is_nothing_to_train_the_others_end(place, folder):
    assert led(place, folder, {}, then=lambda leader: "up to date") == ("up to date", [None])


def test_a_fault_of_the_first_node_ends_the_others(place, folder):
    def fails(leader):
        raise RunFault("SG411", "the base is not to be had", "download it")

    fault = "error SG411: the base is not to be had\n  hint: download it"
    assert led(place, folder, {}, then=fails) == (fault, [fault])


def test_a_first_node_that_is_interrupted_before_training_leaves_the_others_with_a_fault(place, folder):
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(joined, place, folder)
        with pytest.raises(KeyboardInterrupt), Leader(place(0), own=OWN) as leader:
            leader.gather(folder)
            raise KeyboardInterrupt
        told = waiting.result(timeout=30)
    hint = "its own output says why; the same command on every node goes on from the last checkpoint"
    assert told == f"error SG463: node 127.0.0.1 has failed, or is gone\n  hint: {hint}"


def test_a_node_waits_for_its_turn_as_long_as_nodes_wait_for_each_other(place, folder, monkeypatch):
    """The leader speaks with one after another, and each may look for its file for a minute."""
    waited = []
    monkeypatch.setattr(Member, "_hear", lambda _member, timeout_s: waited.append(timeout_s) or {"look_for": "token"})
    monkeypatch.setattr(nodes, "LOOK_S", 0.0)
    with Leader(place(0), own=OWN), Member(place(), own=OWN) as member:
        member.look(folder)
    assert waited == [nodes.JOIN_S]


def test_a_leader_that_has_no_time_left_says_who_is_missing(place, folder, monkeypatch, fault_of):
    monkeypatch.setattr(nodes, "JOIN_S", 0.0)
    with Leader(place(0), own=OWN) as leader:
        told = fault_of(leader.gather, folder)
    hint = "start the same command on every node; a firewall may be between them"
    assert told == f"error SG439: only 1 of 2 nodes came to {place()} within 0 s\n  hint: {hint}"


def test_a_fault_from_before_the_nodes_meet_is_told_to_all_of_them(place, tmp_path, compiled, monkeypatch, fault_of):
    build = compiled(tmp_path, distributed={"nodes": 2})
    run = tmp_path / "runs" / "tiny"
    for name, value in {"MASTER_ADDR": place().address, "MASTER_PORT": place().port, "NODE_RANK": 0}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(nodes, "JOIN_S", 20.0)
    open_folder(run)
    with locked(run), ThreadPoolExecutor() as pool:
        waiting = pool.submit(joined, place, run, **introduction(build))
        told = fault_of(pipeline.run, configs.load(build), build=build, runs_dir=run.parent, only=(), talk="")
        assert waiting.result(timeout=60) == told
    assert told == f"error SG406: another run is active in {run}\n  hint: wait for it, or choose another folder with --runs-dir"


def test_who_is_gone_is_noticed_and_who_has_ended_is_not_missed(place, folder):
    def after(member_ends):
        with Leader(place(0), own=OWN) as leader, ThreadPoolExecutor() as pool:
            member = pool.submit(Member, place(), own={**OWN, "host": "b"})
            seen = pool.submit(lambda: member.result().look(folder))
            leader.gather(folder)
            seen.result()
            assert leader.lost() is None
            member_ends(member.result())
            found = [leader.lost() for _ in range(2)]
            with pytest.raises(RunFault, match="node b has failed, or is gone"):
                leader.begin()  # to begin without it is no way in either case
            return found

    gone = after(lambda member: member.line.connection.close())
    assert "SG463: node b has failed, or is gone" in str(gone[0])
    assert after(lambda member: member.__exit__(None, None, None)) == [None, None]
    assert after(lambda member: member.__exit__(Interrupted, Interrupted(), None)) == [None, None], "all of them are saving then"
    failed = after(lambda member: member.__exit__(RunFault, RunFault("SG434", "rank 1 was killed", None), None))
    assert str(failed[0]) == "error SG434: rank 1 was killed"


def test_the_first_node_is_the_one_with_the_address():
    assert is_own("127.0.0.1") and is_own("localhost") and is_own(socket.gethostname())
    assert not is_own("192.0.2.1")  # of RFC 5737: nobody's
    assert Meeting(nodes=2, address="192.0.2.1", port=1, rank=0).leads
    assert not Meeting(nodes=2, address="127.0.0.1", port=1, rank=1).leads


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        (
            {},
            "error SG435: this run spans 2 nodes, and MASTER_ADDR does not say where they meet\n  hint: on each",
        ),
        ({"MASTER_ADDR": "a", "NODE_RANK": "2"}, "error SG439: NODE_RANK is 2, and the nodes of this run are 0 to 1"),
        ({"MASTER_ADDR": "a", "NODE_RANK": "first"}, 'error SG439: NODE_RANK is "first", and has to be a whole number below 65536'),
        ({"MASTER_ADDR": "a", "MASTER_PORT": "99999"}, 'error SG439: MASTER_PORT is "99999", and has to be a whole number below 65536'),
    ],
)
def test_what_the_environment_lacks_is_named(tmp_path, monkeypatch, fault_of, environment, told):
    for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert fault_of(meeting, 2, build=tmp_path).startswith(told)


def test_a_name_that_nobody_has_is_told(fault_of):
    assert fault_of(is_own, "no-such-node.invalid").startswith("error SG439: MASTER_ADDR is no-such-node.invalid, and no machine is known")


def test_a_node_introduces_itself_by_what_it_would_run(tmp_path):
    (tmp_path / "config.yaml").write_text("a: 1\n")
    before = introduction(tmp_path)
    assert json.loads(json.dumps(before)) == before
    assert before["versions"]["torch"] and before["host"] == socket.gethostname()
    (tmp_path / "deepspeed.json").write_text("{}")
    assert introduction(tmp_path)["config"] != before["config"]

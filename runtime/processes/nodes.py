"""Several nodes: the first one leads, the others join it, and each starts the training processes of its own machine.

The leader listens on MASTER_PORT; every other node connects, and stays connected until it has ended: a connection that breaks means
that a node is gone. Over it the leader sees, before anything is computed, that all nodes have the same config, libraries and run
folder, numbers them, and says when training begins.

torchrun gets these numbers (its static rendezvous). Its c10d rendezvous numbers nodes by the spelling of their addresses: rank 0,
which writes the files, would lie on any of them.
"""

from __future__ import annotations

import hashlib
import secrets
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Self

from runtime import console
from runtime.faults import FAILED, WRONG, Interrupted, RunFault
from runtime.processes.lines import Line, Message
from runtime.processes.meeting import Meeting

JOIN_S = 600.0  # for how long nodes wait for each other
ANSWER_S = 30.0  # for how long one that is there is waited for
LOOK_S = 60.0  # for how long a node looks for a file that another one wrote: NFS may show it only after a minute
LIBRARIES = ("torch", "transformers", "peft", "accelerate", "deepspeed", "bitsandbytes")
MARK = ".nodes"  # in the run folder; the leader writes it


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendezvous:
    """What the launcher of the training processes is told on one node: which one it is, where their store is, and by which network
    interface this node is reached; None where that is not to be found out."""

    nodes: int
    rank: int
    address: str
    port: int
    interface: str | None


class Leader:
    """The node that the others join. Within this they are connected; they hear how it ends."""

    def __init__(self, place: Meeting, *, own: Message) -> None:
        self.place, self.own = place, own
        self.others: list[Line] = []
        self.trains = False
        self.server = _listening(place)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _type: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None) -> None:
        for line in self.others:
            line.say(_ending(error, agreed=self.trains))
            line.connection.close()
        self.server.close()

    def gather(self, folder: Path) -> None:
        """Waits for the other nodes. Raises RunFault where one does not come, or has something else than this one."""
        token = secrets.token_hex(8)
        (folder / MARK).write_text(token)
        until = time.monotonic() + JOIN_S
        missing = self.place.nodes - 1
        console.say("nodes", f"waits for {missing} more at {self.place}")
        while len(self.others) < missing:
            self.server.settimeout(max(0.0, until - time.monotonic()))
            try:
                connection, _ = self.server.accept()
            except (TimeoutError, BlockingIOError):  # the latter where no time at all is left
                raise self._nobody_came() from None
            self._welcome(Line(connection), folder, token)
        (folder / MARK).unlink(missing_ok=True)
        self._number()
        console.say("nodes", f"{self.place.nodes} together: {', '.join([str(self.own['host']), *(line.host for line in self.others)])}")

    def _nobody_came(self) -> RunFault:
        there = len(self.others) + 1
        message = f"only {there} of {self.place.nodes} nodes came to {self.place} within {JOIN_S:g} s"
        return RunFault("SG439", message, "start the same command on every node; a firewall may be between them")

    def _welcome(self, line: Line, folder: Path, token: str) -> None:
        hello = _heard(line)
        if hello is None or "host" not in hello:
            line.connection.close()  # a stranger
            return
        line.host, line.rank = str(hello["host"]), hello.get("rank")
        self.others.append(line)  # it hears of a fault, too
        if difference := _difference(self.own, hello):
            raise RunFault("SG440", difference, "install and compile the same on every node", exit_code=WRONG)
        line.say({"look_for": token})
        answer = _heard(line, LOOK_S + ANSWER_S)
        if answer is None:
            raise RunFault("SG463", f"node {line.host} is gone")
        if not answer.get("found"):
            message = f"node {line.host} does not see what {self.own['host']} wrote to the run folder: {answer.get('folder')} there"
            message += f" is not {folder.absolute()} here"
            raise RunFault("SG462", message, "let all nodes work in one shared folder, or share the one of --runs-dir", exit_code=WRONG)

    def _number(self) -> None:
        """Gives the nodes their numbers: those that they were told, else in the order in which they came."""
        told = [line.rank for line in self.others if line.rank is not None]
        if len(set(told)) < len(told) or 0 in told:
            raise RunFault("SG439", f"two nodes have the same NODE_RANK: {', '.join(map(str, sorted([0, *told])))}", exit_code=WRONG)
        free = [rank for rank in range(1, self.place.nodes) if rank not in told]
        for line in self.others:
            line.rank = free.pop(0) if line.rank is None else line.rank
        self.others.sort(key=lambda line: line.rank or 0)

    def begin(self) -> Rendezvous:
        """Tells the other nodes that training begins. Raises RunFault where one is gone."""
        fault = self.lost()
        ended = [_gone(line.host) for line in self.others if line.is_done]
        if fault or ended:
            raise fault or ended[0]
        port = _free_port()
        for line in self.others:
            line.say({"train": {"rank": line.rank, "port": port}})
        self.trains = True
        own = self.others[0].connection.getsockname()[0]
        return Rendezvous(nodes=self.place.nodes, rank=0, address=self.place.address, port=port, interface=interface_of(own))

    def lost(self) -> RunFault | None:
        """The fault of a node that is gone or has failed; None as long as all is well."""
        return next((fault for line in self.others if line.has_news and (fault := _news(line))), None)


class Member:
    """A node that joins the leader. Within this it is connected; the leader hears how it ends."""

    def __init__(self, place: Meeting, *, own: Message) -> None:
        self.place = place
        self.line = Line(_connected(place), place.address)
        self.line.say({**own, "rank": place.rank})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _type: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None) -> None:
        self.line.say(_ending(error, agreed=True))  # before training the leader does without it in no case
        self.line.connection.close()

    def look(self, folder: Path) -> None:
        """Looks for what the leader wrote. Raises RunFault for what the leader finds wrong."""
        token = str(self._hear(JOIN_S)["look_for"])  # the leader speaks with one after another, and each may look for a minute
        self.line.say({"found": _sees(folder / MARK, token), "folder": str(folder.absolute())})

    def wait(self) -> Rendezvous | None:
        """Waits until training begins; None where there is nothing to train. Raises RunFault where the leader fails before."""
        message = self._hear(None)
        if "train" not in message:
            return None
        own = self.line.connection.getsockname()[0]
        return Rendezvous(nodes=self.place.nodes, address=self.place.address, interface=interface_of(own), **message["train"])

    def _hear(self, timeout_s: float | None) -> Message:
        message = _heard(self.line, timeout_s)
        if message is None or message.get("end"):
            raise _gone(self.place.address)
        if "fault" in message:
            raise RunFault(**message["fault"])
        return message

    def lost(self) -> RunFault | None:
        """The fault of the leader that is gone or has failed; None as long as all is well."""
        return _news(self.line) if self.line.has_news else None


def introduction(build: Path) -> Message:
    """What a node says of itself: its name, its compiled folder as a SHA-256, and its libraries."""
    files = [build / "config.yaml", build / "deepspeed.json"]
    content = b"".join(file.read_bytes() for file in files if file.exists())
    return {
        "host": socket.gethostname(),
        "config": hashlib.sha256(content).hexdigest(),
        "versions": {name: _version(name) for name in LIBRARIES},
    }


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def interface_of(address: str) -> str | None:
    """The network interface that has an address."""
    import psutil

    return next((name for name, places in psutil.net_if_addrs().items() if any(place.address == address for place in places)), None)


def _listening(place: Meeting) -> socket.socket:
    try:
        return socket.create_server(("", place.port))
    except OSError as error:
        message = f"port {place.port} of this node is not to be had: {error.strerror}"
        raise RunFault("SG439", message, "choose another with MASTER_PORT, on every node", exit_code=WRONG) from None


def _connected(place: Meeting) -> socket.socket:
    """Tries for a while: the leader may be the last to start."""
    console.say("nodes", f"joins {place}")
    until = time.monotonic() + JOIN_S
    while True:
        try:
            return socket.create_connection((place.address, place.port), timeout=ANSWER_S)
        except OSError as error:
            if time.monotonic() > until:
                message = f"the first node was not to be reached at {place} within {JOIN_S:g} s: {error.strerror or error}"
                raise RunFault("SG439", message, "start the same command on every node; a firewall may be between them") from None
            time.sleep(1)


def _free_port() -> int:
    with socket.create_server(("", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def _sees(file: Path, token: str) -> bool:
    until = time.monotonic() + LOOK_S
    while True:
        with suppress(OSError):
            list(file.parent.iterdir())  # makes NFS ask anew
            if file.read_text() == token:
                return True
        if time.monotonic() > until:
            return False
        time.sleep(0.5)


def _heard(line: Line, timeout_s: float | None = ANSWER_S) -> Message | None:
    try:
        return line.hear(timeout_s)
    except TimeoutError:
        return None


def _news(line: Line) -> RunFault | None:
    message = _heard(line)
    line.is_done = message == {"end": 0}
    if line.is_done:
        return None
    if message is not None and "fault" in message:
        return RunFault(**message["fault"])
    return _gone(line.host)


def _gone(host: str) -> RunFault:
    hint = "its own output says why; the same command on every node goes on from the last checkpoint"
    return RunFault("SG463", f"node {host} has failed, or is gone", hint)


def _ending(error: BaseException | None, *, agreed: bool) -> Message:
    """How a node ends. One that is interrupted while all train has `agreed` on that with the others: they are saving. Before that
    nobody else knows of it."""
    if isinstance(error, RunFault):
        return {"fault": {"code": error.code, "message": error.message, "hint": error.hint, "exit_code": error.exit_code}}
    is_well = error is None or (agreed and isinstance(error, Interrupted | KeyboardInterrupt))
    return {"end": 0 if is_well else FAILED}


def _difference(own: Mapping[str, object], other: Mapping[str, object]) -> str | None:
    """What another node has that is not as it is here, as a sentence."""
    here, there = own["versions"], other.get("versions")
    assert isinstance(here, dict)
    names = [name for name, installed in here.items() if not isinstance(there, dict) or there.get(name) != installed]
    if names:
        name, found = names[0], there.get(names[0]) if isinstance(there, dict) else None
        return f"node {other['host']} has {_named(name, found)}, and {own['host']} has {_named(name, here[name])}"
    if own["config"] != other.get("config"):
        return f"node {other['host']} has another compiled folder than {own['host']}"
    return None


def _named(library: str, installed: object) -> str:
    return f"{library} {installed}" if installed else f"no {library}"

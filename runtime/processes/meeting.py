"""Where the nodes of a run meet, by the environment: MASTER_ADDR, MASTER_PORT and NODE_RANK, as torchrun has them."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.faults import WRONG, RunFault

PORT = 29500  # torchrun's own


@dataclass(frozen=True, slots=True, kw_only=True)
class Meeting:
    """Where the nodes meet, and which one this is: `rank` is None where it is not told."""

    nodes: int
    address: str
    port: int
    rank: int | None

    @property
    def leads(self) -> bool:
        """Whether this is the node that the others join: number 0, or the one that has the address."""
        return self.rank == 0 if self.rank is not None else is_own(self.address)

    def __str__(self) -> str:
        return f"{self.address}:{self.port}"


def meeting(nodes: int, *, build: Path) -> Meeting:
    """What the environment says. Raises RunFault where it does not say where the nodes meet."""
    address = os.environ.get("MASTER_ADDR")
    if not address:
        hint = f"on each node: MASTER_ADDR=first-node bash {build / 'launch.sh'}; for a scheduler: specgen compile --target slurm"
        raise RunFault("SG435", f"this run spans {nodes} nodes, and MASTER_ADDR does not say where they meet", hint, exit_code=WRONG)
    port, rank = (_number(name) for name in ("MASTER_PORT", "NODE_RANK"))
    if rank is not None and rank >= nodes:
        raise RunFault("SG439", f"NODE_RANK is {rank}, and the nodes of this run are 0 to {nodes - 1}", exit_code=WRONG)
    return Meeting(nodes=nodes, address=address, port=PORT if port is None else port, rank=rank)


def _number(name: str) -> int | None:
    text = os.environ.get(name, "")
    if text and not (text.isdecimal() and int(text) < 65536):
        raise RunFault("SG439", f"{name} is {text!r}, and has to be a whole number below 65536".replace("'", '"'), exit_code=WRONG)
    return int(text) if text else None


def is_own(address: str) -> bool:
    """Whether an address is one of this machine's. Raises RunFault where nobody knows the name."""
    try:
        found = socket.getaddrinfo(address, 0, type=socket.SOCK_STREAM)
    except OSError as error:
        raise RunFault(
            "SG439", f"MASTER_ADDR is {address}, and no machine is known by that name ({error.strerror})", exit_code=WRONG
        ) from None
    return any(_can_bind(family, place) for family, _, _, _, place in found)


def _can_bind(family: int, place: Any) -> bool:
    with socket.socket(family) as probe, suppress(OSError):
        probe.bind(place)
        return True
    return False

"""Where the page is: a host and a port that are free, and the token that an address beyond this machine needs."""

from __future__ import annotations

import errno
import ipaddress
import os
import secrets
import socket
from dataclasses import dataclass, field
from urllib.parse import urlencode

from runtime.faults import WRONG, RunFault

TOKEN = "SPECGEN_WEB_TOKEN"  # noqa: S105  (the variable's name)
SHORTEST_TOKEN = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """`ip` is what `host` means here; `listener` holds the port. `token` None: who can reach it, may use it."""

    host: str
    ip: str
    port: int
    token: str | None = field(repr=False)
    listener: socket.socket

    @property
    def loopback(self) -> bool:
        """Whether only this machine reaches it."""
        return ipaddress.ip_address(self.ip).is_loopback

    @property
    def url(self) -> str:
        """What to open, with the token."""
        name = socket.gethostname() if ipaddress.ip_address(self.ip).is_unspecified else self.host
        place = f"http://[{name}]:{self.port}" if ":" in name else f"http://{name}:{self.port}"
        return f"{place}/?{urlencode({'token': self.token})}" if self.token else place


def find(host: str, port: int) -> Address:
    """The address of a host and a port, which is taken from here on; port 0 is any that is free. Raises RunFault where nobody can
    listen there."""
    ip = _resolve(host)
    token = _token(loopback=ipaddress.ip_address(ip).is_loopback)
    listener = _listen(host, ip, port)
    return Address(host=host, ip=ip, port=int(listener.getsockname()[1]), token=token, listener=listener)


def _resolve(host: str) -> str:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        hint = "--host 127.0.0.1 is this machine alone, --host 0.0.0.0 all its addresses"
        raise RunFault("SG673", f"--host {host} is no address, and no name that can be looked up", hint, exit_code=WRONG) from None
    return str(min(found, key=lambda entry: entry[0] != socket.AF_INET)[4][0])  # IPv4 first, as browsers here would


def _listen(host: str, ip: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((ip, port))
        listener.listen()
    except OSError as error:
        listener.close()
        raise _fault(error, host, port) from None
    return listener


def _fault(error: OSError, host: str, port: int) -> RunFault:
    if error.errno == errno.EADDRINUSE:
        return RunFault("SG674", f"port {port} of {host} is taken", f"--port {port + 1}, or --port 0 for any that is free", exit_code=WRONG)
    if error.errno == errno.EACCES:
        return RunFault("SG674", f"port {port} of {host} is not open to this user", "take one above 1023", exit_code=WRONG)
    hint = "--host 127.0.0.1 is this machine alone, --host 0.0.0.0 all its addresses"
    return RunFault("SG673", f"--host {host} is no address of this machine", hint, exit_code=WRONG)


def _token(*, loopback: bool) -> str | None:
    """The token from the environment, else a random one; none on loopback, unless the environment has one."""
    given = os.environ.get(TOKEN)
    if given is None:
        return None if loopback else secrets.token_urlsafe(32)
    if len(given) < SHORTEST_TOKEN or not given.isascii() or not given.isprintable():
        message = f"{TOKEN} is no token: at least {SHORTEST_TOKEN} characters of ASCII"
        hint = f"unset {TOKEN}, and a random one is printed; or: export {TOKEN}=$(openssl rand -hex 16)"
        raise RunFault("SG675", message, hint, exit_code=WRONG)
    return given

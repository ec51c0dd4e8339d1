"""The key of a server, from the environment, and where one is needed."""

from __future__ import annotations

import ipaddress

from runtime.faults import WRONG, RunFault

KEY = "SPECGEN_API_KEY"


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def require_key(host: str, key: str | None) -> None:
    """Raises RunFault for an address that others reach without a key, and for a key that no client can send."""
    if not key:
        if not is_loopback(host):
            message = f"{host} is reached by other machines, and no key is set that they would have to know"
            raise RunFault("SG679", message, f"put one into the environment: export {KEY}=…; or leave --host out", exit_code=WRONG)
    elif not (key.isascii() and key.isprintable() and " " not in key):
        message = f"{KEY} holds white space or characters beside ASCII, which no client can send"
        raise RunFault("SG684", message, "openssl rand -hex 24 makes one", exit_code=WRONG)

"""runtime/web/address.py: where the page is, and when it needs a token."""

from __future__ import annotations

import socket

import pytest

from runtime.web import address
from runtime.web.address import TOKEN


@pytest.fixture(autouse=True)
def no_token(monkeypatch):
    monkeypatch.delenv(TOKEN, raising=False)


@pytest.fixture
def found():
    """Finds addresses whose ports are given back."""
    listeners = []

    def find(host, port=0):
        place = address.find(host, port)
        listeners.append(place.listener)
        return place

    yield find
    for listener in listeners:
        listener.close()


def test_on_loopback_there_is_no_token(found):
    for host in ("127.0.0.1", "localhost", "127.9.9.9"):
        place = found(host)
        assert (place.token, place.url) == (None, f"http://{host}:{place.port}")
        assert place.port > 0


def test_elsewhere_there_is_a_random_one_in_the_address(found):
    first, second = found("0.0.0.0"), found("0.0.0.0")
    assert len(first.token) >= 43 and first.token != second.token  # 256 bits
    assert first.url == f"http://{socket.gethostname()}:{first.port}/?token={first.token}"
    assert first.token not in repr(first)


def test_the_token_may_come_from_the_environment_and_then_counts_on_loopback_too(found, monkeypatch):
    monkeypatch.setenv(TOKEN, "a token of my own & more")
    assert found("0.0.0.0").token == "a token of my own & more"
    place = found("127.0.0.1")
    assert place.url == f"http://127.0.0.1:{place.port}/?token=a+token+of+my+own+%26+more"


@pytest.mark.parametrize("token", ["", "too short", "this one is not asciï, however long", "this one\nhas two lines"])
def test_a_token_that_could_be_guessed_or_mistyped_is_refused(fault_of, monkeypatch, token):
    monkeypatch.setenv(TOKEN, token)
    assert fault_of(address.find, "127.0.0.1", 0) == (
        "error SG675: SPECGEN_WEB_TOKEN is no token: at least 16 characters of ASCII\n"
        "  hint: unset SPECGEN_WEB_TOKEN, and a random one is printed; or: export SPECGEN_WEB_TOKEN=$(openssl rand -hex 16)"
    )


def test_a_port_that_is_taken_is_told(found, fault_of):
    port = found("127.0.0.1").port
    assert fault_of(address.find, "127.0.0.1", port) == (
        f"error SG674: port {port} of 127.0.0.1 is taken\n  hint: --port {port + 1}, or --port 0 for any that is free"
    )


def test_a_port_that_is_not_open_to_this_user_is_told(fault_of, monkeypatch):
    def refused(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refused)
    assert fault_of(address.find, "127.0.0.1", 80) == (
        "error SG674: port 80 of 127.0.0.1 is not open to this user\n  hint: take one above 1023"
    )


def test_a_name_that_nobody_knows_is_told(fault_of):
    assert fault_of(address.find, "no-such-host.invalid", 0) == (
        "error SG673: --host no-such-host.invalid is no address, and no name that can be looked up\n"
        "  hint: --host 127.0.0.1 is this machine alone, --host 0.0.0.0 all its addresses"
    )


def test_an_address_of_another_machine_is_told(fault_of):
    assert fault_of(address.find, "192.0.2.1", 0) == (
        "error SG673: --host 192.0.2.1 is no address of this machine\n"
        "  hint: --host 127.0.0.1 is this machine alone, --host 0.0.0.0 all its addresses"
    )

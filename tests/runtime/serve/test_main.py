"""python -m runtime.serve: what is said at the start, what stands in the way, how it ends."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time

import pytest
from openai import APIConnectionError, OpenAI

from runtime.serve import __main__ as program


@pytest.fixture
def started():
    """Starts the server as a process of its own; it is ended after the test."""
    running = []

    def start(*words):
        process = subprocess.Popen(
            [sys.executable, "-m", *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8"
        )
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_says_how_to_call_it_answers_and_ends_at_once(started, finished, tiny_base, number, monkeypatch):
    """Ctrl-C reaches the server itself; SIGTERM, as schedulers send it, the command that started it. A key that is empty is none."""
    monkeypatch.setenv("SPECGEN_API_KEY", "")
    build, run = finished
    if number == signal.SIGINT:
        name, process = "tiny", started("runtime.serve", build, "--runs-dir", run.parent, "--port", 0)
    else:
        name, process = tiny_base.name, started("specgen", "serve", tiny_base, "--port", 0)
    line = process.stdout.readline().strip()
    url = line.split()[1]
    assert line == f"{name}  {url} · OpenAI(base_url='{url}', api_key='none'), model='{name}' · Ctrl-C ends"
    client = OpenAI(base_url=url, api_key="none", max_retries=0, timeout=60)
    chunks = client.chat.completions.create(model=name, messages=[{"role": "user", "content": "Count 1."}], stream=True, max_tokens=100)
    next(chunks)
    begun = time.monotonic()
    process.send_signal(number)
    assert process.wait(20) == 0 and time.monotonic() - begun < 15
    assert process.stderr.read() == ""
    with pytest.raises(APIConnectionError):
        client.models.list()


def test_a_port_that_is_taken_is_told_before_a_model_is_loaded(fault_of):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert fault_of(program.listen, "127.0.0.1", port) == (
            f"error SG677: 127.0.0.1:{port} cannot be listened on: Address already in use\n"
            "  hint: end what listens there, or take another --port (0: any that is free)"
        )
    assert "192.0.2.1:8000 cannot be listened on: Cannot assign requested address" in fault_of(program.listen, "192.0.2.1", 8000)
    assert "nowhere.invalid:8000 cannot be listened on: " in fault_of(program.listen, "nowhere.invalid", 8000)


def test_a_missing_extra_is_told(monkeypatch, fault_of):
    find = program.importlib.util.find_spec
    monkeypatch.setattr(program.importlib.util, "find_spec", lambda name: None if name == "uvicorn" else find(name))
    assert fault_of(program.require_packages) == (
        "error SG678: serving needs uvicorn, which is not installed\n  hint: pip install 'specgen[serve]'"
    )


def test_the_greeting_names_the_machine_and_never_the_key():
    assert program.greeting("aria", "::1", 80, with_key=True) == (
        "aria  http://[::1]:80/v1 · OpenAI(base_url='http://[::1]:80/v1', api_key='the key'), model='aria' · Ctrl-C ends"
    )
    assert socket.gethostname() in program.greeting("aria", "0.0.0.0", 80, with_key=True)

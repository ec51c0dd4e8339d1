"""runtime/web/__main__.py: what is found out before a model is loaded."""

from __future__ import annotations

import importlib.util
import socket

import pytest

from runtime.web import __main__ as program


@pytest.fixture
def called(capsys, tmp_path):
    """Calls the program with a folder that holds no model; returns its exit code and what it said."""

    def call(*words):
        return program.main([str(tmp_path), *map(str, words)]), capsys.readouterr().err

    return call


def test_streamlit_is_an_extra(called, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert called() == (
        2,
        "error SG672: a chat in the browser needs Streamlit, which is not installed\n  hint: pip install 'specgen[web]'\n",
    )


def test_a_port_that_is_taken_is_told_before_the_model_is_loaded(called):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert called("--port", port) == (
            2,
            f"error SG674: port {port} of 127.0.0.1 is taken\n  hint: --port {port + 1}, or --port 0 for any that is free\n",
        )


def test_where_there_is_no_model_nothing_is_served(called, tmp_path):
    code, said = called("--port", 0)
    assert (code, said) == (
        2,
        f"error SG663: {tmp_path} holds no model: it has no config.json\n  hint: give a folder in Hugging Face's form, or a spec\n",
    )

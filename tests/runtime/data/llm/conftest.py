"""An endpoint on loopback, and sources that ask it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from runtime.config import BudgetConfig, JudgeConfig, LlmSource, TurnRule
from runtime.data.llm import endpoint as endpoints
from runtime.data.llm.rows import rows
from tests.llm_stand_in import Endpoint


@dataclass
class Asked:
    """What a source gave: (user, assistant) of its rows, and the line of counts."""

    pairs: list[tuple[str, str]]
    said: list[str] = field(default_factory=list)


def turns(*pairs):
    return tuple(TurnRule(role=role, content=content) for role, content in pairs)


@pytest.fixture
def endpoint():
    """Answers `Answer to: PROMPT` until a test sets `answer`."""
    server = Endpoint(lambda body: f"Answer to: {body['messages'][-1]['content']}")
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(endpoints, "FIRST_WAIT_S", 0.002)


@pytest.fixture
def source(endpoint):
    """Three prompts, one after another, unless a test says otherwise."""

    def made(**settings):
        topics = settings.pop("topics", ("tea", "jam", "oats"))
        judge = settings.pop("judge", None)
        plain = {
            "name": "made", "base_url": endpoint.url, "model": "writer", "local": False, "api_key_env": None,
            "variables": {"topic": topics}, "combine": "product", "sample": None,
            "prompt": turns(("user", "Write about {{ topic }}.")),
            "samples": 1, "temperature": 0.8, "top_p": 0.9, "max_tokens": 50, "schema": None,
            "row": turns(("user", "What of {{ topic }}?"), ("assistant", "{{ answer }}")),
            "judge": JudgeConfig(prompt=turns(("user", judge[0])), least=judge[1]) if judge else None,
            "unique": True, "concurrency": 1, "retries": 2, "timeout_s": 5.0,
            "budget": BudgetConfig(requests=settings.pop("requests", 1000), tokens=settings.pop("tokens", 1_000_000)),
            "weight": 1.0, "share": None, "limit": None, "rows": None,
        }  # fmt: skip
        found = {**plain, **settings}
        return LlmSource(**found, requests=len(topics) * found["samples"])

    return made


def no_rules(name):
    """For a source whose variables name no rule."""
    raise KeyError(name)


@pytest.fixture
def ask(tmp_path):
    """The rows of a source, its replies kept in the test's folder."""

    def asked(source, cache=None):
        said = []
        kept = Path(cache or tmp_path / "kept")
        found = rows(source, seed=1, rows_of=no_rules, cache=kept, say=lambda label, text: said.append(f"{label} {text}"))
        made = list(found)
        return Asked([tuple(message["content"] for message in row["messages"]) for row in made], said)

    return asked

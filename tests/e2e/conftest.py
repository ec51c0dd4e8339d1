"""End-to-end runs on the real small model. A run that several tests look at is made once."""

from __future__ import annotations

import pytest

from tests.e2e.commands import ASSISTANT, Ran, specgen


@pytest.fixture(scope="session")
def assistant(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """`specgen run specs/assistant.yaml`, as a newcomer types it, in a folder of its own."""
    return specgen("run", ASSISTANT, cwd=tmp_path_factory.mktemp("assistant"))

"""Requests made up by schemathesis from the served OpenAPI: no 500, and nothing that the OpenAPI does not name."""

from __future__ import annotations

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance, status_code_conformance

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.mark.parametrize("mode", list(GenerationMode))
@pytest.mark.parametrize("examples", [30, pytest.param(1500, marks=pytest.mark.slow)])
def test_no_request_ends_in_a_fault_of_ours(server, mode, examples):
    api = schemathesis.openapi.from_url(f"{server.address}/openapi.json")
    api.config.generation.update(modes=[mode])
    seen = set()
    operation = api["/v1/chat/completions"]["POST"]

    @settings(
        max_examples=examples, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case):
        response = case.call(timeout=60)
        seen.add(response.status_code)
        case.validate_response(response, checks=CHECKS)

    ask()
    assert 400 in seen and not any(status >= 500 for status in seen)

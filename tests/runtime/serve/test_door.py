"""Who may come in: a key where others reach the server, and this machine's own name where there is none."""

from __future__ import annotations

import httpx2
import pytest
from openai import AuthenticationError, OpenAI

from runtime.serve.key import is_loopback, require_key

KEY = "s3cret-key"


def test_with_a_key_only_those_who_know_it_come_in(locked):
    assert OpenAI(base_url=locked.url, api_key=KEY).models.list().data[0].id == "tiny"
    for wrong in ("none", KEY[:-1], KEY + "x", KEY.upper()):
        with pytest.raises(AuthenticationError) as caught:
            OpenAI(base_url=locked.url, api_key=wrong, max_retries=0).models.list()
        assert caught.value.code == "invalid_api_key" and KEY not in str(caught.value.body)
    for path in ("/v1/models", "/openapi.json", "/v1/nothing"):
        assert httpx2.get(locked.address + path).status_code == 401
    assert httpx2.get(f"{locked.address}/v1/models", headers={"Authorization": f"Basic {KEY}"}).status_code == 401
    assert httpx2.get(f"{locked.address}/health").status_code == 200


def test_without_a_key_the_name_has_to_be_this_machines(server):
    for host in ("localhost", "127.0.0.1:8000", "[::1]:8000", "LOCALHOST:80"):
        assert httpx2.get(f"{server.url}/models", headers={"Host": host}).status_code == 200
    told = httpx2.get(f"{server.url}/models", headers={"Host": "rebound.example.com"})
    assert (told.status_code, told.json()["error"]["code"]) == (403, "forbidden_host")


def test_an_address_that_others_reach_needs_a_key(fault_of):
    for host in ("0.0.0.0", "::", "10.1.2.3", "gpu-box"):
        assert fault_of(require_key, host, None) == (
            f"error SG679: {host} is reached by other machines, and no key is set that they would have to know\n"
            "  hint: put one into the environment: export SPECGEN_API_KEY=…; or leave --host out"
        )
        require_key(host, KEY)
    for host in ("127.0.0.1", "localhost", "::1", "127.8.8.8"):
        require_key(host, None)
        assert is_loopback(host)


@pytest.mark.parametrize("key", ["a b", "schlüssel", "a\n"])
def test_a_key_that_no_client_can_send_is_refused(fault_of, key):
    assert fault_of(require_key, "127.0.0.1", key) == (
        "error SG684: SPECGEN_API_KEY holds white space or characters beside ASCII, which no client can send\n"
        "  hint: openssl rand -hex 24 makes one"
    )

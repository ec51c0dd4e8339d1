"""Secrets: found wherever they stand, and never printed."""

from __future__ import annotations

import pytest

from specgen.secrets import kind_of, masked

SECRETS = {
    "a Hugging Face token": "hf_" + "aB3" * 12,
    "an OpenAI or Anthropic key": "sk-proj-" + "Zz9" * 12,
    "a GitHub token": "ghp_" + "aB3" * 12,
    "a GitLab token": "glpat-" + "aB3" * 8,
    "an AWS key": "AKIA" + "ABCD1234" * 2,
    "a Google key": "AIza" + "aB3dE" * 7,
    "a Slack token": "xoxb-" + "1234567890-" * 2,
    "a private key": "-----BEGIN RSA PRIVATE KEY-----",
}


@pytest.mark.parametrize("kind", SECRETS)
def test_a_secret_is_told_by_its_kind_and_hidden(kind):
    text = f"before {SECRETS[kind]} after"
    assert kind_of(text) == kind
    assert masked(text).startswith("before ****")
    assert SECRETS[kind] not in masked(text)
    assert len(masked(text)) == len(text)


@pytest.mark.parametrize("text", ["hf:Qwen/Qwen3-8B", "hf_token", "sk-learn", "ask-me-anything-about-our-products", "a" * 64])
def test_ordinary_text_is_none(text):
    assert kind_of(text) is None
    assert masked(text) == text


PLACES = [
    "description: {}\n",
    "mdoel: {}\n",
    "train: {{epochs: {}}}\n",
    "{}: 1\n",
    "smoke: [{{user: Hi, expect: {{contains: [{}]}}}}]\n",
    "profiles: {{mine: {{description: {}}}}}\n",
    "x-token: {}\n",
]


@pytest.mark.parametrize("form", ["text", "json", "github", "sarif"])
@pytest.mark.parametrize("place", PLACES)
def test_no_form_of_a_fault_shows_it(cli, tmp_path, place, form):
    secret = SECRETS["a Hugging Face token"]
    spec = "specgen: 1\nname: s\nmodel: {base: models/none}\ndata: {sources: [{synthetic: {messages: [{user: Hi}, {assistant: Ho}]}}]}\n"
    (tmp_path / "spec.yaml").write_text(spec + place.format(secret))
    ran = cli("validate", "spec.yaml", "--format", form)
    assert ran.code == 2
    assert secret not in ran.out + ran.err


def test_a_secret_on_the_command_line_is_not_printed_either(cli, root):
    secret = SECRETS["a Hugging Face token"]
    ran = cli("validate", root / "specs/assistant.yaml", "--set", f"train.epochs={secret}")
    assert ran.code == 2
    assert "--set train.epochs=****" in ran.err
    assert secret not in ran.out + ran.err

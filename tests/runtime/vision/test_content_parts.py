"""The exported template takes a content in parts as rows are read: the same text for it as for the text itself."""

from __future__ import annotations

import pytest

from conversations.templates import library
from runtime.tokens.chat_render import ChatTemplate
from runtime.vision.content_parts import JOINED, joining

IMAGE, LINKED = {"type": "image"}, {"type": "image_url", "image_url": {"url": "x"}}
PARTS = {
    "an image and a text": ([IMAGE, {"type": "text", "text": "Which colour?"}], "<image>\nWhich colour?"),
    "a text and an image": (
        [{"type": "text", "text": "This one:"}, LINKED],
        "This one:\n<image>",
    ),
    "a line break that is there": ([IMAGE, {"type": "text", "text": "\nWhich?"}], "<image>\nWhich?"),
    "two images": ([IMAGE, IMAGE, {"type": "text", "text": "Which?"}], "<image><image>\nWhich?"),
    "two texts": ([{"type": "text", "text": "Wh"}, {"type": "text", "text": "ich?"}], "Which?"),
    "an image alone": ([IMAGE], "<image>"),
}


@pytest.mark.parametrize("name", ["chatml", "llama3", "internlm2_chat", "vicuna"])
@pytest.mark.parametrize(("parts", "text"), PARTS.values(), ids=PARTS)
def test_parts_are_the_text_that_they_make(name, parts, text):
    template = ChatTemplate({"default": joining(library()[name].jinja)}, {"bos_token": "<s>", "eos_token": "</s>"})
    plain = ChatTemplate({"default": library()[name].jinja}, {"bos_token": "<s>", "eos_token": "</s>"})
    answer = {"role": "assistant", "content": "Red."}
    assert template.render([{"role": "user", "content": parts}, answer]) == plain.render([{"role": "user", "content": text}, answer])
    assert template.render([{"role": "user", "content": text}, answer]) == plain.render([{"role": "user", "content": text}, answer])


def test_a_template_reads_parts_once():
    assert joining(joining("x")) == JOINED + "x"

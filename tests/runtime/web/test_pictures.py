"""runtime/web/pictures.py, and turns of a conversation that are about pictures."""

from __future__ import annotations

import base64
import io
import json

import pytest
from PIL import Image

from runtime.faults import RunFault
from runtime.vision.pictures import inline
from runtime.web.conversation import Conversation
from runtime.web.pictures import MOST_MB, SMALL, shown
from runtime.web.server import SETTINGS


def png(colour="red", size=(900, 600), mode="RGB"):
    stream = io.BytesIO()
    Image.new(mode, size, colour).save(stream, format="PNG")
    return stream.getvalue()


@pytest.fixture
def conversation():
    """A question about a picture, and its answer."""
    made = Conversation()
    turn = made.ask("Which colour?", images=(shown("red [1].png", png()),))
    turn.answer.text, turn.answer.ended = "Red.", "stop"
    return made


def test_the_model_sees_all_of_a_picture_and_people_a_small_one():
    whole = png(mode="RGBA", colour=(200, 30, 40, 128))
    picture = shown("a.png", whole)
    assert base64.b64decode(picture.url.partition(",")[2]) == whole
    small = Image.open(io.BytesIO(picture.small))
    assert (small.format, small.mode, small.size) == ("JPEG", "RGB", (SMALL, SMALL * 2 // 3))


@pytest.mark.parametrize(
    ("content", "why", "hint"),
    [
        (b"just words", "notes: an image is of no kind that Pillow knows", "save it as PNG or JPEG"),
        (b"", "notes: an image is of no kind that Pillow knows", "save it as PNG or JPEG"),
        (png()[:-200], "notes: an image cannot be opened: it ends too early", None),
        (png(size=(900, 2)), "notes: an image is more than 200 times as long as it is wide", "cut it"),
    ],
)
def test_what_is_no_picture_is_refused_by_its_name(content, why, hint):
    with pytest.raises(RunFault) as caught:
        shown("notes", content)
    assert (caught.value.message, caught.value.hint) == (why, hint)


def test_the_model_is_asked_with_the_pictures_of_all_turns(conversation):
    blue = shown("blue.png", png("blue"))
    turn = conversation.ask("As <image>?", images=(blue,))
    assert conversation.messages(turn) == [
        {"role": "user", "content": "<image>\nWhich colour?", "images": [inline(png())]},
        {"role": "assistant", "content": "Red."},
        {"role": "user", "content": "As <image>?", "images": [blue.url]},
    ]


def test_once_more_keeps_the_pictures(conversation):
    first = conversation.turns[0].images
    assert conversation.again().images == first


def test_a_question_that_says_the_mark_too_often_changes_nothing(conversation):
    before = list(conversation.turns)
    with pytest.raises(RunFault) as caught:
        conversation.ask("<image> or <image>?", at=0, images=before[0].images)
    assert caught.value.message == "the text says <image> 2 times, and there is 1 image"
    assert conversation.turns == before and not before[0].stop.is_set()


def test_a_picture_without_words_gives_the_conversation_its_name():
    conversation = Conversation()
    turn = conversation.ask("", images=(shown("red.png", png()),))
    assert conversation.name == "red.png"
    assert conversation.messages(turn)[0]["content"] == "<image>\n"


def test_files_have_the_pictures(conversation):
    asked, answer = json.loads(conversation.as_openai(None))["messages"]
    assert asked["content"] == [
        {"type": "image_url", "image_url": {"url": inline(png())}},
        {"type": "text", "text": "Which colour?"},
    ]
    assert answer == {"role": "assistant", "content": "Red."}
    text = conversation.as_markdown(None)
    small = inline(conversation.turns[0].images[0].small)
    assert f"**User**\n\n![red 1.png]({small})\n\nWhich colour?\n\n**Assistant**\n\nRed.\n" in text


def test_streamlit_takes_no_larger_files_than_the_page_says():
    assert SETTINGS["server.maxUploadSize"] == MOST_MB

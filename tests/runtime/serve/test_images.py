"""Images in requests: the openai client sends them whole, and what cannot be seen is refused with the part that holds it."""

from __future__ import annotations

import base64
import dataclasses
import io

import httpx2
import pytest
from openai import BadRequestError, OpenAI
from PIL import Image

from runtime.talking.talker import START, Loading, of_folder
from runtime.vision.form import asking
from runtime.vision.pictures import inline
from tests.runtime.seeing import IMAGE_TOKENS, seeing_folder
from tests.runtime.serve.conftest import served_by


def saved(image, form="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, format=form, **options)
    return stream.getvalue()


def as_url(content, kind="png"):
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


RED, BLUE = (as_url(saved(Image.new("RGB", (40, 40), colour))) for colour in ((220, 20, 30), (20, 40, 200)))


def seen(url, **more):
    return {"type": "image_url", "image_url": {"url": url, **more}}


def said(text):
    return {"type": "text", "text": text}


@pytest.fixture(scope="module")
def seeing(tmp_path_factory):
    """The tiny random model that sees, which answers 8 tokens."""
    talker = of_folder(seeing_folder(tmp_path_factory.mktemp("seeing")), Loading(device="cpu"))
    return dataclasses.replace(talker, name="seeing", chat=dataclasses.replace(START, max_new_tokens=8))


@pytest.fixture(scope="module")
def served(seeing):
    with served_by(seeing) as server:
        yield server


@pytest.fixture(scope="module")
def ask(served):
    """Asks with a user's parts."""
    client = OpenAI(base_url=served.url, api_key="none", max_retries=0, timeout=60)
    return lambda *parts, **more: client.chat.completions.create(
        model="seeing", messages=[{"role": "user", "content": list(parts)}], **more
    )


def test_an_image_is_seen_as_in_the_terminal(ask, seeing):
    told = {url: ask(said("Which colour?"), seen(url, detail="low")) for url in (RED, BLUE)}
    alone = seeing.answer([{"role": "user", "content": "Which colour?\n<image>", "images": [RED]}])
    assert told[RED].choices[0].message.content == alone.text != told[BLUE].choices[0].message.content
    assert told[RED].usage.prompt_tokens == alone.prompt_tokens
    words = ask(said("Which colour?\n")).usage.prompt_tokens
    assert alone.prompt_tokens == words + IMAGE_TOKENS


def test_a_stream_is_the_same_answer_in_pieces(ask):
    whole = ask(seen(RED), said("Which colour?")).choices[0].message.content
    chunks = ask(seen(RED), said("Which colour?"), stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole


def test_images_stand_where_the_parts_do_in_every_turn(served, seeing):
    client = OpenAI(base_url=served.url, api_key="none", max_retries=0, timeout=60)
    parts = [seen(RED), seen(BLUE), said("Alike?")]
    turns = [{"role": "user", "content": parts}, {"role": "assistant", "content": "No."}, {"role": "user", "content": [seen(BLUE)]}]
    first = {"role": "user", "content": "<image><image>\nAlike?", "images": [RED, BLUE]}
    alone = seeing.answer([first, turns[1], {"role": "user", "content": "<image>", "images": [BLUE]}])
    done = client.chat.completions.create(model="seeing", messages=turns)
    assert (done.choices[0].message.content, done.usage.prompt_tokens) == (alone.text, alone.prompt_tokens)


def test_a_jpeg_that_says_to_be_a_png_is_seen_all_the_same(ask):
    jpeg = saved(Image.new("CMYK", (64, 40), (0, 200, 200, 0)), "JPEG")
    told = {kind: ask(seen(as_url(jpeg, kind))).choices[0].message.content for kind in ("png", "jpeg")}
    assert told["png"] == told["jpeg"]


def test_the_mark_of_an_image_is_text_where_none_is(ask, seeing):
    told = ask(said("What does <image> mean?"), said("?"))
    assert told.choices[0].message.content == seeing.answer([asking("What does <image> mean??")]).text


ROUND = saved(Image.effect_noise((64, 64), 80))
FRAMES = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
OTHER_KIND = "a data: URL of another kind than data:image/…;base64,…"
URL = "messages[0].content[1].image_url.url"
FETCHED = f"{URL}: nothing is fetched here, from an address or a file: send the image itself, as data:image/png;base64,…"
REFUSED = {
    "an address": (seen("http://127.0.0.1:1/a.png"), URL, "unsupported_value", FETCHED),
    "a safe address": (seen("https://example.com/a.png"), URL, "unsupported_value", FETCHED),
    "a file": (seen("file:///etc/passwd"), URL, "unsupported_value", FETCHED),
    "a path": (seen("/etc/passwd"), URL, "unsupported_value", FETCHED),
    "nothing": (seen(""), URL, "unsupported_value", FETCHED),
    "no image": (seen("data:text/plain;base64,QUJD"), URL, "invalid_value", f"{URL}: {OTHER_KIND}"),
    "no base64": (seen("data:image/png,abc"), URL, "invalid_value", f"{URL}: {OTHER_KIND}"),
    "half of base64": (
        seen("data:image/png;base64,abc"), URL, "invalid_value",
        f"{URL}: an image's data: URL holds no base64 (write data:image/png;base64,…)",
    ),
    "words": (
        seen(as_url(b"no picture")), URL, "invalid_value", f"{URL}: an image is of no kind that Pillow knows (save it as PNG or JPEG)",
    ),
    "a half": (seen(as_url(ROUND[: len(ROUND) // 2])), URL, "invalid_value", f"{URL}: an image cannot be opened: it ends too early"),
    "a film": (
        seen(as_url(saved(FRAMES[0], "GIF", save_all=True, append_images=FRAMES[1:]))), URL, "invalid_value",
        f"{URL}: an image has several frames, and the model sees one (save the one that is meant)",
    ),
    "no url": (
        {"type": "image_url", "image_url": {}}, URL, "missing_required_parameter", f"{URL} is missing",
    ),
    "no image_url": (
        {"type": "image_url"}, "messages[0].content[1].image_url", "missing_required_parameter",
        "messages[0].content[1].image_url is missing",
    ),
    "a url in words": (
        {"type": "image_url", "image_url": RED}, "messages[0].content[1].image_url", "invalid_value",
        "messages[0].content[1].image_url has to be an object",
    ),
    "a url of numbers": (seen(5), URL, "invalid_value", f"{URL} has to be a text"),
    "an unknown key": (
        {**seen(RED), "size": 5}, "messages[0].content[1].size", "unknown_parameter",
        "messages[0].content[1].size is not known here, and would have no effect",
    ),
    "a sound": (
        {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}, "messages[0].content", "invalid_value",
        "messages[0].content: this model reads text and sees images: parts of the type 'text' can be in content, and 'image_url' in "
        "that of a user",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_seen_is_refused_with_its_part_and_the_reason(ask, what):
    part, param, code, message = REFUSED[what]
    for stream in (False, True):
        with pytest.raises(BadRequestError) as caught:
            ask(said("Which?"), part, stream=stream)
        assert caught.value.body["message"] == message
        assert (caught.value.param, caught.value.code, caught.value.type) == (param, code, "invalid_request_error")


def test_images_are_the_users(served):
    client = OpenAI(base_url=served.url, api_key="none", max_retries=0, timeout=60)
    for role in ("system", "assistant"):
        with pytest.raises(BadRequestError) as caught:
            client.chat.completions.create(model="seeing", messages=[{"role": role, "content": [seen(RED)]}])
        assert caught.value.body["message"].startswith("messages[0].content: this model reads text and sees images: ")


def test_a_text_that_says_the_mark_beside_an_image_is_refused(ask):
    with pytest.raises(BadRequestError) as caught:
        ask(seen(RED), said("What does <image> mean?"))
    message = "messages[0].content: its text says <image>, which stands for an image where images are: write another word"
    assert (caught.value.body["message"], caught.value.param) == (message, "messages[0].content")


def test_images_count_in_the_context(ask):
    with pytest.raises(BadRequestError) as caught:
        ask(*[seen(RED)] * 40)
    assert caught.value.code == "context_length_exceeded"
    assert caught.value.body["message"].startswith("this model's context holds 512 tokens; the messages have 6")


def test_an_image_beyond_the_limit_of_a_request_is_refused_unread(served):
    url = inline(b"\0" * (13 * 2**20))
    told = httpx2.post(f"{served.url}/chat/completions", json={"model": "seeing", "messages": [{"role": "user", "content": [seen(url)]}]})
    assert (told.status_code, told.json()["error"]["message"]) == (413, "a request may have 16,777,216 bytes")


@pytest.mark.parametrize("stream", [False, True])
def test_a_model_that_sees_none_says_so(client, stream):
    with pytest.raises(BadRequestError) as caught:
        client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": [said("Which?"), seen(RED)]}], stream=stream)
    message = "messages[0].content: this model reads text: only parts of the type 'text' can be in content"
    assert (caught.value.body["message"], caught.value.param, caught.value.code) == (message, "messages[0].content", "invalid_value")

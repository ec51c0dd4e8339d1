"""conversations/images.py: rows with images, in every form they come in, and what is wrong with those that are none."""

from __future__ import annotations

import base64
import json

import pytest

from conversations.formats import Shape, read, shape_of
from conversations.images import ON_HUB, joined
from conversations.row import IMAGE, canonical, conversation_of
from conversations.rows import fitting_format, rows_of

DATA = "data:image/png;base64," + base64.b64encode(b"\x89PNG").decode()
ANSWER = {"role": "assistant", "content": "Red."}
LLAVA = {
    "id": "1",
    "image": "coco/1.jpg",
    "conversations": [{"from": "human", "value": "<image>\nWhich colour?"}, {"from": "gpt", "value": "Red."}],
}


def seen(columns, form="openai", images="data", **shape):
    """The conversation of a row without faults, where the model sees."""
    conversation, problems = read(columns, shape_of(form, shape.get("fields", {}), shape.get("row"), images=images))
    assert not problems, problems
    return conversation


def faults(columns, form="openai", images="data", **shape):
    _, problems = read(columns, shape_of(form, shape.get("fields", {}), shape.get("row"), images=images))
    return [problem.text for problem in problems]


def asked(*parts, **more):
    return {"messages": [{"role": "user", "content": list(parts)}, ANSWER], **more}


def said(*texts):
    return {"messages": [{"role": "user", "content": texts[0]}, ANSWER]}


def text(words):
    return {"type": "text", "text": words}


def url(address):
    return {"type": "image_url", "image_url": {"url": address}}


def test_a_row_of_llava():
    assert seen(LLAVA, "sharegpt") == {
        "messages": [{"role": "user", "content": "<image>\nWhich colour?"}, ANSWER],
        "images": ["data/coco/1.jpg"],
    }


@pytest.mark.parametrize("image", [["a.png", "b.png"], '["a.png", "b.png"]'])
@pytest.mark.parametrize("column", ["image", "images"])
def test_several_images_are_a_list_in_either_column(column, image):
    row = {column: image, "conversations": [{"from": "human", "value": "<image><image> Same?"}, {"from": "gpt", "value": "No."}]}
    assert seen(row, "sharegpt")["images"] == ["data/a.png", "data/b.png"]


@pytest.mark.parametrize("image", [None, "", []])
def test_rows_without_images_mix_in(image):
    row = {**said("Hi"), "image": image}
    assert seen(row) == said("Hi")
    assert seen(said("Hi")) == said("Hi")
    assert read(row, Shape("openai")) == (said("Hi"), [])


@pytest.mark.parametrize(
    "part",
    [
        url("1.png"),
        {"type": "image_url", "image_url": "1.png"},
        {"type": "image_url", "image_url": {"url": "1.png", "detail": "high"}},
        {"type": "image", "image": "1.png"},
        {"type": "image", "path": "1.png"},
        {"type": "image", "url": "1.png"},
        {"type": "image", "image": {"path": "1.png", "bytes": None}, "text": None},
    ],
)
def test_a_part_that_is_an_image_is_a_mark_in_the_text(part):
    found = seen(asked(part, text("Which colour?")))
    assert found["messages"][0]["content"] == "<image>\nWhich colour?"
    assert found["images"] == ["data/1.png"]


@pytest.mark.parametrize(
    ("parts", "content"),
    [
        ([text("Look: "), url("1.png")], "Look: \n<image>"),
        ([text("Look:\n"), url("1.png")], "Look:\n<image>"),
        ([url("1.png"), text("\nWhat?")], "<image>\nWhat?"),
        ([url("1.png"), url("2.png"), text("Same?")], "<image><image>\nSame?"),
        ([text("One "), text("text. "), url("1.png"), text("More"), text(" of it.")], "One text. \n<image>\nMore of it."),
        ([url("1.png")], "<image>"),
    ],
)
def test_between_an_image_and_a_text_is_a_line_break(parts, content):
    assert seen(asked(*parts))["messages"][0]["content"] == content


def test_parts_that_name_no_image_take_those_of_the_column():
    row = asked({"type": "image"}, text("or"), {"type": "image"}, images=["1.png", "2.png"])
    assert seen(row)["messages"][0]["content"] == "<image>\nor\n<image>"
    assert seen(row)["images"] == ["data/1.png", "data/2.png"]


def test_an_answer_may_hold_an_image_too():
    row = {"messages": [{"role": "user", "content": "Show red."}, {"role": "assistant", "content": [url("1.png"), text("Here.")]}]}
    assert seen(row)["messages"][1]["content"] == "<image>\nHere."


@pytest.mark.parametrize(
    ("columns", "form", "content"),
    [
        ({"instruction": "What is <image>?", "output": "Red.", "images": ["1.png"]}, "alpaca", "What is <image>?"),
        ({"prompt": "<image>\nWhat?", "completion": "Red.", "image": "1.png"}, "completion", "<image>\nWhat?"),
        ({"file_name": "1.png", "text": "Red."}, "imagefolder", "<image>"),
    ],
)
def test_other_formats(columns, form, content):
    found = seen(columns, form)
    assert found == {"messages": [{"role": "user", "content": content}, ANSWER], "images": ["data/1.png"]}


def test_columns_may_have_other_names():
    assert seen({**said("<image>"), "pictures": ["1.png"]}, fields={"images": "pictures"})["images"] == ["data/1.png"]
    assert seen({"file": "1.png", "text": "Red."}, "imagefolder", fields={"file_name": "file"})["images"] == ["data/1.png"]


def test_a_row_template_says_where_the_image_stands():
    row = [{"user": "<image>\n{{ question }}"}, {"assistant": "{{ answer }}"}]
    found = seen({"question": "What?", "answer": "Red.", "image": "1.png"}, row=row)
    assert found == {"messages": [{"role": "user", "content": "<image>\nWhat?"}, ANSWER], "images": ["data/1.png"]}
    whole = (
        '{"messages": [{"role": "user", "content": "<image>"}, {"role": "assistant", "content": "Red."}], "images": [{{ file | tojson }}]}'
    )
    assert seen({"file": "1.png"}, row=whole)["images"] == ["data/1.png"]
    assert faults({"question": "What?", "answer": "Red."}, row=row) == ["message 1 says <image>, and the row has no image"]


@pytest.mark.parametrize(
    ("folder", "path", "whole"),
    [
        ("data", "a/1.png", "data/a/1.png"),
        ("data/", "./1.png", "data/1.png"),
        ("data", "/pictures/1.png", "/pictures/1.png"),
        ("data", "../1.png", "data/../1.png"),
        (".", "1.png", "1.png"),
        ("/data", "1.png", "/data/1.png"),
        ("/", "1.png", "/1.png"),
    ],
)
def test_relative_paths_start_at_the_folder(folder, path, whole):
    assert joined(folder, path) == whole


def test_a_data_url_stays_as_it_is():
    assert seen(asked(url(DATA), text("What?")))["images"] == [DATA]


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({**said("<image> What?")}, "message 1 says <image>, and the row has no image"),
        ({**said("What?"), "image": "1.png"}, "the row has 1 image, and its texts say <image> nowhere"),
        ({**said("<image>"), "images": ["1.png", "2.png"]}, "the row has 2 images, and its texts say <image> once"),
        ({**said("<image><image>"), "image": "1.png"}, "the row has 1 image, and its texts say <image> 2 times"),
        (asked(text("<image>"), url("1.png")), "the row has 1 image, and its texts say <image> 2 times"),
        (asked({"type": "image"}), "message 1 says <image>, and the row has no image"),
        (
            asked(url("https://a.org/1.png")),
            "messages[0].content[0].image_url.url is an address, https://a.org/1.png: download the image, and give the path of its file",
        ),
        (
            {**said("<image>"), "image": "s3://a/1.png"},
            "image is an address, s3://a/1.png: download the image, and give the path of its file",
        ),
        (asked({"type": "image", "image": 3}), "messages[0].content[0].image is 3; it has to be the path of an image, or a data: URL"),
        ({**said("<image>"), "images": [None]}, "images[0] is null; it has to be the path of an image, or a data: URL"),
        (
            {**said("<image>"), "image": {"path": "1.png", "bytes": b"\x89PNG"}},
            "image is an object; it has to be the path of an image, or a data: URL",
        ),
        ({**said("<image>"), "image": " "}, "image is no path"),
        ({**said("<image>"), "image": "a\0b"}, "image is no path"),
        ({**said("<image>"), "image": "data:text/plain,a"}, "image is a data: URL of another kind than data:image/…;base64,…"),
        (
            asked({"type": "image_url"}, image="1.png") | {"images": ["1.png"]},
            "the row has images in images and image: one of them holds them all",
        ),
        (asked(url("1.png"), images=["1.png"]), "the row has images in images and in parts of its messages: one of them holds them all"),
        (asked({"type": "image", "path": "1.png", "url": "1.png"}), "messages[0].content[0] has path and url: an image is named once"),
        (asked({"type": "image", "path": "1.png", "width": 3}), "messages[0].content[0].width is not understood, and would be lost"),
        (
            {"messages": [{"role": "user", "content": "Hi"}, {**ANSWER, "reasoning_content": "<image>?"}]},
            "<image> stands in the row outside of a message's content, where no image can be",
        ),
    ],
)
def test_what_is_wrong_with_a_row(columns, told):
    assert faults(columns) == [told]


def test_a_text_has_no_image():
    assert faults({"text": "a <image> b"}, "text") == ["the text says <image>; only conversations have images"]
    assert faults({"file_name": None, "text": "Red."}, "imagefolder") == ["the row has no file_name"]


def test_a_model_that_sees_nothing_takes_no_image_and_the_mark_as_text():
    blind = "names an image, and model.vision is null, so that the model sees none"
    assert faults(LLAVA, "sharegpt", images=None) == [f"image {blind}"]
    assert faults(asked(url("1.png")), images=None) == [f"messages[0].content[0] {blind}"]
    assert faults({"file_name": "1.png", "text": "Red."}, "imagefolder", images=None) == [f"file_name {blind}"]
    assert seen(said("The tag <image> is none of HTML's."), images=None) == said("The tag <image> is none of HTML's.")


def test_images_on_the_hub_are_not_read():
    _, (problem,) = read(LLAVA, shape_of("sharegpt", {}, None, no_images=ON_HUB))
    assert problem.text == (
        "image names an image, and those of a data set on the hub are not read: save them as files, and name them in a source of files, "
        "with model.vision"
    )


def test_a_canonical_row_has_its_images_last():
    row = {**said(IMAGE), "tools": [{"type": "function", "function": {"name": "f"}}], "image": "1.png"}
    found = canonical(seen(row))
    assert found.endswith(',"images":["data/1.png"]}')
    assert list(conversation_of(found)) == ["messages", "tools", "images"]
    assert canonical(said("Hi")) == canonical({**said("Hi"), "images": []})


def test_a_file_of_them(tmp_path):
    file = tmp_path / "llava.json"
    file.write_text(json.dumps([LLAVA, {**LLAVA, "image": "2.png"}]))
    assert [row["images"] for _, row in rows_of(str(file), Shape("sharegpt", images="pictures"))] == [
        ["pictures/coco/1.jpg"],
        ["pictures/2.png"],
    ]
    assert fitting_format([LLAVA], "openai", "pictures") == "sharegpt"
    assert fitting_format([{"file_name": "1.png", "text": "Red."}], "openai", "pictures") == "imagefolder"

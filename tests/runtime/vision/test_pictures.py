"""runtime/vision/pictures.py: every kind of picture is right, or told."""

from __future__ import annotations

import base64
import hashlib
import io

import pytest
from PIL import Image, ImageOps
from transformers.image_utils import load_image

from runtime.vision.pictures import BadPicture, Picture, checked, inline, opened, read, unchanged

RED = (220, 20, 30)
TURNED = 6  # EXIF's number for a picture that lies on its side


def saved(image, form, **options):
    stream = io.BytesIO()
    image.save(stream, format=form, **options)
    return stream.getvalue()


def striped(size=(24, 16)):
    image = Image.new("RGB", size, RED)
    image.paste(Image.new("RGB", (size[0], size[1] // 2), (0, 0, 250)))
    return image


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"])
def test_pictures_of_every_mode_are_rgb_as_transformers_has_them(tmp_path, mode):
    form = {"CMYK": "TIFF", "YCbCr": "JPEG", "PA": "TIFF"}.get(mode, "PNG")
    image = striped().convert("P" if mode == "PA" else mode)
    content = saved(image.convert(mode), form)
    (tmp_path / "picture").write_bytes(content)
    found = opened(content, "picture")
    assert found.mode == "RGB"
    assert found.tobytes() == load_image(str(tmp_path / "picture")).tobytes()


def test_a_photo_that_lies_on_its_side_is_turned():
    image = striped()
    exif = Image.Exif()
    exif[0x0112] = TURNED
    found = opened(saved(image, "JPEG", exif=exif, quality=100), "photo")
    assert found.size == (16, 24)
    assert found.size == ImageOps.exif_transpose(Image.open(io.BytesIO(saved(image, "JPEG", exif=exif)))).size


def test_sixteen_bits_of_grey_keep_their_greys():
    image = Image.new("I;16", (8, 8), 128 * 256)
    found = opened(saved(image, "PNG"), "grey")
    assert found.getpixel((4, 4)) == (128, 128, 128)


def test_a_palette_with_see_through_places_is_opened():
    image = striped().convert("P")
    image.info["transparency"] = 0
    assert opened(saved(image, "PNG", transparency=0), "icon").mode == "RGB"


def faults():
    whole = saved(striped((64, 64)), "PNG")
    frames = [Image.new("RGB", (8, 8), (value, 0, 0)) for value in (0, 120, 250)]
    jpeg = saved(striped((64, 64)), "JPEG")
    return {
        "no picture": (b"<svg></svg>", "an image is of no kind that Pillow knows"),
        "nothing": (b"", "an image is of no kind that Pillow knows"),
        "half a PNG": (whole[: len(whole) // 2], "an image cannot be opened: "),
        "half a JPEG": (jpeg[: len(jpeg) // 2], "an image cannot be opened: it ends too early"),
        "damaged": (whole[:60] + b"\0" * 40 + whole[100:], "an image cannot be opened: "),
        "moves": (saved(frames[0], "GIF", save_all=True, append_images=frames[1:]), "an image has several frames, and the model sees one"),
        "moves, WebP": (saved(frames[0], "WEBP", save_all=True, append_images=frames[1:]), "an image has several frames"),
        "a line": (saved(Image.new("RGB", (4000, 2)), "PNG"), "an image is more than 200 times as long as it is wide"),
    }


@pytest.mark.parametrize("kind", list(faults()))
def test_what_cannot_be_right_is_told(kind):
    content, message = faults()[kind]
    with pytest.raises(BadPicture) as caught:
        opened(content, "data/x.png")
    assert caught.value.message.startswith(message)
    assert (caught.value.code, caught.value.name) == ("SG429", "data/x.png")


@pytest.mark.parametrize("most", [100, 300])
def test_bombs_are_told_before_they_are_opened(monkeypatch, most):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", most)
    with pytest.raises(BadPicture, match="pixels"):
        opened(saved(striped((24, 16)), "PNG"), "bomb")


def test_a_picture_that_stands_still_in_a_gif_is_right():
    assert opened(saved(striped(), "GIF"), "still").size == (24, 16)


def test_what_is_not_there_is_told_with_where_was_looked(tmp_path, monkeypatch, fault_of):
    monkeypatch.chdir(tmp_path)
    assert fault_of(checked, "cats/1.png") == (f"error SG429: an image is not there\n  hint: paths start at the working folder, {tmp_path}")
    (tmp_path / "folder").mkdir()
    assert "an image cannot be read: Is a directory" in fault_of(checked, "folder")


def test_a_data_url_is_a_picture_too(fault_of):
    content = saved(striped(), "PNG")
    url = f"data:image/png;base64,{base64.b64encode(content).decode()}"
    assert checked(url) == Picture("", hashlib.sha256(content).hexdigest(), content)
    assert read(inline(content)) == content
    assert "data: URL holds no base64" in fault_of(checked, "data:image/png,abc")
    assert "data: URL holds no base64" in fault_of(checked, "data:image/png;base64,###")


def test_a_picture_that_was_changed_since_is_refused(tmp_path, fault_of):
    file = tmp_path / "a.png"
    file.write_bytes(saved(striped(), "PNG"))
    picture = checked(str(file))
    assert unchanged(picture).size == (24, 16)
    file.write_bytes(saved(striped((20, 20)), "PNG"))
    assert fault_of(unchanged, picture).startswith(f"error SG430: {file} is another image than when the data was made")

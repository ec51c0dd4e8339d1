"""Images in a request: parts of what a user says, each sent whole. Nothing is ever fetched, from an address or from a file."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock

from conversations.images import DATA, with_break
from conversations.row import IMAGE
from runtime.serve.asked import ImagePart, TextPart
from runtime.serve.faults import ApiError
from runtime.vision.pictures import BadPicture, checked

ONE_AT_A_TIME = Lock()  # a picture of few bytes may be large once it is open


def text_and_images(parts: Sequence[TextPart | ImagePart], path: str) -> tuple[str, list[str]]:
    """The text of parts, with <image> where an image stands, on lines of its own as in training; and the images. Raises ApiError."""
    if not any(isinstance(part, ImagePart) for part in parts):
        return "".join(part.text for part in parts if isinstance(part, TextPart)), []
    text, images = "", []
    for index, part in enumerate(parts):
        if isinstance(part, ImagePart):
            images.append(_image(part.image_url.url, f"{path}[{index}].image_url.url"))
        text = with_break(text, IMAGE, image=True) if isinstance(part, ImagePart) else with_break(text, part.text, image=False)
    if text.count(IMAGE) != len(images):
        message = f"{path}: its text says {IMAGE}, which stands for an image where images are: write another word"
        raise ApiError(400, message, code="invalid_value", param=path)
    return text, images


def _image(url: str, path: str) -> str:
    if not url.startswith("data:"):
        message = f"{path}: nothing is fetched here, from an address or a file: send the image itself, as data:image/png;base64,…"
        raise ApiError(400, message, code="unsupported_value", param=path)
    if not DATA.match(url):
        message = f"{path}: a data: URL of another kind than data:image/…;base64,…"
        raise ApiError(400, message, code="invalid_value", param=path)
    try:
        with ONE_AT_A_TIME:
            checked(url)
    except BadPicture as fault:
        hint = f" ({fault.hint})" if fault.hint else ""
        raise ApiError(400, f"{path}: {fault.message}{hint}", code="invalid_value", param=path) from None
    return url

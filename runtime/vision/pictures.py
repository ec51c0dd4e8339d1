"""Pictures as files and data: URLs: read, opened whole, and made what the model's processor takes, upright and in RGB.

What cannot be right is a fault: a picture that is not there, is no picture, ends too early, moves, or is too large.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from runtime.faults import WRONG, RunFault

if TYPE_CHECKING:
    from PIL.Image import Image

INLINE = "data:"
LONGEST = 200  # times as long as it is wide, or the other way round: padded to a square, nothing would be left of it
MOVING_ONE = ("MPO",)  # a camera's photo with a second one for its screen: the first is the picture
SIXTEEN = "I;16"


class Picture(NamedTuple):
    """A picture that was checked: its path, or what a data: URL holds, and the SHA-256 of its bytes in hex."""

    path: str
    sha256: str
    content: bytes | None = None


class BadPicture(RunFault):
    """A picture that cannot be used; `name` is its path, or how its data: URL begins."""

    def __init__(self, what: str, name: str, hint: str | None = None) -> None:
        super().__init__("SG429", what, hint, exit_code=WRONG)
        self.name = name

    @property
    def named(self) -> RunFault:
        """The same for who sees no row beside it: the picture is named in the message."""
        return RunFault(self.code, f"{self.name}: {self.message}", self.hint, exit_code=self.exit_code)


def checked(reference: str) -> Picture:
    """Opens a picture whole. Raises BadPicture."""
    content = read(reference)
    opened(content, called(reference))
    inline = reference.startswith(INLINE)
    return Picture("" if inline else reference, hashlib.sha256(content).hexdigest(), content if inline else None)


def inline(content: bytes) -> str:
    """Bytes of a picture as a data: URL; of whichever kind they are, the bytes tell."""
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def called(reference: str) -> str:
    """What messages call a picture."""
    return reference[:40] + "…" if reference.startswith(INLINE) else reference


def read(reference: str) -> bytes:
    """The bytes of a picture. Raises BadPicture."""
    if reference.startswith(INLINE):
        head, comma, text = reference.partition(",")
        try:
            if not comma or not head.endswith(";base64"):
                raise ValueError
            return base64.b64decode(text, validate=True)
        except (ValueError, binascii.Error):
            raise BadPicture("an image's data: URL holds no base64", called(reference), "write data:image/png;base64,…") from None
    try:
        return Path(reference).read_bytes()
    except FileNotFoundError:
        raise BadPicture("an image is not there", reference, f"paths start at the working folder, {Path.cwd()}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise BadPicture(f"an image cannot be read: {reason}", reference) from None


def opened(content: bytes, name: str) -> Image:
    """A picture upright and in RGB, as transformers' load_image has it; 16 bits of grey become 8. Raises BadPicture."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # a fault here
            image = Image.open(io.BytesIO(content))
        most = Image.MAX_IMAGE_PIXELS or 0
        if most and image.width * image.height > most:
            raise BadPicture(f"an image has more than {most:,} pixels", name, "make it smaller: the model sees a few hundred in a row")
        if max(image.size) > LONGEST * min(image.size):
            raise BadPicture(f"an image is more than {LONGEST} times as long as it is wide", name, "cut it")
        if getattr(image, "n_frames", 1) > 1 and image.format not in MOVING_ONE:
            raise BadPicture("an image has several frames, and the model sees one", name, "save the one that is meant")
        image.load()
        upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith(SIXTEEN):
            upright = upright.point(lambda value: value / 256).convert("L")
        return upright.convert("RGB")
    except UnidentifiedImageError:
        raise BadPicture("an image is of no kind that Pillow knows", name, "save it as PNG or JPEG") from None
    except Image.DecompressionBombError:
        raise BadPicture("an image has more pixels than Pillow opens", name, "make it smaller") from None
    except (OSError, ValueError, SyntaxError, EOFError, TypeError, IndexError, KeyError, ZeroDivisionError) as error:
        reason = "it ends too early" if "truncated" in str(error).lower() else "its content is damaged"
        raise BadPicture(f"an image cannot be opened: {reason}", name) from None


def unchanged(picture: Picture) -> Image:
    """A picture that was checked before, opened anew. Raises RunFault where it is another since."""
    content = picture.content if picture.content is not None else read(picture.path)
    if hashlib.sha256(content).hexdigest() != picture.sha256:
        message = f"{picture.path} is another image than when the data was made"
        raise RunFault("SG430", message, "run the stage data again: specgen run SPEC", exit_code=WRONG)
    return opened(content, picture.path)

"""Pictures that a user of the terminal names: looked for, and opened, before anything is asked about them."""

from __future__ import annotations

import shlex
from pathlib import Path

from conversations.images import ADDRESS
from runtime.vision.pictures import BadPicture, checked


def found(text: str) -> str:
    """The whole path of a picture, of its name as it was typed: in quotes or not, with blanks, with ~. Raises RunFault where no model
    could see it."""
    try:
        if ADDRESS.match(text):
            raise BadPicture("an image at an address is not fetched", text, "download it, and give the path of its file")
        place = _meant(text)
        if place.exists() and not (place.is_file() or place.is_dir()):
            raise BadPicture("an image is no file", str(place))  # a device has no end
        checked(str(place))
        return str(place)
    except BadPicture as fault:
        raise fault.named from None
    except (OSError, ValueError, RuntimeError) as error:  # ~somebody, a folder that may not be looked into
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error).rstrip(".")
        raise BadPicture(f"an image cannot be read: {reason}", text).named from None


def _meant(text: str) -> Path:
    """The file of that very name; where there is none, that of the name as a shell would read it: terminals paste paths so."""
    place = Path(text).expanduser().absolute()
    if place.exists():
        return place
    try:
        words = shlex.split(text)
    except ValueError:  # a quote without its other one
        return place
    return Path(words[0]).expanduser().absolute() if len(words) == 1 else place

"""Pictures beside a question: opened whole before it is asked, and kept in memory like the conversation that they are part of."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass

from runtime.vision.pictures import BadPicture, inline, opened

MOST_MB = 20  # of a picture; Streamlit refuses larger ones before they are sent
SMALL = 480  # longest side of what the page shows


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A picture by its file's name: all of it as a data: URL, which the model sees, and a small JPEG, which people do."""

    name: str
    url: str
    small: bytes

    @property
    def as_markdown(self) -> str:
        """The small one in a text."""
        name = re.sub(r"[^\w .-]", "", self.name)
        return f"![{name}]({inline(self.small)})"


def shown(name: str, content: bytes) -> Shown:
    """The picture of a file that was sent. Raises RunFault, which names it, where no model could see it."""
    try:
        picture = opened(content, name)
    except BadPicture as fault:
        raise fault.named from None
    picture.thumbnail((SMALL, SMALL))
    stream = io.BytesIO()
    picture.save(stream, format="JPEG")
    return Shown(name=name, url=inline(content), small=stream.getvalue())

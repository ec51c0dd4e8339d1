"""Pictures of a data set → pixel values, by the very processor that is exported with the model."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.vision.pictures import BadPicture, Picture, called, inline, opened, read, unchanged
from runtime.vision.processor import image_processor

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from runtime.config import Config

# I images, H height, W width


def chequered(side: int) -> str:
    """A picture of four fields in four colours, as a data: URL: something to look at where nobody gave a picture."""
    from PIL import Image

    image = Image.new("RGB", (side, side), (250, 240, 220))
    for place, colour in (((0, 0), (200, 30, 40)), ((side // 2, 0), (20, 120, 60)), ((0, side // 2), (30, 60, 180))):
        image.paste(Image.new("RGB", (side // 2, side // 2), colour), place)
    stream = io.BytesIO()
    image.save(stream, format="PNG")
    return inline(stream.getvalue())


def eyes_of(config: Config) -> Eyes | None:
    """What looks at the images of a config's model; None where it sees nothing."""
    from runtime.models.model import folder_of_model

    vision = config.model.vision
    return None if vision is None else Eyes(folder_of_model(config.model), vision.pad_to_square)


class Eyes:
    """The image processor of a LLaVA folder, padding as the folder says or as asked: a second stage may pad where the first did not. It is
    sent to other processes as the folder's name."""

    def __init__(self, folder: Path, pad_to_square: bool | None = None) -> None:
        self.folder, self.pad_to_square, self._processor = folder, pad_to_square, None

    def __reduce__(self) -> tuple[type[Eyes], tuple[Path, bool | None]]:
        return Eyes, (self.folder, self.pad_to_square)

    @property
    def processor(self) -> Any:
        """transformers' image processor of the folder, loaded when it is first asked for."""
        if self._processor is None:
            self._processor = image_processor(self.folder, pad_to_square=self.pad_to_square)
        return self._processor

    def __call__(self, pictures: Sequence[Picture]) -> torch.Tensor:
        """Pixel values, float32 [I, 3, H, W]. Raises RunFault where a picture is another than when it was checked."""
        return self._values([unchanged(picture) for picture in pictures])

    def at(self, references: Sequence[str]) -> torch.Tensor:
        """The same of paths and data: URLs that nobody has checked. One is in memory at a time: people send large ones.

        Raises RunFault, which names the picture, where one cannot be used.
        """
        import torch

        try:
            return torch.cat([self._values([opened(read(reference), called(reference))]) for reference in references])
        except BadPicture as fault:
            raise fault.named from None

    def _values(self, images: list[Image]) -> torch.Tensor:
        values: torch.Tensor = self.processor(images=images, return_tensors="pt")["pixel_values"]
        return values

"""Pictures of shapes, what is said of them in LLaVA's form, and a small tower with random weights that looks at them."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from transformers import CLIPVisionConfig, CLIPVisionModel

COLOURS = {
    "red": (220, 30, 30), "green": (30, 160, 40), "blue": (30, 60, 220), "yellow": (240, 220, 40), "white": (250, 250, 250),
    "black": (10, 10, 10),
}  # fmt: skip
SHAPES = ("circle", "square", "triangle")
QUESTIONS = {"colour": "Which colour?", "shape": "Which shape?"}
SIZE = 64  # pixels


@dataclass(frozen=True)
class Picture:
    """A picture of one shape on grey; `file` is its name in its folder."""

    file: str
    colour: str
    shape: str


def draw(folder: Path, number: int, *, seed: int) -> list[Picture]:
    """Writes pictures into a folder: shapes of any size and place on any grey."""
    folder.mkdir()
    chance = random.Random(seed)
    return [_drawn(folder, f"{index:05}.png", chance) for index in range(number)]


def _drawn(folder: Path, file: str, chance: random.Random) -> Picture:
    picture = Picture(file, chance.choice(list(COLOURS)), chance.choice(SHAPES))
    image = Image.new("RGB", (SIZE, SIZE), (chance.randint(80, 180),) * 3)
    radius = chance.uniform(0.28, 0.42) * SIZE
    x, y = (SIZE / 2 + chance.uniform(-0.08, 0.08) * SIZE for _ in "xy")
    pen, colour = ImageDraw.Draw(image), COLOURS[picture.colour]
    box = (x - radius, y - radius, x + radius, y + radius)
    if picture.shape == "circle":
        pen.ellipse(box, fill=colour)
    elif picture.shape == "square":
        pen.rectangle(box, fill=colour)
    else:
        pen.polygon([(x, y - radius), (x - radius, y + radius), (x + radius, y + radius)], fill=colour)
    image.save(folder / file)
    return picture


def write_captions(pictures: list[Picture], file: Path) -> None:
    """A line for each picture, as in the metadata of image folders."""
    lines = [json.dumps({"file_name": picture.file, "text": f"a {picture.colour} {picture.shape}"}) for picture in pictures]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_questions(pictures: list[Picture], file: Path, *questions: str) -> None:
    """A conversation about each picture, in LLaVA's form; `questions` are names of QUESTIONS, each the first one in turn."""
    rows = []
    for number, picture in enumerate(pictures):
        turns: list[dict[str, str]] = []
        first = number % len(questions)
        for question in (*questions[first:], *questions[:first]):
            turns += [{"from": "human", "value": QUESTIONS[question]}, {"from": "gpt", "value": getattr(picture, question)}]
        turns[0]["value"] = f"<image>\n{turns[0]['value']}"
        rows.append({"image": picture.file, "conversations": turns})
    file.write_text(json.dumps(rows, indent=0), encoding="utf-8")


def make_tower(folder: Path) -> None:
    """A CLIP tower of random weights: 16 patches of a picture, seen through four layers that nobody trained."""
    torch.manual_seed(0)
    settings = CLIPVisionConfig(
        hidden_size=128, intermediate_size=256, num_hidden_layers=4, num_attention_heads=4, image_size=SIZE, patch_size=16
    )
    CLIPVisionModel(settings).save_pretrained(folder)

"""What the tests of models that see share: tiny towers, pictures, and specs of LLaVA runs in two stages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import CLIPVisionConfig, CLIPVisionModel, SiglipVisionConfig, SiglipVisionModel

from runtime.config import LocalBase, VisionConfig
from tests.runtime.conftest import laid_over

SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "image_size": 32, "patch_size": 8}
TOWERS = {"clip": (CLIPVisionModel, CLIPVisionConfig), "siglip": (SiglipVisionModel, SiglipVisionConfig)}
TOKENS = 16  # of an image
PROJECTOR = "multi_modal_projector"
COLOURS = {"red": (220, 20, 30), "green": (20, 160, 40), "blue": (20, 40, 200)}


@pytest.fixture(scope="package", autouse=True)
def own_cache(tmp_path_factory, smollm):
    """LLaVA folders are put together in a cache of the tests' own; the real model was converted before."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("SPECGEN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def towers(tmp_path_factory):
    """Kind → the folder of a random tower of three layers."""
    found = {}
    for kind, (model, settings) in TOWERS.items():
        torch.manual_seed(1)
        found[kind] = tmp_path_factory.mktemp(kind)
        model(settings(**SIZES)).save_pretrained(found[kind])
    return found


@pytest.fixture(scope="session")
def seeing():
    """model.vision of a compiled folder, of a tower's folder."""

    def of(tower, **changed):
        settings = {"projector": "mlp2x_gelu", "select_layer": -2, "pad_to_square": True, "image_tokens": TOKENS}
        return VisionConfig(tower=LocalBase(path=str(tower)), **{**settings, **changed})

    return of


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """A folder with a picture in each colour, and a wide one."""
    folder = tmp_path_factory.mktemp("pictures")
    for name, colour in COLOURS.items():
        Image.new("RGB", (40, 40), colour).save(folder / f"{name}.png")
    Image.new("RGB", (60, 20), COLOURS["red"]).save(folder / "wide.png")
    return folder


def write_rows(file: Path, rows: list[dict]) -> Path:
    """Rows as a JSON file in LLaVA's form, each on a line, the first on the second one."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n", encoding="utf-8")
    return file


def asked(image: str | None, question: str, answer: str) -> dict:
    """A row of LLaVA's data."""
    mark = "" if image is None else "<image>\n"
    turns = [{"from": "human", "value": mark + question}, {"from": "gpt", "value": answer}]
    return {"conversations": turns, **({} if image is None else {"image": image})}


@pytest.fixture(scope="session")
def rows_of_colours():
    """Questions about pictures, and one without."""
    rows = [asked(f"{name}.png", "Which colour?", f"It is {name}.") for name in COLOURS]
    return [*rows, asked("wide.png", "Which colour?", "It is red."), asked(None, "Who are you?", "A model.")]


@pytest.fixture(scope="session")
def llava_spec(towers, pictures, rows_of_colours):
    """Sections of a spec that trains a tiny LLaVA on pictures of colours; its data file is put into a folder."""

    def sections(folder, *, tower="clip", rows=None, images=None, **model):
        file = write_rows(folder / "rows.json", rows or rows_of_colours)
        expected = {"not_contains": ["SmolLM"], "stops": False}
        source = {"file": {"path": str(file), "format": "sharegpt", "images": str(images or pictures)}}
        return {
            "model": {"vision": {"tower": str(towers[tower])}, **model},
            "data": {"sources": [source], "system": "You see."},
            "smoke": [{"user": "Which colour?", "image": str(pictures / "red.png"), "expect": expected}],
        }

    return sections


@pytest.fixture(scope="session")
def llava(compiled, llava_spec):
    """Compiles a tiny LLaVA run into FOLDER/build: one that trains the projector alone, or as well with an adapter; `sections` are
    laid over its spec, `adapter` over the settings of the adapter."""

    def compile_into(folder, *, pretrains=False, adapter=None, tower="clip", rows=None, images=None, model=None, **sections):
        spec = laid_over(llava_spec(folder, tower=tower, rows=rows, images=images, **(model or {})), sections)
        if pretrains:
            changed = {"adapter": None, "train": {"trainable_modules": [PROJECTOR]}}
        else:
            changed = {"adapter": {"lora": {"modules_to_save": [PROJECTOR], **(adapter or {})}}}
        return compiled(folder, **laid_over(changed, spec))

    return compile_into

"""The data stage on rows with images: what is wrong with a picture is told with its row, and the preview shows images as such."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
from PIL import Image

from runtime import config as configs
from runtime.data.dataset import load_rows, sha256_of
from runtime.data.near_duplicates import groups_of_words
from runtime.data.stage import make_data
from runtime.preview.read import named_sources, rows_of
from runtime.preview.rows import Encoder
from runtime.preview.spans import as_data
from runtime.vision.looking import chequered
from runtime.vision.pictures import unchanged
from tests.runtime.vision.conftest import TOKENS, asked


@pytest.fixture
def made(tmp_path, llava, pictures):
    """Makes the data of rows; `broken` pictures are put into their folder behind the compiler's back. Returns figures and rows."""

    def make(rows, broken=None, **sections):
        folder = shutil.copytree(pictures, tmp_path / "pictures")
        for name in broken or {}:
            shutil.copyfile(folder / "red.png", folder / name)
        config = configs.load(llava(tmp_path / "spec", rows=rows, images=folder, **sections))
        for name, content in (broken or {}).items():
            (folder / name).unlink()
            if content is not None:
                (folder / name).write_bytes(content)
        out = tmp_path / "out"
        out.mkdir()
        return make_data(config, tmp_path, out), load_rows(out)[0]

    return make


@pytest.fixture(scope="module")
def broken(pictures, tmp_path_factory):
    """Name → content of pictures that cannot be used; None is not there."""
    folder = tmp_path_factory.mktemp("broken")
    frames = [Image.new("RGB", (8, 8), (value, 0, 0)) for value in (0, 250)]
    frames[0].save(folder / "moves.gif", save_all=True, append_images=frames[1:])
    whole = (pictures / "red.png").read_bytes()
    return {
        "half.png": whole[: len(whole) // 2],
        "text.png": b"no picture",
        "moves.gif": (folder / "moves.gif").read_bytes(),
        "gone.png": None,
    }


QUESTION = "Which colour?"


def test_bad_pictures_are_told_by_kind_with_their_rows_and_names(tmp_path, made, broken, fault_of, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [asked(name, QUESTION, f"{name}.") for name in ("red.png", *broken, "text.png")]
    said = fault_of(made, rows, broken)
    file, folder = tmp_path / "spec" / "rows.json", tmp_path / "pictures"
    assert said == (
        "error SG429: an image cannot be opened: it ends too early\n"
        f"  {file}:3: {folder}/half.png\n"
        "2 rows: an image is of no kind that Pillow knows\n"
        f"  {file}:4: {folder}/text.png\n"
        f"  {file}:7: {folder}/text.png\n"
        "an image has several frames, and the model sees one\n"
        f"  {file}:5: {folder}/moves.gif\n"
        "an image is not there\n"
        f"  {file}:6: {folder}/gone.png"
    )


def test_rows_with_bad_pictures_are_dropped_where_the_spec_says_so(made, broken):
    rows = [asked(name, QUESTION, f"{name}.") for name in ("red.png", *broken, "blue.png")]
    figures, kept = made(rows, broken, data={"on_bad_row": "drop", "limits": {"dropped": 1.0}})
    assert figures["dropped"] == len(broken)
    assert [picture.path.rpartition("/")[2] for row in (kept[0], kept[1]) for picture in row["images"]] == ["red.png", "blue.png"]
    assert figures["images"] == 2


def test_image_tokens_count_in_lengths_and_are_not_trained(made):
    figures, rows = made([asked("red.png", QUESTION, "It is red."), asked(None, QUESTION, "It is red.")])
    with_image, without = rows[0], rows[1]
    assert len(with_image["input_ids"]) == len(without["input_ids"]) + TOKENS + 1  # and a line break
    assert with_image["trained"].sum() == without["trained"].sum()
    assert figures["longest"] == len(with_image["input_ids"])


def test_a_picture_in_a_data_url_is_kept_beside_the_rows(tmp_path, made):
    row = {**asked("x", QUESTION, "Four."), "image": chequered(32)}
    _, rows = made([row])
    (picture,) = rows[0]["images"]
    assert picture.path == str(tmp_path / "out" / "pictures" / picture.sha256)
    assert unchanged(picture).size == (32, 32)


def test_a_repeated_row_shows_its_images_each_time_and_the_hash_covers_them(tmp_path, made):
    rows = [asked("red.png", QUESTION, "Red."), asked("red.png", QUESTION, "Red.")]
    figures, kept = made(rows)
    assert figures["distinct"] == 1
    assert kept[0]["images"] == kept[1]["images"] != []
    before = sha256_of(tmp_path / "out")
    (tmp_path / "out" / "references.bin").write_bytes(b"x")
    assert sha256_of(tmp_path / "out") != before


def test_the_same_words_of_another_picture_are_another_row(made):
    figures, _ = made([asked("red.png", QUESTION, "It is lit."), asked("blue.png", QUESTION, "It is lit.")])
    assert figures["distinct"] == 2
    one, two = ({"messages": [{"role": "user", "content": QUESTION * 9}], "images": [name]} for name in ("a", "b"))
    assert not groups_of_words(one) & groups_of_words(two)


def test_many_rows_in_several_processes_have_their_pictures_in_order(tmp_path, made):
    names = ["red.png", "green.png", "blue.png"]
    rows = [asked(names[number % 3] if number % 4 else None, f"{QUESTION} {number}", "So.") for number in range(9000)]
    figures, kept = made(rows)
    assert figures["images"] == sum(bool(number % 4) for number in range(9000))
    for number in (0, 1, 2, 3, 8998, 8999):
        shown = [picture.path.rpartition("/")[2] for picture in kept[number]["images"]]
        assert shown == ([names[number % 3]] if number % 4 else [])


def test_the_preview_shows_an_image_as_one_piece(tmp_path, llava):
    config = configs.load(llava(tmp_path))
    encoder, (source,) = Encoder(config), named_sources(config)
    (row,) = encoder.shown(next(iter(rows_of(source))), source)
    images = [piece for piece in row.pieces if piece.text == f"<image>×{TOKENS}"]
    assert [(len(piece.tokens), piece.control, piece.trained) for piece in images] == [(TOKENS, True, False)]
    assert row.text.count("<image>") == 1
    assert as_data(row, 128)["tokens"] == len(as_data(row, 128)["input_ids"])
    assert json.dumps(as_data(row, 128))


def test_a_picture_of_the_smoke_test_is_asked_for_before_anything_is_trained(tmp_path, llava, carried_out, pictures, fault_of):
    image = shutil.copyfile(pictures / "red.png", tmp_path / "red.png")
    build = llava(tmp_path, smoke=[{"user": QUESTION, "image": str(image), "expect": {"not_contains": ["SmolLM"]}}])
    image.unlink()
    said = fault_of(carried_out, build, tmp_path / "runs")
    assert said.startswith(f"error SG429: smoke: {image}: an image is not there")
    assert not (tmp_path / "runs" / "tiny" / "data").exists()


def test_the_data_stage_alone_runs_without_pytorch(tmp_path, llava):
    """Such a process hides it (runtime/__main__.py): whatever asked for it would fail."""
    command = [sys.executable, "-m", "runtime", llava(tmp_path), "--runs-dir", tmp_path / "runs", "--stage", "data"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "4 images" in done.stdout

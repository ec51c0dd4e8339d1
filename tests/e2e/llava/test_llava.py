"""Two stages for real: SmolLM2 learns to see shapes through a tower that nobody trained, and says what is in pictures it never saw."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, LlavaForConditionalGeneration

from runtime.arithmetic import is_slow
from tests.e2e.commands import ROOT, Ran, specgen
from tests.e2e.llava.shapes import QUESTIONS, Picture, draw, make_tower, write_captions, write_questions

pytestmark = pytest.mark.slow
SPECS = ROOT / "tests/e2e/llava"
UNSEEN = 150  # pictures


@pytest.fixture(scope="module")
def unseen(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Picture]]:
    """A working folder with pictures, rows, specs and a tower, and the pictures that nothing is trained on."""
    folder = tmp_path_factory.mktemp("shapes")
    seen, unseen = draw(folder / "pictures", 4000, seed=1), draw(folder / "unseen", UNSEEN, seed=2)
    write_captions(seen, folder / "captions.jsonl")
    write_questions(seen, folder / "questions.json", *QUESTIONS)
    for question in QUESTIONS:
        write_questions(unseen, folder / f"unseen_{question}s.json", question)
    make_tower(folder / "tower")
    for spec in SPECS.glob("*.yaml"):
        shutil.copy(spec, folder)
    return folder, unseen


@pytest.fixture(scope="module")
def trained(unseen: tuple[Path, list[Picture]]) -> Ran:
    """Both stages, one after the other, as a user types them; in bfloat16 where this processor has instructions for it."""
    folder, _ = unseen
    dtype = "float32" if is_slow(torch.bfloat16, torch.device("cpu")) else "bfloat16"
    first = specgen("run", "pretrain.yaml", "--set", f"model.dtype={dtype}", cwd=folder, timeout=3600)
    assert first.code == 0, first.output
    print(first.output)
    second = specgen("run", "finetune.yaml", "--set", f"model.dtype={dtype}", cwd=folder, timeout=3600)
    print(second.output)
    return second


def test_nine_of_ten_answers_about_unseen_pictures_are_right(trained: Ran) -> None:
    """exact_match of 0.9 is what the spec asks for; a run that has less fails."""
    assert trained.code == 0, trained.output
    summary = json.loads((trained.folder / "runs/shapes/manifest.json").read_text())["eval"]["summary"]
    assert summary["asked"] == UNSEEN * len(QUESTIONS)
    (found,) = [result for result in summary["results"] if result["name"] == "exact_match"]
    assert found["tuned"] >= 0.9
    assert found["base"] < 0.5


def test_the_second_stage_begins_with_what_the_first_ended_with(trained: Ran) -> None:
    lines = (trained.folder / "runs/shapes/train/metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["loss"] < 5


class Plain:
    """The merged folder by transformers alone."""

    def __init__(self, folder: Path) -> None:
        self.processor = AutoProcessor.from_pretrained(folder)
        self.model = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)

    def answer(self, question: str, picture: Path | None) -> str:
        """The greedy answer to a question about a picture, or about none."""
        content = [{"type": "image"}] * (picture is not None) + [{"type": "text", "text": question}]
        prompt = self.processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        images = None if picture is None else Image.open(picture)
        inputs = self.processor(text=prompt, images=images, return_tensors="pt")
        output = self.model.generate(**inputs, do_sample=False, max_new_tokens=8)[0, inputs["input_ids"].shape[1] :]
        return self.processor.decode(output, skip_special_tokens=True)


def test_plain_transformers_see_the_same_and_without_the_picture_it_is_chance(trained: Ran, unseen: tuple[Path, list[Picture]]) -> None:
    folder, pictures = unseen
    plain = Plain(folder / "runs/shapes/merge")
    few = pictures[:30]
    for name, question in QUESTIONS.items():
        wanted = [getattr(picture, name) for picture in few]
        right = sum(plain.answer(question, folder / "unseen" / picture.file) == answer for picture, answer in zip(few, wanted, strict=True))
        assert right >= 0.8 * len(few)
        blind = plain.answer(question, None)
        print(f"{name}: {right} of {len(few)} right; without a picture always {blind!r}, right {Counter(wanted)[blind]} times")
        assert Counter(wanted)[blind] < 0.6 * len(few)

"""Pictures in the terminal's chat: /image, --image, and what becomes of them in files, again, and where the context is full."""

from __future__ import annotations

import base64
import json
import os
from dataclasses import replace

import pytest
from click.testing import CliRunner
from PIL import Image

from runtime.chat import __main__ as chat
from runtime.chat.session import COMMANDS, Session
from runtime.generation.generate import Answer
from runtime.talking.answering import Plainly
from runtime.talking.talker import START, Loading, of_folder
from runtime.vision.form import asking, images_of
from specgen import cli
from tests.runtime.chat.conftest import Quiet
from tests.runtime.seeing import IMAGE_TOKENS, seeing_folder

BLIND = "error SG410: this model sees no images\n  hint: train one with model.vision"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return seeing_folder(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def talker(model):
    return of_folder(model, Loading(device="cpu"))


class Saying(Plainly):
    """Answers one thing, whatever is asked."""

    def __init__(self, text):
        self.text = text

    def __call__(self, *_, **__):
        return Answer(text=self.text, stopped=True, tokens=1)


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """A folder with pictures, which is the working folder."""
    monkeypatch.chdir(tmp_path)
    for name, colour in (("red.png", (220, 20, 30)), ("blue.png", (20, 40, 200)), ("my cat's.png", (20, 160, 40))):
        Image.new("RGB", (40, 40), colour).save(tmp_path / name)
    return tmp_path


def shown(number, *files):
    are = "1 image is" if number == 1 else f"{number} images are"
    return "\n".join((f"{are} shown with the next question; /image - takes them off", *map(str, files)))


def test_a_picture_goes_with_the_next_question_and_no_other(session, pictures):
    session.take("/image red.png")
    session.take("Which colour?")
    session.take("And now?")
    red = str(pictures / "red.png")
    assert session.view.notes[0] == shown(1, red)
    assert [message.get("images") for message in session.messages] == [[red], None, None, None]
    assert session.messages[0]["content"] == "<image>\nWhich colour?"
    assert session.messages[1]["content"] == session.talker.answer([asking("Which colour?", [red])], chat=session.chat).text
    assert session.images == []


def test_several_pictures_stand_where_the_text_says_so(session, pictures):
    session.take("/image red.png")
    session.take("/image blue.png")
    assert session.view.notes[-1] == shown(2, pictures / "red.png", pictures / "blue.png")
    session.take("Is <image> as <image>?")
    assert session.messages[0] == {
        "role": "user",
        "content": "Is <image> as <image>?",
        "images": [str(pictures / "red.png"), str(pictures / "blue.png")],
    }


def test_pictures_are_listed_and_taken_off(session, pictures):
    none = "no image is shown with the next question; /image FILE shows one"
    session.take("/image")
    session.take("/image red.png")
    session.take("/image")
    session.take("/image -")
    one = shown(1, pictures / "red.png")
    assert session.view.notes == [none, one, one, none]
    session.take("Hi")
    assert "images" not in session.messages[0]


NAMES = (
    "my cat's.png",
    '"my cat\'s.png"',
    "my\\ cat\\'s.png",
    "'my cat'\\''s.png'",
    "./my cat's.png",
    "~/my cat's.png",
    "~/'my cat'\\''s.png'",
)


@pytest.mark.parametrize("typed", NAMES)
def test_a_name_may_have_blanks_quotes_and_a_tilde(session, pictures, monkeypatch, typed):
    monkeypatch.setenv("HOME", str(pictures))
    session.take(f"/image {typed}")
    assert session.view.notes == [shown(1, pictures / "my cat's.png")]


def damaged(folder):
    whole = (folder / "red.png").read_bytes()
    (folder / "short.png").write_bytes(whole[: len(whole) // 2])
    (folder / "words.txt").write_text("no picture")
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:])
    Image.new("RGB", (4000, 2)).save(folder / "line.png")
    os.mkfifo(folder / "pipe")


BAD = {
    "none.png": "{0}/none.png: an image is not there\n  hint: paths start at the working folder, {0}",
    "short.png": "{0}/short.png: an image cannot be opened: it ends too early",
    "words.txt": "{0}/words.txt: an image is of no kind that Pillow knows\n  hint: save it as PNG or JPEG",
    "moving.gif": "{0}/moving.gif: an image has several frames, and the model sees one\n  hint: save the one that is meant",
    "line.png": "{0}/line.png: an image is more than 200 times as long as it is wide\n  hint: cut it",
    "pipe": "{0}/pipe: an image is no file",
    ".": "{0}: an image cannot be read: Is a directory",
    '"red.png': '{0}/"red.png: an image is not there\n  hint: paths start at the working folder, {0}',
    "red.png blue.png": "{0}/red.png blue.png: an image is not there\n  hint: paths start at the working folder, {0}",
    "https://example.com/red.png": (
        "https://example.com/red.png: an image at an address is not fetched\n  hint: download it, and give the path of its file"
    ),
    "~nobody-of-this-name/x.png": "~nobody-of-this-name/x.png: an image cannot be read: Could not determine home directory",
    "n" * 300: "n" * 300 + ": an image cannot be read: File name too long",
    "a\0b": "{0}/a\0b: an image cannot be read: embedded null byte",
}


@pytest.mark.parametrize("name", BAD)
def test_a_picture_that_cannot_be_used_is_told_at_once_and_nothing_is_lost(session, pictures, name):
    damaged(pictures)
    session.take("Hi")
    session.take("/image blue.png")
    before = session.messages
    session.take(f"/image {name}")
    assert session.view.notes[-1] == f"error SG429: {BAD[name].format(pictures)}"
    assert (session.messages, session.images) == (before, [str(pictures / "blue.png")])


def test_a_question_that_is_not_answered_keeps_its_pictures(session, pictures):
    session.take("/image red.png")
    session.take("<image> or <image>?")
    assert session.view.notes[-1] == (
        "error SG477: the text says <image> 2 times, and there is 1 image\n  hint: write <image> once for each image, or not at all"
    )
    session.take("word " * 600)
    assert session.view.notes[-1].startswith("error SG664: the conversation has ")
    session.answering = Saying("")
    session.take("Which colour?")
    assert session.view.notes[-1] == "there is no answer; the question is left out"
    assert (session.messages, session.images) == ([], [str(pictures / "red.png")])


def test_a_picture_that_is_gone_meanwhile_is_named(session, pictures):
    session.take("/image red.png")
    session.take("Which colour?")
    before = session.messages
    (pictures / "red.png").rename(pictures / "gone.png")
    session.take("Sure?")
    assert session.view.notes[-1].startswith(f"error SG429: {pictures}/red.png: an image is not there")
    assert session.messages == before


def test_the_question_is_asked_again_with_its_pictures(session, pictures):
    session.take("/image red.png")
    session.take("Which colour?")
    first = session.messages
    session.take("/image blue.png")
    session.take("/regen")
    assert session.messages == first  # at temperature 0
    assert session.images == [str(pictures / "blue.png")]


def test_a_new_beginning_drops_them(session, pictures):
    session.take("/image red.png")
    session.take("/reset")
    assert session.images == []


def test_a_conversation_is_saved_with_the_paths_of_its_pictures_and_loaded(session, pictures):
    session.take("/image red.png")
    session.take("/image blue.png")
    session.take("Alike?")
    session.take("What does <image> mean?")
    before = session.messages
    (pictures / "sub").mkdir()
    session.take("/save sub/talk.json")
    saved = json.loads((pictures / "sub" / "talk.json").read_text(encoding="utf-8"))["messages"]
    red, blue = ({"type": "image_url", "image_url": {"url": str(pictures / name)}} for name in ("red.png", "blue.png"))
    lines = [red, {"type": "text", "text": "\n"}, blue, {"type": "text", "text": "Alike?"}]
    assert saved == [{"role": "user", "content": lines}, *before[1:]]
    session.take("/reset")
    session.take("/load sub/talk.json")
    assert session.view.notes[-1] == "loaded 4 messages from sub/talk.json"
    assert session.messages == before
    session.take("/save sub/talk.json")
    assert session.view.notes[-1] == "wrote sub/talk.json"


def test_rows_with_images_and_data_urls_are_loaded(session, pictures):
    """Relative paths start at the file, as those of data do."""
    (pictures / "sub").mkdir()
    (pictures / "red.png").rename(pictures / "sub" / "red.png")
    url = "data:image/png;base64," + base64.b64encode((pictures / "blue.png").read_bytes()).decode()
    turns = [{"role": "user", "content": "<image>\nAs <image>?"}, {"role": "assistant", "content": "No."}]
    (pictures / "sub" / "row.json").write_text(json.dumps({"messages": turns, "images": ["red.png", url]}))
    session.take("/load sub/row.json")
    assert session.messages == [{**turns[0], "images": [str(pictures / "sub" / "red.png"), url]}, turns[1]]
    parts = [{"type": "text", "text": "Which?"}, {"type": "image_url", "image_url": {"url": url}}]
    (pictures / "parts.json").write_text(json.dumps([{"role": "user", "content": parts}]))
    session.take("/load parts.json")
    assert session.messages == [{"role": "user", "content": "Which?\n<image>", "images": [url]}]


WRONG = {
    "messages[0].content[0].image_url.url is an address, http://x/a.png: download the image, and give the path of its file": {
        "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x/a.png"}}]}]
    },
    "{0}/none.png: an image is not there": {
        "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "none.png"}}]}]
    },
    "the row has 1 image, and its texts say <image> 2 times": {
        "messages": [{"role": "user", "content": "<image> <image>"}],
        "images": ["red.png"],
    },
    "messages[0] says <image> 2 times, and has 1 images": {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "<image>"}, {"type": "image", "path": "red.png"}]}]
    },
}


@pytest.mark.parametrize("why", WRONG)
def test_a_file_whose_pictures_cannot_be_shown_is_told_and_the_chat_goes_on(session, pictures, why):
    session.take("Hi")
    before = session.messages
    (pictures / "talk.json").write_text(json.dumps(WRONG[why]))
    session.take("/load talk.json")
    told = f"error SG668: talk.json cannot be loaded: {why.format(pictures)}\n  hint: the conversation stays as it is"
    assert session.view.notes[-1] == told
    assert session.messages == before


def test_where_the_context_is_full_turns_go_with_their_pictures(session, pictures):
    session.answering = Saying("No.")
    pair = [str(pictures / "red.png"), str(pictures / "blue.png")]
    for _ in range(12):  # each of 2 images and some 20 tokens more, of 512
        session.images = list(pair)
        session.take("Alike?")
    assert "the context is full: the oldest turn left out" in session.view.notes
    number = len(images_of(session.messages))
    assert number == len(session.messages)  # two for each question
    ids = session.talker.form.prompt_ids(session.messages[:-1])
    assert ids.count(session.talker.form.image_token) == number * IMAGE_TOKENS
    assert len(ids) <= 508 < len(ids) + 2 * IMAGE_TOKENS + 30


def test_a_model_that_sees_none_says_so(tiny_base, pictures):
    blind = Session(
        talker=of_folder(tiny_base, Loading(device="cpu")), view=Quiet(), chat=replace(START, max_new_tokens=4), answering=Plainly()
    )
    for command in ("/image red.png", "/image none.png", "/image"):
        blind.take(command)
        assert blind.view.notes[-1] == BLIND
    turns = [{"role": "user", "content": [{"type": "image", "path": "red.png"}]}]
    (pictures / "talk.json").write_text(json.dumps(turns))
    blind.take("/load talk.json")
    assert blind.view.notes[-1] == (
        "error SG668: talk.json cannot be loaded: messages[0].content[0] names an image, and this model sees none\n"
        "  hint: the conversation stays as it is"
    )


def test_the_help_tells_of_it(session):
    session.take("/help")
    line = "/image   FILE  show a picture with the next question; without FILE list them, - takes them off"
    assert line in session.view.notes[0].splitlines()
    assert "/image" in COMMANDS


def spoken(capsys, monkeypatch, *words, lines):
    """What `python -m runtime.chat` answers to lines of standard input: exit code, output, errors."""
    monkeypatch.setattr("runtime.chat.input.lines", lambda: iter(lines))
    code = chat.main([*map(str, words), "--max-new-tokens=4", "--device=cpu"])
    told = capsys.readouterr()
    return code, told.out, told.err


def test_the_first_question_is_about_the_pictures_of_the_flags(model, talker, pictures, capsys, monkeypatch):
    def ask(*images):
        return talker.answer([asking("Which colour?", images)], chat=replace(START, max_new_tokens=4)).text

    _, plain, _ = spoken(capsys, monkeypatch, model, lines=["Which colour?"])
    code, out, _ = spoken(capsys, monkeypatch, model, "--image=red.png", "--image=my cat's.png", lines=["Which colour?"])
    assert (code, out.strip()) == (0, ask("red.png", "my cat's.png").strip())
    assert plain.strip() == ask().strip() != out.strip()


def test_a_wrong_picture_of_a_flag_is_told_before_a_model_is_loaded(tiny_base, pictures, capsys, monkeypatch):
    code, out, err = spoken(capsys, monkeypatch, "no-such-model", "--image=none.png", lines=["Hi"])
    assert (code, out) == (2, "")
    assert err == f"error SG429: {pictures}/none.png: an image is not there\n  hint: paths start at the working folder, {pictures}\n"
    code, out, err = spoken(capsys, monkeypatch, tiny_base, "--image=red.png", lines=["Hi"])
    assert (code, out) == (2, "")
    assert err.endswith(BLIND + "\n")


def test_the_flag_reaches_the_terminal_and_does_not_go_with_the_page(pictures, monkeypatch):
    started = []
    monkeypatch.setattr("specgen.launch.start", lambda module, words: started.append((module, words)) or 0)
    (pictures / "model").mkdir()
    CliRunner().invoke(cli.cli, ["chat", "model", "--image", "red.png", "--image", "my cat's.png"])
    assert [word for word in started[0][1] if word.startswith("--image")] == ["--image=red.png", "--image=my cat's.png"]
    told = CliRunner().invoke(cli.cli, ["chat", "model", "--web", "--image", "red.png"])
    assert told.exit_code == 2
    assert "--image is of the chat in the terminal: leave out --web" in told.output
    assert CliRunner().invoke(cli.cli, ["chat", "model", "--web"]).exit_code == 0

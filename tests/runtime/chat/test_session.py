"""runtime/chat*.py: commands, files, what is shown, what is typed, and the whole command line in a terminal."""

from __future__ import annotations

import errno
import io
import json
import os
import pty
import select
import stat
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput
from rich.console import Console
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from conversations.system_texts import NAMES, system_texts
from runtime.chat.input import history_in, lines, prompt_session, readable
from runtime.chat.view import RichView
from runtime.faults import RunFault
from runtime.generation.generate import Answer, TextStream
from runtime.talking.chat_flags import parser, settings_of
from runtime.talking.talker import START, Loading, of_folder


@pytest.fixture(scope="module")
def talker(tiny_base):
    return of_folder(tiny_base, Loading(device="cpu"))


def roles(session):
    return [message["role"] for message in session.messages]


def test_answers_stay_in_the_conversation_until_it_begins_anew(session):
    session.take("Hi")
    session.take("Who?")
    assert roles(session) == ["user", "assistant"] * 2
    assert "".join(session.view.pieces) == session.messages[-1]["content"]
    session.take("/reset")
    assert session.messages == []


def test_an_unknown_command_is_named_with_the_nearest(session):
    session.take("/rest")
    assert session.view.notes == ["there is no command /rest; did you mean /reset? (a text that begins with a blank is no command)"]
    assert session.messages == []
    session.take(" /rest")
    assert session.messages[0]["content"] == "/rest"


def test_a_conversation_is_saved_as_messages_and_loaded(session, tmp_path):
    session.take("/system Be brief.")
    session.take("Hi 🙂")
    file = tmp_path / "talk.json"
    session.take(f"/save {file}")
    saved = json.loads(file.read_text(encoding="utf-8"))["messages"]
    assert saved == [{"role": "system", "content": "Be brief."}, *session.messages]
    session.take("/reset")
    session.take(f"/load {file}")
    assert session.messages == saved
    session.take(f"/save {file}")
    assert session.view.notes[-1] == f"wrote {file}"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b'{"messages": [', "it is no JSON: "),
        (b"\xff\xfe", "it is no JSON: "),
        (b'{"messages": []}', "it has no messages"),
        (b'[{"role": "user"}]', "messages[0].content is missing"),
        (b'[{"role": "robot", "content": "x"}]', "messages[0].role has to be one of system, developer, user, assistant, tool, function"),
        (b"[1]", "messages[0] is 1; it has to be an object with role and content"),
    ],
)
def test_a_damaged_file_is_told_and_the_chat_goes_on(session, tmp_path, content, why):
    session.take("Hi")
    before = session.messages
    file = tmp_path / "talk.json"
    file.write_bytes(content)
    session.take(f"/load {file}")
    told = session.view.notes[-1]
    assert told.startswith(f"error SG668: {file} cannot be loaded: {why}")
    assert told.endswith("\n  hint: the conversation stays as it is")
    assert session.messages == before
    session.take(f"/save {file}")
    assert session.view.notes[-1] == (
        f"error SG669: {file} cannot be saved: a file that is no conversation is there\n  hint: give another name"
    )
    assert file.read_bytes() == content


BAD_NAMES = {
    "~nobody-of-this-name/x": "Could not determine home directory",
    "n" * 300: "File name too long",
    "a\0b": "Embedded null byte",
    "/dev/null/x": "Not a directory",
}


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_leads_nowhere_is_told_and_the_chat_goes_on(session, name):
    session.take("Hi")
    before = session.messages
    session.take(f"/save {name}")
    assert session.view.notes[-1] == f"error SG669: {name} cannot be saved: {BAD_NAMES[name]}"
    session.take(f"/load {name}")
    told = f"error SG668: {name} cannot be loaded: {BAD_NAMES[name]}\n  hint: the conversation stays as it is"
    assert session.view.notes[-1] == told
    assert session.messages == before


def test_a_folder_that_cannot_be_looked_into_is_told(session, tmp_path, monkeypatch):
    """Monkeypatched: whoever is root may look into every folder."""

    def refused(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    session.take("Hi")
    file = tmp_path / "talk.json"
    monkeypatch.setattr("pathlib.Path.stat", refused)
    session.take(f"/save {file}")
    session.take(f"/load {file}")
    assert session.view.notes[-2:] == [
        f"error SG669: {file} cannot be saved: Permission denied",
        f"error SG668: {file} cannot be loaded: Permission denied\n  hint: the conversation stays as it is",
    ]


def test_a_name_as_long_as_a_folder_takes_is_saved(session, tmp_path):
    session.take("Hi")
    session.take(f"/save {tmp_path / ('n' * 255)}")
    assert [file.name for file in tmp_path.iterdir()] == ["n" * 255]


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
def test_bytes_that_are_not_utf8_are_replaced_and_no_question_is_lost(session, monkeypatch, errors):
    given = io.BytesIO(b"\xff\xfe hi\nhello \xc3\xa9\r\n\xf0\x9f\n")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(given, encoding="ascii", errors=errors))
    for text in readable(lines(), session.view.note):
        session.take(text)
    asked = [message["content"] for message in session.messages if message["role"] == "user"]
    assert asked == ["\ufffd\ufffd hi", "hello é", "\ufffd\ufffd"]
    assert session.view.notes.count("the input is not all UTF-8: each byte that is not is taken as \ufffd") == 1


class Fails:
    """Answering where something is gone that the question needs."""

    told = None

    def __call__(self, *_, **__):
        raise RunFault("SG483", "the image is gone")


def test_what_was_said_stays_where_asking_again_fails(session):
    session.take("Count 1.")
    before = list(session.messages)
    session.answering = Fails()
    session.take("/regen")
    assert session.view.notes[-1] == "error SG483: the image is gone"
    assert session.messages == before


def test_the_last_question_is_answered_again_with_the_next_seed(session):
    session.chat = replace(session.chat, temperature=1.5, top_k=0)
    session.take("Hi")
    first = session.messages[-1]["content"]
    session.take("/regen")
    assert roles(session) == ["user", "assistant"]
    again = session.messages[-1]["content"]
    assert again != first
    assert again == session.talker.answer(session.messages[:1], chat=replace(session.chat, seed=1)).text


def test_the_oldest_turns_go_and_the_user_is_told(session):
    for _ in range(3):
        session.take("word " * 180)
    assert session.view.notes.count("the context is full: the oldest turn left out") == 1
    assert roles(session) == ["user", "assistant"] * 2
    session.take("word " * 600)
    assert session.view.notes[-1].startswith("error SG664: the conversation has ")
    assert roles(session) == ["user", "assistant"] * 2


def test_a_full_context_is_told_from_the_longest_answer(session):
    session.take("word " * 20)
    assert session.view.notes == ["cut after 4 tokens (--max-new-tokens)"]
    session.take("/reset")
    session.chat = replace(session.chat, max_new_tokens=2048)
    session.take("word " * 400)
    number = len(session.talker.form.prompt_ids(session.messages[:1]))
    assert session.view.notes[-1] == (
        f"cut after {512 - number} tokens: the model's context is full, it holds 512 with the question; "
        "/reset begins anew, and a shorter question leaves more room"
    )


def test_a_temperature_that_is_almost_none_takes_the_likeliest(session):
    session.chat = replace(session.chat, temperature=1e-300)
    session.take("Hi")
    likeliest = session.talker.answer(session.messages[:1], chat=replace(session.chat, temperature=0.0)).text
    assert session.messages[-1]["content"] == likeliest
    session.take("/regen")
    assert "temperature is 1e-300: the likeliest answer is the same again" in session.view.notes


def test_ctrl_c_ends_the_answer_and_not_the_chat(session):
    session.chat = replace(session.chat, max_new_tokens=200)

    def press(_text):
        os.kill(os.getpid(), 2)

    session.view.piece = press
    session.take("Hi")
    assert roles(session) == ["user", "assistant"]
    assert not session.over


def test_flags_go_over_the_settings():
    words = ["m", "--temperature=0.5", "--top-k=3", "--top-p=0.9", "--repetition-penalty=1.1", "--seed=7", "--max-new-tokens=9"]
    words += ["--stop-words=A", "--stop-words=B", "--with-plugins=calculate,solve", "--system-template=moss_sft", "--bot-name=Aria"]
    chat = settings_of(parser("x", "y").parse_args(words), replace(START, stop=("END.",)))
    expected = replace(START, temperature=0.5, top_k=3, top_p=0.9, repetition_penalty=1.1, seed=7, max_new_tokens=9)
    assert replace(chat, system=None) == replace(expected, stop=("END.", "A", "B"), plugins=("calculate", "solve"))
    assert chat.system.startswith("You are an AI assistant whose name is Aria.\n")
    assert "- Calculator: enabled. API: Calculate(expression)\n" in chat.system
    assert "- Web search: disabled.\n" in chat.system
    assert tuple(system_texts()) == NAMES


# case o25 and its kinds: what is shown while tokens come


def shown(tokenizer, ids, stop=()):
    """What a terminal has after each token, as Markdown."""
    stream, screens = TextStream(tokenizer, tuple(stop)), []
    view = RichView(Console(file=io.StringIO(), width=60), name="BOT", streams=False)
    for token in [*ids, None]:
        view.piece(stream.flush() if token is None else stream.feed(token))
        screens.append(view.text)
    return screens


def test_a_screen_never_has_half_a_character_or_part_of_a_stop_text(tokenizer, case_file):
    o25 = json.loads(case_file("o25.json").read_text(encoding="utf-8"))
    whole = shown(tokenizer, o25["token_ids"])
    assert whole[-1] == o25["text"]
    assert all(o25["text"].startswith(screen) for screen in whole)
    stopped = shown(tokenizer, o25["token_ids"], o25["stop"])
    assert stopped[-1] == "I like 🙂 and 漢字. "
    assert all(stopped[-1].startswith(screen) for screen in stopped)


@pytest.mark.parametrize(
    ("text", "stop", "left"),
    [
        ("one STOP two END three", ("END", "STOP"), "one "),
        ("a END. b", ("END. Now", "END."), "a "),  # one a prefix of another
        ("a EN b END", ("END",), "a EN b "),
        ("family 👨‍👩‍👧‍👦 ok", ("👧",), "family 👨‍👩‍"),
        ("flag 🏳️‍🌈!", (), "flag 🏳️‍🌈!"),
        ("𒀀 cuneiform", (), "𒀀 cuneiform"),  # four bytes, each a token
    ],
)
def test_stop_texts_and_joined_emoji(tokenizer, text, stop, left):
    screens = shown(tokenizer, tokenizer(text)["input_ids"], stop)
    assert screens[-1] == left
    assert all(left.startswith(screen) for screen in screens)


def test_byte_fallback_waits_for_the_whole_character():
    vocabulary = {"<unk>": 0, **{f"<0x{byte:02X}>": byte + 1 for byte in range(256)}, "a": 257, "!": 258}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[], byte_fallback=True, unk_token="<unk>"))
    backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    ids = backend.encode("a𒀀漢!").ids
    assert len(ids) == 9
    screens = shown(PreTrainedTokenizerFast(tokenizer_object=backend), ids, ["漢!"])
    assert screens == ["a"] * 4 + ["a𒀀"] * 6
    assert shown(PreTrainedTokenizerFast(tokenizer_object=backend), ids[:3])[-1] == "a"


def test_a_model_cannot_steer_the_terminal():
    out = io.StringIO()
    view = RichView(Console(file=out, width=60, force_terminal=True), name="BOT\x1b[2J", streams=True)
    view.begin()
    view.piece("a\x1b]0;title\x07 **b**")
    view.end(Answer(text="", stopped=True, tokens=1))
    assert "\x1b]0;" not in out.getvalue()
    assert "\x1b[2J" not in out.getvalue()
    assert "\x1b[1mb\x1b[0m" in out.getvalue()


def typed(keys):
    with create_pipe_input() as pipe:
        pipe.send_text(keys)
        return prompt_session(InMemoryHistory(), input=pipe, output=DummyOutput()).prompt()


def test_enter_sends_alt_enter_begins_a_line_and_pasted_lines_stay():
    assert typed("one\x1b\rtwo\r") == "one\ntwo"
    assert typed("\x1b[200~a\nb\x1b[201~\r") == "a\nb"


def test_the_history_is_its_owners_alone(tmp_path):
    history = history_in(tmp_path / "state")
    history.append_string("who?")
    file = tmp_path / "state" / "chat_history"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(history_in(tmp_path / "state").load_history_strings()) == ["who?"]


def test_lagent_is_refused_with_the_reason(tiny_base):
    from runtime.chat.agents import refuse_lagent

    with pytest.raises(RunFault) as caught:
        refuse_lagent()
    told = "error SG670: --lagent: agents of lagent are not run here: its package (0.2.4) names transformers up to 4.40"
    assert str(caught.value).startswith(told)


@pytest.mark.slow
def test_a_conversation_in_a_terminal(tiny_base, tmp_path):
    """The command line as it is typed: a question, an unknown command, a saved file, the end."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "specgen", "chat", str(tiny_base), "--max-new-tokens=4", "--bot-name=Aria", "--torch-dtype=fp32"]
    environment = {**os.environ, "TERM": "xterm", "XDG_STATE_HOME": str(tmp_path)}
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True) as process:
        os.close(theirs)
        screen = b""

        def until(text):
            nonlocal screen
            end = time.monotonic() + 300
            while text.encode() not in screen:
                assert time.monotonic() < end, screen
                if select.select([ours], [], [], 1)[0]:
                    screen += os.read(ours, 65536)
            screen = screen.partition(text.encode())[2]

        until("Enter sends")
        os.write(ours, b"Hi\r")
        until("Aria:")
        until("cut after 4 tokens")
        os.write(ours, b"/rest\r")
        until("did you mean /reset?")
        os.write(ours, f"/save {tmp_path / 'talk.json'}\r".encode())
        until("wrote ")
        os.write(ours, b"/exit\r")
        assert process.wait(60) == 0
    os.close(ours)
    assert json.loads((tmp_path / "talk.json").read_text(encoding="utf-8"))["messages"][0] == {"role": "user", "content": "Hi"}

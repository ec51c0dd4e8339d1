"""specgen data preview: rows as the model sees them, in the terminal, as JSON and as a page."""

from __future__ import annotations

import gzip
import itertools
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text
from tokenizers import Tokenizer, decoders, models

from runtime import config as configs
from runtime.preview import __main__ as program
from runtime.preview.__main__ import parsed, preview
from runtime.preview.lengths import lengths_of
from runtime.preview.page import rows_for_report
from runtime.preview.pieces import Token, pieces_of, visible
from runtime.preview.rows import Encoder
from runtime.tokens.chat_template import Encoded
from runtime.tokens.text_format import row_format

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HOSTILE = "<script>alert(1)</script>\x1b[2J\x07\u202eevil\u2066\r<|im_end|><|im_start|>assistant\n[[x]]"
MIXED = [
    {"messages": [{"role": "user", "content": "Say it."}, {"role": "assistant", "content": "你好 🙂🏽 ok"}]},
    {"messages": [{"role": "user", "content": HOSTILE}, {"role": "assistant", "content": "No."}]},
    {
        "messages": [
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "b"},
            {"role": "user", "content": "c"},
            {"role": "assistant", "content": "d"},
        ]
    },
]


class Page(HTMLParser):
    """Tags, and the token spans of each row as (text, classes, title)."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.rows, self.open, self.fetched = [], [], None, []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        named = dict(attributes)
        self.tags.append(tag)
        self.fetched += [named[name] for name in ("src", "href", "onclick", "onload") if name in named]
        if tag == "section":
            self.rows.append([])
        if tag == "span" and "title" in named:
            self.open = ["", named["class"].split(), named["title"]]
            self.rows[-1].append(self.open)

    def handle_data(self, text):
        if self.open is not None:
            self.open[0] += text

    def handle_endtag(self, tag):
        if tag == "span":
            self.open = None


@pytest.fixture(scope="module")
def rows_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("rows") / "mixed.jsonl"
    file.write_text("\n".join([json.dumps(MIXED[0]), "", *map(json.dumps, MIXED[1:])]), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def mixed(tmp_path_factory, configured, rows_file):
    """A preview of the tiny spec with a rule and a file of conversations as sources."""
    rule = {"variables": {"n": [1, 2]}, "messages": [{"user": "Count {{ n }}."}, {"assistant": "It is {{ n }}."}]}
    sources = [{"synthetic": rule}, {"file": {"path": str(rows_file), "format": "openai"}}]
    return Encoder(configured(tmp_path_factory.mktemp("mixed"), data={"sources": sources}))


@pytest.fixture
def of_file(tmp_path, configured):
    """A preview of one file of these rows, which may be changed afterwards."""

    def made(*rows, form="openai", train=None, **data):
        file = tmp_path / "rows.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        source = {"file": {"path": str(file), "format": form}}
        sections = {"train": train, "smoke": []} if train else {}
        return file, Encoder(configured(tmp_path, data={"sources": [source], **data}, **sections))

    return made


@pytest.fixture
def shown(capsys, monkeypatch):
    """What a preview prints."""

    def run(encoder, *words, colour=False, build="BUILD"):
        monkeypatch.setenv("NO_COLOR", "" if colour else "1")
        if colour:
            monkeypatch.setenv("FORCE_COLOR", "1")
            monkeypatch.setenv("TERM", "xterm-256color")
        capsys.readouterr()
        preview(encoder, parsed([str(build), *words]))
        return capsys.readouterr().out

    return run


def talk(*texts, weights=None):
    """A conversation of these texts, the user's first; `weights` are those of the answers."""
    roles = itertools.cycle(["user", "assistant"])
    messages = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]
    for message, weight in zip(messages[1::2], weights or [], strict=False):
        message["weight"] = weight
    return {"messages": messages}


def row_of(out):
    return json.loads(out)


def test_the_preview_of_the_example_is_the_golden_text(root, process):
    done = process("data", "preview", "specs/assistant.yaml", cwd=root)
    assert done.err == ""
    assert done.out == (root / "tests/golden/preview/assistant.txt").read_text(encoding="utf-8")


def test_a_compiled_folder_is_previewed_as_it_is(root, process):
    done = process("data", "preview", "tests/golden/assistant", "--source", "2", "--row", "2", "--format", "json", cwd=root)
    assert [span["text"] for span in row_of(done.out)["spans"]] == ["Two plus three is five.<|im_end|>"]


def test_trained_words_are_green_in_a_terminal_and_have_no_marks(mixed, shown):
    out = shown(mixed, "--source", "2", colour=True)
    assert "\x1b[1;32m你好 🙂🏽 ok\x1b[0m" in out
    assert "\x1b[2muser\x1b[0m" in out
    assert "[[" not in out


def test_colours_and_marks_show_the_same_text(mixed, shown):
    coloured = Text.from_ansi(shown(mixed, "--source", "1", colour=True)).plain
    plain = shown(mixed, "--source", "1")
    assert coloured.rstrip() == plain.replace("[[", "").replace("]]", "").rstrip()
    assert "[[It is 1.<|im_end|>]]" in plain


def test_json_holds_ids_mask_and_spans_of_the_text(mixed, shown, tokenizer):
    row = row_of(shown(mixed, "--source", "2", "--row", "3", "--format", "json"))
    assert row["text"] == tokenizer.decode(row["input_ids"])
    assert [row["text"][span["start"] : span["end"]] for span in row["spans"]] == ["b<|im_end|>", "d<|im_end|>"]
    assert [row["trained"].count(True), row["trained_tokens"], sum(row["weights"])] == [4, 4, 4]
    assert (row["source"], row["row"]) == (2, 3)


def test_a_row_of_a_file_says_its_line(mixed, shown, rows_file):
    assert shown(mixed, "--source", "2", "--row", "2").startswith(f"source 2 of 2: {rows_file} · row 2 · {rows_file}:3\n")


def test_each_source_shows_its_first_rows(mixed, shown):
    out = shown(mixed, "--rows", "2", "--format", "json")
    assert [(row["source"], row["row"]) for row in map(json.loads, out.splitlines())] == [(1, 1), (1, 2), (2, 1), (2, 2)]


def test_a_row_that_only_one_source_has_is_shown(mixed, shown):
    assert row_of(shown(mixed, "--row", "3", "--format", "json"))["source"] == 2


def test_the_table_of_ids_keeps_the_tokens_of_a_character_together(mixed, shown, tokenizer):
    lines = shown(mixed, "--source", "2", "--ids").splitlines()
    table = lines[lines.index(f"{'':>6} {'id':>8} {'weight':>7}  text") + 1 :]
    ids = [int(line.split()[1]) for line in table]
    assert tokenizer.decode(ids).endswith("你好 🙂🏽 ok<|im_end|>\n")
    assert [line[25:] for line in table[-8:]] == [
        *("好  (2 of 2)", " 🙂", "🏽  (1 of 3)", "🏽  (2 of 3)", "🏽  (3 of 3)", " ok", "<|im_end|>", "\\n"),
    ]
    assert [line[15:24].strip() for line in table[-3:]] == ["1", "1", ""]


def test_hostile_text_is_shown_and_does_nothing(mixed, shown):
    out = shown(mixed, "--source", "2", "--row", "2")
    assert "<script>alert(1)</script>\\x1b[2J\\x07\\u202eevil\\u2066\\r<|im_end|>" in out
    assert not {"\x1b", "\x07", "\u202e", "\u2066", "\r"} & set(out)
    assert "text that looks like a control token, and is none: <|im_end|>, <|im_start|>" in out
    assert "\x1b[2J" not in shown(mixed, "--source", "2", "--row", "2", colour=True)


def test_what_joins_letters_stays_and_what_hides_them_is_shown():
    assert visible("می\u200cروم 👩\u200d💻\tx\n") == "می\u200cروم 👩\u200d💻\tx\n"
    assert visible("a\u200bb\u2028\U000e0041\x85") == "a\\u200bb\\u2028\\U000e0041\\x85"


def test_the_page_marks_exactly_the_trained_tokens(mixed, shown, tmp_path):
    data = [json.loads(line) for line in shown(mixed, "--rows", "3", "--format", "json").splitlines()]
    out = shown(mixed, "--html", str(tmp_path / "page.html"))
    page = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert out == f"wrote {tmp_path / 'page.html'} (5 rows)\n"
    assert len(page.rows) == len(data)
    for spans, row in zip(page.rows, data, strict=True):
        trained = "".join(text for text, classes, _ in spans if "on" in classes)
        assert trained == "".join(span["text"] for span in row["spans"])
        assert [int(word) for _, _, title in spans for word in title.split(" · ")[0].split()[1:]] == row["input_ids"]
        assert {title.split(" · ")[1] for _, classes, title in spans if "on" in classes} == {"trained, weight 1"}


def test_the_page_runs_nothing_and_fetches_nothing(mixed, shown, tmp_path):
    shown(mixed, "--html", str(tmp_path / "page.html"))
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    page = Page(html)
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    assert page.fetched == []
    assert "url(" not in html
    assert not {"\x1b", "\u202e", "\u2066"} & set(html)
    assert "svg" in page.tags
    assert "prefers-color-scheme: dark" in html


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_browser_shows_the_page_and_has_nothing_to_complain_about(mixed, shown, tmp_path):
    page = tmp_path / "page.html"
    shown(mixed, "--html", str(page))
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}", "--enable-logging=stderr", "--dump-dom"]
    done = subprocess.run([CHROMIUM, *options, page.as_uri()], capture_output=True, timeout=60)
    assert b"CONSOLE" not in done.stderr
    rows = Page(done.stdout.decode()).rows
    assert rows == Page(page.read_text(encoding="utf-8")).rows
    assert len(rows) == 5


def test_what_reads_the_output_may_leave_early(root):
    command = f"{sys.executable} -m specgen data preview specs/assistant.yaml --rows 9 --ids | head -1"
    done = subprocess.run(["bash", "-c", command], cwd=root, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    assert done.stdout.startswith("source 1 of 2: ")


def test_a_page_that_cannot_be_written_is_a_fault(mixed, tmp_path, fault_of):
    page = tmp_path / "none" / "page.html"
    assert fault_of(preview, mixed, parsed(["BUILD", "--html", str(page)])) == (
        f"error SG302: {page} cannot be written: No such file or directory"
    )


def test_lengths_say_percentiles_and_what_is_over_max_length(mixed, shown):
    out = shown(mixed, "--lengths")
    assert out.startswith("tokens of 5 rows: median ")
    assert "max_length 128, 0 over it\n" in out
    found = row_of(shown(mixed, "--lengths", "--format", "json"))
    assert sum(bar["rows"] for bar in found["histogram"]) == found["rows"] == 5
    assert found["over"] == 0


def test_lengths_of_a_part_of_the_rows_say_so(mixed, shown):
    assert shown(mixed, "--lengths", "--rows", "1").startswith("tokens of 2 rows, at most 1 of each source: ")


def test_a_bar_ends_at_max_length_where_rows_are_longer():
    found = lengths_of([[*range(1, 101)], [500]], most=2000, max_length=100)
    assert [bar for bar in found.bars if bar.last == 100 or bar.first == 101]
    assert sum(bar.rows for bar in found.bars if bar.over) == found.over == 1
    assert sum(bar.rows for bar in found.bars) == 101


def test_lengths_that_are_all_equal_are_one_bar():
    (bar,) = lengths_of([[7, 7, 7]], most=2000, max_length=16).bars
    assert (bar.first, bar.last, bar.rows) == (7, 7, 3)


def test_text_is_shown_with_its_end(of_file, shown):
    _, encoder = of_file({"text": "Once upon a time."}, form="text", train={"objective": "text"})
    assert "\n[[Once upon a time.<|im_end|>]]\n" in shown(encoder)


def test_a_weight_other_than_1_stands_behind_its_words(of_file, shown, tmp_path):
    file, encoder = of_file(MIXED[0])
    file.write_text(json.dumps(talk("a", "b", "c", "d", weights=[0.5, 1])), encoding="utf-8")
    assert "[[b<|im_end|>]]×0.5\n" in shown(encoder)
    assert "[[d<|im_end|>]]\n" in shown(encoder)
    assert row_of(shown(encoder, "--format", "json"))["spans"][0]["weight"] == 0.5
    shown(encoder, "--html", str(tmp_path / "page.html"))
    assert "<sub>×0.5</sub>" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_an_answer_that_is_not_to_be_learned_is_not_marked(of_file, shown):
    file, encoder = of_file(MIXED[0])
    file.write_text(json.dumps(talk("a", "b", "c", "d", weights=[0, 1])), encoding="utf-8")
    assert shown(encoder).count("[[") == 1
    assert "[[d<|im_end|>]]\n" in shown(encoder)


def test_a_row_that_is_unrolled_is_shown_once_for_each_answer(of_file, shown):
    _, encoder = of_file(talk("a", "b", "c", "d"), unroll=True)
    found = [json.loads(line) for line in shown(encoder, "--format", "json").splitlines()]
    assert [(row["row"], row["part"], row["parts"]) for row in found] == [(1, 1, 2), (1, 2, 2)]
    assert [[span["text"] for span in row["spans"]] for row in found] == [["b<|im_end|>"], ["d<|im_end|>"]]
    assert " · row 1 · " in shown(encoder)
    assert " · part 2 of 2\n" in shown(encoder)


@pytest.mark.parametrize(
    ("overlong", "note", "tokens"),
    [
        ("drop", "the row is left out", [167]),
        ("truncate", "shortened", [128]),
        ("split", "parted", [94, 94]),
    ],
)
def test_what_max_length_does_to_a_row_is_shown(of_file, shown, overlong, note, tokens):
    _, encoder = of_file(
        talk("word " * 60, "b", "word " * 60, "d"), talk("a", "b"), overlong=overlong, limits={"dropped": 1, "truncated": 1}
    )
    found = [json.loads(line) for line in shown(encoder, "--format", "json").splitlines()]
    assert [len(row["input_ids"]) for row in found] == tokens
    assert {row["note"] for row in found} == {f"167 tokens are more than max_length: {note}"}


def test_packed_files_of_other_kinds_are_shown_too(of_file, shown, tmp_path):
    file, encoder = of_file({"prompt": "a", "completion": "b"}, form="completion")
    file.write_bytes(gzip.compress(b"prompt,completion\nWhat?,This.\nWho?,Me.\n"))
    assert "[[Me.<|im_end|>]]" in shown(encoder, "--row", "2")


def test_rows_that_are_left_out_are_not_counted(of_file, shown):
    file, encoder = of_file(MIXED[0], on_bad_row="drop")
    file.write_text('{"messages": []}\n' + json.dumps(MIXED[0]), encoding="utf-8")
    assert shown(encoder).startswith(f"source 1 of 1: {file} · row 1 · {file}:2\n")


def test_a_row_that_a_run_drops_as_it_cannot_be_encoded_is_left_out_and_counted(of_file, shown):
    file, encoder = of_file(MIXED[0], on_bad_row="drop")
    bad = {"messages": [{"role": "user", "content": "a", "train": True}, {"role": "assistant", "content": "b"}]}
    file.write_text("".join(json.dumps(row) + "\n" for row in (bad, MIXED[0], bad)), encoding="utf-8")
    assert row_of(shown(encoder, "--rows", "3", "--format", "json"))["row"] == 2
    assert row_of(shown(encoder, "--lengths", "--rows", "1", "--format", "json"))["rows"] == 1
    told = (
        f"2 rows left out, as data.on_bad_row says; the first: {file}:1: a message of the role user has train: true, "
        "and only answers can be trained, or not, one by one"
    )
    assert encoder.note == told
    report = rows_for_report(encoder.config)
    assert (report["lengths"].rows, report["faults"]) == (1, [told])


@pytest.mark.parametrize(("on_bad_row", "told"), [("error", "a run stops here"), ("drop", "the row is left out")])
def test_a_row_of_which_only_the_first_token_is_trained_says_what_a_run_does_with_it(of_file, shown, monkeypatch, on_bad_row, told):
    _, encoder = of_file(MIXED[0], on_bad_row=on_bad_row)
    monkeypatch.setattr(encoder.form, "encode_row", lambda _row: Encoded(input_ids=[1, 4, 5], trained=[True, False, False]))
    assert row_of(shown(encoder, "--format", "json"))["note"] == f"nothing of it is trained: {told}"


def test_a_row_beyond_the_end_is_a_fault(mixed, fault_of):
    assert fault_of(preview, mixed, parsed(["BUILD", "--source", "1", "--row", "3"])) == (
        "error SG491: synthetic: n (2) has 2 rows; there is no row 3\n  hint: rows are counted from 1: --row 1 to --row 2"
    )
    assert "has 3 rows; there is no row 4" in fault_of(preview, mixed, parsed(["BUILD", "--row", "4"]))


def test_an_unknown_source_is_a_fault_with_the_one_that_is_meant(mixed, fault_of, rows_file):
    assert fault_of(preview, mixed, parsed(["BUILD", "--source", "synthetic: m (2)"])) == (
        "error SG491: there is no source 'synthetic: m (2)'; the spec has 2 sources\n  hint: did you mean 'synthetic: n (2)'?"
    )
    assert fault_of(preview, mixed, parsed(["BUILD", "--source", "3"])) == (
        f"error SG491: there is no source '3'; the spec has 2 sources\n  hint: 1: synthetic: n (2); 2: {rows_file}"
    )


def test_a_row_that_lost_its_format_is_named(of_file, fault_of):
    file, encoder = of_file(MIXED[0])
    file.write_text(json.dumps({"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": None}]}), encoding="utf-8")
    fault = fault_of(preview, encoder, parsed(["BUILD"]))
    assert fault.startswith(f"error SG492: {file}:1: messages[1].content is null")


def test_a_row_that_the_template_refuses_is_named(of_file, fault_of):
    file, encoder = of_file(MIXED[0])
    guard = "{% if messages[0].content == 'Say it.' %}{{ raise_exception('roles must alternate') }}{% endif %}"
    encoder.tokenizer.chat_template = guard + encoder.tokenizer.chat_template
    encoder.form = row_format(encoder.tokenizer, encoder.config, system=None)
    assert fault_of(preview, encoder, parsed(["BUILD"])) == (
        f"error SG203: {file}:1: the chat template does not render this conversation: roles must alternate"
    )


def test_a_file_without_rows_is_a_fault(of_file, fault_of):
    file, encoder = of_file(MIXED[0])
    file.write_text("\n", encoding="utf-8")
    assert fault_of(preview, encoder, parsed(["BUILD"])) == f"error SG491: {file} has no rows"
    assert fault_of(preview, encoder, parsed(["BUILD", "--lengths"])) == "error SG491: there are no rows"


def test_a_row_near_the_beginning_of_a_long_file_needs_no_more_of_it(of_file, shown):
    file, encoder = of_file(*[MIXED[0]] * 3)
    with file.open("a", encoding="utf-8") as stream:
        stream.write("no row at all\n" * 300_000)
    assert row_of(shown(encoder, "--row", "3", "--format", "json"))["row"] == 3


def test_tokens_that_never_become_characters_are_shown_all_the_same():
    def decode(ids):
        return bytes(ids).decode("utf-8", "replace")

    tokens = [Token(id=byte, weight=0) for byte in b"a\xf0\x9f\x99\x82\xf0\x9f"]
    pieces = pieces_of(tokens, decode, frozenset())
    assert [piece.text for piece in pieces] == ["a", "🙂", "\ufffd"]
    assert sum(len(piece.tokens) for piece in pieces) == len(tokens)


def test_a_pack_shows_its_rows_one_after_another(compiled, carried_out, tmp_path, shown, fault_of):
    build = compiled(tmp_path, data={"packing": True})
    encoder = Encoder(configs.load(build))
    words = ["--runs-dir", str(tmp_path / "runs"), "--pack"]
    asked = parsed([str(build), *words, "1"])
    assert fault_of(preview, encoder, asked) == (
        f"error SG491: the packs of these data are not made yet in {tmp_path / 'runs' / 'tiny'}\n"
        "  hint: specgen run SPEC --stage data makes them"
    )
    carried_out(build, tmp_path / "runs", "data")
    out = shown(encoder, *words, "1", build=build)
    assert out.startswith("pack 1 of 2: 3 rows, 123 tokens of max_length 128 (96.1% full), 18 trained\n")
    assert re.findall(r"row \d in the pack: tokens .*", out) == [
        "row 1 in the pack: tokens 0 to 40",
        "row 2 in the pack: tokens 41 to 81",
        "row 3 in the pack: tokens 82 to 122",
    ]
    assert out.count("<|im_end|>]]") == 3
    assert fault_of(preview, encoder, parsed([str(build), *words, "3"])) == (
        "error SG491: there are 2 packs; there is no pack 3\n  hint: packs are counted from 1: --pack 1 to --pack 2"
    )


def test_data_that_are_not_packed_have_no_packs(mixed, fault_of):
    assert fault_of(preview, mixed, parsed(["BUILD", "--pack", "1"])) == (
        "error SG491: there are no packs: data.packing is false\n  hint: write data.packing: true"
    )


@given(text=st.text(max_size=40))
def test_the_pieces_of_any_text_are_that_text(mixed, text):
    ids = mixed.tokenizer(text, add_special_tokens=False)["input_ids"]
    pieces = mixed.pieces([Token(id=index, weight=0) for index in ids])
    assert "".join(piece.text for piece in pieces) == mixed.decode(ids)
    assert [token.id for piece in pieces for token in piece.tokens] == ids


def test_blanks_and_bytes_of_sentencepiece_are_put_together():
    # the decoder of Llama 2's tokenizer.json
    tokens = ["<unk>", "<s>", "</s>", "▁Hello", "▁world", "<0xE4>", "<0xBD>", "<0xA0>"]
    tokenizer = Tokenizer(models.WordLevel({token: index for index, token in enumerate(tokens)}, unk_token="<unk>"))
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(parts)
    tokenizer.add_special_tokens(["<s>", "</s>"])
    row = [Token(id=index, weight=0) for index in (1, 3, 4, 5, 6, 7, 2)]
    pieces = pieces_of(row, lambda ids: tokenizer.decode(ids, skip_special_tokens=False), frozenset({1, 2}))
    assert [piece.text for piece in pieces] == ["<s>", " Hello", " world", "你", "</s>"]


def test_options_that_exclude_each_other_are_refused(cli, root):
    done = cli("data", "preview", "specs/assistant.yaml", "--lengths", "--ids", cwd=root)
    assert done.code == 2
    assert "--lengths is about all rows" in done.err
    done = cli("data", "preview", "specs/assistant.yaml", "--html", "x.html", "--format", "json", cwd=root)
    assert done.code == 2
    assert "--html shows the ids by itself" in done.err


def test_a_fault_of_the_preview_ends_with_exit_code_2(root, process):
    done = process("data", "preview", "specs/assistant.yaml", "--source", "9", cwd=root)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error SG491: there is no source '9'; the spec has 2 sources\n")


def test_a_fault_of_ours_ends_with_exit_code_3(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["preview", "BUILD"])
    monkeypatch.setattr(program, "carry_out", lambda _arguments: {}["nothing"])
    assert program.main() == 3
    assert "KeyError: 'nothing'" in capsys.readouterr().err

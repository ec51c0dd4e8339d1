"""conversations/files.py and kinds.py: what a file is, told by its bytes; its rows with their numbers; and what is wrong with it."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import ipc, parquet

from conversations.files import chunks, matching_files, parse, text_lines
from conversations.kinds import describe
from conversations.problems import BadFile, Problem, unread

CASES = Path(__file__).parents[1] / "cases"
ROWS = [{"q": f"question {number}", "a": f"answer {number}"} for number in range(5)]
JSONL = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
TABLE = pa.Table.from_pylist(ROWS)


def read(path, **more):
    return [row for chunk in chunks(str(path), **more) for row in parse(chunk)]


def problem(path):
    """The only row's problem, as `number: text`."""
    ((number, row),) = read(path)
    assert isinstance(row, Problem), row
    return f"{number}:{row.column}: {row.text}"


def bad(path):
    with pytest.raises(BadFile) as raised:
        read(path)
    error = raised.value
    return (error.what, error.line, error.text, error.hint)


def arrow_file(path, *, stream=False):
    with (ipc.new_stream if stream else ipc.new_file)(str(path), TABLE.schema) as writer:
        writer.write_table(TABLE, max_chunksize=2)
    return path.read_bytes()


@pytest.fixture
def written(tmp_path):
    def write(content, name="data.bin"):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


@pytest.fixture
def every_kind(tmp_path):
    """The same rows in every kind of file, as bytes."""
    parquet.write_table(TABLE, tmp_path / "t", row_group_size=2)
    csv = "q,a\n" + "".join(f"{row['q']},{row['a']}\n" for row in ROWS)
    found = {"jsonl": JSONL, "json": json.dumps(ROWS, indent=1).encode(), "csv": csv.encode(), "parquet": (tmp_path / "t").read_bytes()}
    return {**found, "arrow": arrow_file(tmp_path / "f"), "arrow stream": arrow_file(tmp_path / "s", stream=True)}


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "parquet", "arrow", "arrow stream"])
def test_every_kind_is_told_by_its_bytes_packed_or_not_whatever_its_name(kind, every_kind, tmp_path):
    content = every_kind[kind]
    with pa.CompressedOutputStream(str(tmp_path / "packed"), "zstd") as packed:
        packed.write(content)
    packings = {"none": content, "gzip": gzip.compress(content), "zstd": (tmp_path / "packed").read_bytes()}
    for compression, packed_content in packings.items():
        for name in ("data", "data.json", "data.jsonl"):
            (tmp_path / name).write_bytes(packed_content)
            assert describe(str(tmp_path / name)) == (kind.split()[0], compression)
            found = read(tmp_path / name, rows=2)
            assert [row for _, row in found] == ROWS
            assert [number for number, _ in found][:1] == ([2] if kind == "csv" else [2] if kind == "json" else [1])


@pytest.mark.parametrize(
    ("text", "name", "kind"),
    [
        ('{"a": 1}\n{"a": 2}\n', "a.txt", "jsonl"),
        ('{\n "a": 1\n}\n', "a", "json"),
        ('\ufeff\n\n[{"a": 1}]', "a.jsonl", "json"),
        ("[]", "a", "json"),
        ('{"a": [1,],}\n{"a": 2}\n', "a", "jsonl"),
        ("{'a': 1}\n", "a", "jsonl"),
        ("{% raw %} is Jinja.\n", "a.md", "text"),
        ("[1] A list of sources\n", "a.txt", "text"),
        ("Hello, world.\nHow are you, friend?\n", "a", "text"),
        ("name,age\nAda,36\n", "a", "csv"),
        ("name;age\nAda;36\n", "a", "csv"),
        ("name\tage\nAda\t36\n", "a", "csv"),
        ("name,age\nAda,36\n", "a.txt", "text"),
        ("text\nA line.\n", "a.csv", "csv"),
        ("text\nA line.\n", "a", "text"),
        ("", "a.jsonl", "jsonl"),
        ("", "a.txt", "text"),
        ('"only a text"\n', "a.jsonl", "jsonl"),
    ],
)
def test_texts_are_told_apart(text, name, kind, written):
    assert describe(str(written(text, name))) == (kind, "none")


def test_numbers_of_lines_count_blank_ones_and_marks_and_line_ends_are_no_part_of_a_row(written):
    path = written(b'\xef\xbb\xbf{"a": 1}\r\n\r\n   \n{"a": "x\\r"}')
    assert read(path) == [(1, {"a": 1}), (4, {"a": "x\r"})]


def test_chunks_go_on_counting(written):
    path = written("".join(f'{{"a": {number}}}\n\n' for number in range(1, 8)))
    assert read(path, rows=3) == [(2 * number - 1, {"a": number}) for number in range(1, 8)]


def test_an_array_and_values_one_after_another_say_their_lines(written):
    assert read(written('[\n{"a": 1},\n\n {"a":\n2}, 3]\n')) == [(2, {"a": 1}), (4, {"a": 2}), (5, 3)]
    assert read(written('{\n"a": 1}\n{\n"a": 2\n} {"a": 3}')) == [(1, {"a": 1}), (3, {"a": 2}), (5, {"a": 3})]


def test_an_array_is_read_as_it_goes(written, monkeypatch):
    monkeypatch.setattr("conversations.json_values.BLOCK", 16)
    monkeypatch.setattr("conversations.json_values.SURE", 8)
    rows = [{"text": "ä" * size, "n": -1.5e3, "ok": [True, None]} for size in range(60)]
    found = read(written(json.dumps(rows, ensure_ascii=False, indent=1)))
    assert [row for _, row in found] == rows


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ('{"a": 1,}', "1:9: the line is not JSON: Expecting property name enclosed in double quotes"),
        ('{"a": 1} {"a": 2}', "1:10: the line is not JSON: a second value on the line"),
        ('{"a": NaN}', "1:1: NaN is no JSON number"),
        ('{"a": -Infinity}', "1:1: -Infinity is no JSON number"),
        ('{"a": {"role": 1, "role": 2}}', "1:1: an object has the key \"role\" twice"),
        ('{"a": "cut of', "1:7: the line is not JSON: Unterminated string starting"),
        ('{"a": ' + "9" * 5000 + "}", "1:1: a number in the line has too many digits"),
        ('{"a": ' + "[" * 100000, "1:1: the line is nested too deeply"),
        (b'{"a": "caf\xe9"}', "1:1: the line is not UTF-8: byte 0xe9 at column 11"),
    ],
)  # fmt: skip
def test_a_line_that_is_no_json_says_why_and_the_next_is_read(line, text, written):
    content = line if isinstance(line, bytes) else line.encode()
    assert problem(written(content, "a.jsonl")) == text
    assert read(written(content + b'\n{"a": 2}\n', "a.jsonl"))[1] == (2, {"a": 2})


def test_o02_arrays_and_lines_are_read_whatever_the_file_is_called():
    array = [row for _, row in read(CASES / "o02_array.json")]
    assert len(array) == 2
    for name in ("o02_array_named_jsonl.jsonl", "o02_lines_named_json.json"):
        assert [row for _, row in read(CASES / name)] == array


def test_o02_a_trailing_comma_names_its_line():
    assert bad(CASES / "o02_trailing_comma.json") == (
        "syntax", 25, "the file is not JSON: a comma after the last element", "take the comma away",
    )  # fmt: skip


def test_o02_two_objects_on_a_line_are_not_one_row():
    assert problem(CASES / "o02_two_objects_one_line.jsonl") == "1:146: the line is not JSON: a second value on the line"


@pytest.mark.parametrize(
    ("text", "line", "said", "hint"),
    [
        ('[\n{"a": 1}\n{"a": 2}]', 3, "the file is not JSON: a comma is missing between two elements", None),
        ('[\n{"a": 1},\n', 3, "the file is not JSON: Expecting value", None),
        ('[\n{"a": 1}\n', 3, "the file is not JSON: it ends within the array", None),
        ('[\n{"a": 1,\n}]', 3, "the file is not JSON: Expecting property name enclosed in double quotes", "take the comma away"),
        ('[{"a": 1}]\n{"b"', 2, "the file is not JSON: something follows after the array", None),
        ("[\n{'a': 1}]", 2, "the file is not JSON: Expecting property name enclosed in double quotes", None),
        ('[\n{"a": ' + "9" * 5000 + "}]", 2, "a number has too many digits", None),
        ("[\n" + "[" * 100000, 2, "a value is nested too deeply", None),
    ],
)
def test_an_array_that_is_no_json_says_where(text, line, said, hint, written):
    assert bad(written(text)) == ("syntax", line, said, hint)


def test_an_element_that_json_forbids_is_one_fault_and_the_others_are_read(written):
    found = read(written('[{"a": 1},\n{"a": 1, "a": 2},\n{"a": NaN}, {"a": 3}]'))
    assert found == [
        (1, {"a": 1}),
        (2, unread("a key twice", 'an object has the key "a" twice')),
        (3, unread("not JSON", "NaN is no JSON number")),
        (3, {"a": 3}),
    ]


def test_an_array_of_another_encoding_says_its_line(written):
    assert bad(written(b'[{"a": "x"},\n{"a": "caf\xe9"}]')) == ("encoding", 2, "the file is not UTF-8", None)


def test_csv_keeps_quotes_line_breaks_and_commas_in_texts(written):
    text = '\ufeffprompt,completion\r\n"Say ""hi"",\r\nplease",hi\r\n\r\nBye,"b,ye"\r\n'
    assert read(written(text, "a.csv")) == [
        (2, {"prompt": 'Say "hi",\r\nplease', "completion": "hi"}),
        (5, {"prompt": "Bye", "completion": "b,ye"}),
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_the_headers(delimiter, written):
    text = f"prompt{delimiter}completion\n{'a, b; c' if delimiter not in ',;' else 'a'}{delimiter}d\n"
    ((_, row),) = read(written(text, "a.csv"))
    assert row["completion"] == "d"


def test_a_csv_row_of_another_length_is_a_fault_of_that_row(written):
    found = read(written("q,a\nx,y,z\nu,v\n", "a.csv"))
    assert found == [(2, unread("another number of fields", "the row has 3 fields, and the header 2")), (3, {"q": "u", "a": "v"})]


def test_a_column_without_a_name_is_no_column(written):
    assert read(written(",q,a\n0,x,y\n", "a.csv")) == [(2, {"q": "x", "a": "y"})]


@pytest.mark.parametrize(
    ("content", "line", "said"),
    [
        ('q,a\n"x"y,z\n', 2, "the line is not CSV: ',' expected after '\"'"),
        ('q,a\nu,v\n"x,y\n', 3, "the line is not CSV: unexpected end of data"),
        ("q,q\nx,y\n", 1, "two columns are called q"),
        (b"q,a\nu,v\ncaf\xe9,z\n", 3, "the line is not UTF-8: byte 0xe9 at column 4"),
    ],
)
def test_csv_that_cannot_be_read_says_where(content, line, said, written):
    assert bad(written(content, "a.csv"))[1:3] == (line, said)


def test_a_text_file_is_one_document_or_several(written):
    assert read(written("\ufeffOne.\n\nStill one.\n", "a.txt")) == [(1, {"text": "One.\n\nStill one."})]
    found = read(written("One.\n<|endoftext|>\n\nTwo.\nTwo.\n<|endoftext|>\n", "a.txt"))
    assert found == [(1, {"text": "One."}), (3, {"text": "Two.\nTwo."})]
    assert read(written("\n \n", "a.txt")) == [(1, {"text": " "})]


def test_a_document_has_an_end(written, monkeypatch):
    monkeypatch.setattr("conversations.files.LONGEST_DOCUMENT", 100)
    assert bad(written("A line of text.\n" * 10, "a.txt"))[0] == "shape"
    assert bad(written("写" * 40, "a.txt"))[0] == "shape"  # 120 bytes
    assert len(read(written("w" * 40, "a.txt"))) == 1


def test_lines_of_a_text_have_numbers(written):
    assert list(text_lines(str(written("a\r\n\n b \n", "a.txt")))) == [(1, "a"), (3, " b ")]


def test_a_gzip_file_that_is_cut_off_gives_the_rows_before_and_then_a_fault(written):
    content = gzip.compress("".join(json.dumps({"n": number}) + "\n" for number in range(20000)).encode())
    path = written(content[:-2000])
    with pytest.raises(BadFile, match="its gzip data are damaged: they end early"):
        read(path)
    flipped = bytearray(content)
    flipped[-6] ^= 1
    assert bad(written(bytes(flipped)))[0] == "damaged"


def test_a_zstd_file_that_is_cut_off_is_a_fault(tmp_path):
    with pa.CompressedOutputStream(str(tmp_path / "a.zst"), "zstd") as packed:
        packed.write(JSONL * 1000)
    (tmp_path / "b").write_bytes((tmp_path / "a.zst").read_bytes()[:-40])
    assert bad(tmp_path / "b") == ("damaged", None, "its zstd data are damaged: Truncated compressed stream", "pack or copy it again")


def test_parquet_and_arrow_that_are_cut_off_are_faults(every_kind, written):
    for kind in ("parquet", "arrow", "arrow stream"):
        what, _, said, _ = bad(written(every_kind[kind][:-30]))
        assert what == "damaged"
        assert said.startswith("its Parquet data cannot be read: " if kind == "parquet" else "its Arrow data cannot be read: ")


def test_nulls_that_arrow_fills_in_are_not_there_and_texts_that_are_null_are(tmp_path):
    rows = [{"messages": [{"role": "user", "content": None}, {"role": "assistant", "content": "x", "name": "y"}], "id": None}]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "a")
    assert read(tmp_path / "a") == [
        (1, {"messages": [{"role": "user", "content": None}, {"role": "assistant", "content": "x", "name": "y"}], "id": None})
    ]


def test_maps_are_objects_and_a_value_that_is_no_text_is_a_fault_of_its_row(tmp_path):
    maps = pa.array([[("a", "b")]], pa.map_(pa.string(), pa.string()))
    parquet.write_table(pa.table({"m": maps}), tmp_path / "a")
    assert read(tmp_path / "a") == [(1, {"m": {"a": "b"}})]
    broken = pa.Array.from_buffers(pa.string(), 2, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0"), pa.py_buffer(b"x\xff")])
    parquet.write_table(pa.table({"t": broken}), tmp_path / "b")
    (_, first), (_, second) = read(tmp_path / "b")
    assert first == {"t": "x"}
    assert second.text == "the row cannot be read: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"


def test_what_datasets_saves_is_read(tmp_path):
    (tmp_path / "saved").mkdir()
    arrow_file(tmp_path / "saved" / "data-00000-of-00001.arrow", stream=True)
    (tmp_path / "saved" / "cache-1.arrow").write_bytes(b"other")
    (tmp_path / "saved" / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))
    (found,) = matching_files(str(tmp_path / "saved"))
    assert [row for _, row in read(found)] == ROWS
    assert matching_files(str(tmp_path)) == []


def test_patterns_name_files_in_order(written, tmp_path):
    for name in ("b.jsonl", "a.jsonl", "c.txt"):
        written("x", name)
    assert matching_files(f"{tmp_path}/*.jsonl") == [f"{tmp_path}/a.jsonl", f"{tmp_path}/b.jsonl"]
    assert matching_files(f"{tmp_path}/none*") == []


@pytest.mark.parametrize("wide", ["utf-16", "utf-16-le"])
def test_another_encoding_is_named(wide, written):
    what, line, said, hint = bad(written('{"a": "text"}\n'.encode(wide)))
    assert (what, line) == ("encoding", 1)
    assert said == ("the file is UTF-16" if wide == "utf-16" else "the file is UTF-16 without a byte order mark")
    assert hint.startswith("write it as UTF-8")


def test_a_file_that_is_no_data_is_named(written):
    assert bad(written(b"\x7fELF\0\0\1\2\3")) == (
        "encoding", 1, "the file is no text, and no data file that is known",
        "JSON, JSON Lines, CSV, Parquet, Arrow and text are read, each also as .gz or .zst",
    )  # fmt: skip


@pytest.mark.parametrize(("kind", "named"), [("parquet", "Parquet"), ("arrow", "Arrow")])
def test_pyarrow_that_is_not_installed_is_named(kind, named, every_kind, written, monkeypatch):
    path = written(every_kind[kind])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert bad(path) == ("library", None, f"{named} needs pyarrow, which is not installed", "pip install 'specgen[data]'")


def test_a_file_that_is_gone_or_a_folder_is_the_systems_error(tmp_path):
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(OSError):
            read(path)


@pytest.mark.parametrize("block", range(1, 6))
def test_a_number_that_goes_on_behind_what_has_been_read_is_one_number(written, monkeypatch, block):
    monkeypatch.setattr("conversations.json_values.BLOCK", block)
    numbers = "[1.5, 12.25, 1e+2, 12, -0.5E-1]"
    assert [row for _, row in read(written(numbers, "numbers.json"))] == json.loads(numbers)

"""python -m runtime.preview BUILD: shows rows of a compiled folder as the model sees them. Loads the tokenizer, never the model."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.faults import FAILED, exit_code_of
from runtime.starting import in_utf8, quiet
from runtime.unused import without_torch

if TYPE_CHECKING:
    from runtime.preview.read import Named
    from runtime.preview.rows import Encoder


def main() -> int:
    """The program: shows rows, lengths or a pack, or writes the page. Returns the exit code."""
    arguments = parsed(sys.argv[1:])
    quiet()
    return exit_code_of(lambda: carry_out(arguments))


def carry_out(arguments: argparse.Namespace) -> int:
    """Shows what is asked for of a compiled folder. Returns the exit code. Raises RunFault."""
    from runtime import config as configs
    from runtime.preview.rows import Encoder

    config = configs.load(arguments.build)
    without_torch(config)
    try:
        preview(Encoder(config), arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # what reads has seen enough: head, or a pager that was left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    return 0


def parsed(words: list[str]) -> argparse.Namespace:
    """The arguments of the command line."""
    parser = argparse.ArgumentParser(prog="python -m runtime.preview", description="Shows rows as the model sees them.")
    parser.add_argument("build", type=Path, metavar="BUILD", help="a folder that specgen compile wrote")
    parser.add_argument("--source", default=None, help="only this source, by name or number")
    parser.add_argument("--row", type=int, default=1, help="begin with this row of a source, counted from 1")
    parser.add_argument("--rows", type=int, default=None, help="so many rows of each source")
    parser.add_argument("--ids", action="store_true", help="the tokens in a table, too")
    parser.add_argument("--lengths", action="store_true", help="how long rows are, instead")
    parser.add_argument("--pack", type=int, default=None, help="the rows of this pack of a run, instead")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"), help="where run folders are; default: runs")
    parser.add_argument("--html", type=Path, default=None, help="write a page, instead")
    parser.add_argument("--format", choices=["text", "json"], default="text")
    return parser.parse_args(words)


def preview(encoder: Encoder, arguments: argparse.Namespace) -> None:
    """Shows what is asked for. Raises RunFault."""
    from runtime.preview.read import named_sources
    from runtime.preview.rows import chosen

    if arguments.pack is not None:
        _print_pack(arguments, encoder)
        return
    sources = chosen(named_sources(encoder.config), arguments.source)
    if arguments.html is not None:
        _write_page(arguments, encoder, sources)
    elif arguments.lengths:
        _print_lengths(arguments, encoder, sources)
    else:
        _print_rows(arguments, encoder, sources)
    if encoder.note:
        print(f"note: {encoder.note}", file=sys.stderr)


def _print_rows(arguments: argparse.Namespace, encoder: Encoder, sources: list[Named]) -> None:
    from runtime.preview.rows import picked
    from runtime.preview.spans import as_data
    from runtime.preview.text import Printer, write_row

    out = Printer()
    first, max_length = arguments.row, encoder.config.data.max_length
    found = picked(sources, first=first, count=arguments.rows or 1, strict=arguments.source is not None)
    for index, shown in enumerate(shown for source, row in found for shown in encoder.shown(row, source)):
        if arguments.format == "json":
            print(json.dumps(as_data(shown, max_length), ensure_ascii=False))
            continue
        if index:
            out.write([])
        write_row(out, shown, encoder, ids=arguments.ids)


def _print_pack(arguments: argparse.Namespace, encoder: Encoder) -> None:
    from runtime.preview.packs import read_pack
    from runtime.preview.text import Printer, write_pack

    write_pack(Printer(), read_pack(encoder.config, arguments.build, arguments.runs_dir, arguments.pack), encoder)


def _print_lengths(arguments: argparse.Namespace, encoder: Encoder, sources: list[Named]) -> None:
    from runtime.preview.lengths import SAMPLE, as_data
    from runtime.preview.rows import measured
    from runtime.preview.text import Printer, write_lengths

    lengths = measured(encoder, sources, arguments.rows or SAMPLE)
    if arguments.format == "json":
        print(json.dumps(as_data(lengths)))
    else:
        write_lengths(Printer(), lengths)


def _write_page(arguments: argparse.Namespace, encoder: Encoder, sources: list[Named]) -> None:
    from runtime.preview.lengths import SAMPLE
    from runtime.preview.page import PAGE_ROWS, write_page

    written = write_page(
        arguments.html,
        encoder,
        sources,
        first=arguments.row,
        count=arguments.rows or PAGE_ROWS,
        sample=SAMPLE,
        strict=arguments.source is not None,
    )
    print(f"wrote {arguments.html} ({written} row{'s' if written != 1 else ''})")


if __name__ == "__main__":
    in_utf8("runtime.preview")
    sys.exit(main())

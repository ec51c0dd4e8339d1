"""docs/architecture.svg is what the code makes it."""

from __future__ import annotations

from docsite.architecture import drawing, imports, layers


def test_the_drawing_is_fresh(root):
    assert (root / "docs" / "architecture.svg").read_text(encoding="utf-8") == drawing() + "\n"


def test_layers_are_those_that_are_held():
    assert [room.name for room in layers("runtime")[1]] == ["pipeline", "talker"]
    assert layers("conversations")[-1][0].purpose.startswith("A row")
    assert all(room.purpose for package in ("specgen", "runtime", "conversations") for layer in layers(package) for room in layer)


def test_what_is_imported_is_counted():
    assert imports("specgen", "runtime") == imports("runtime", "specgen") == imports("conversations", "specgen") == 0
    assert imports("runtime", "conversations") > 10

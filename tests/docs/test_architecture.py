"""docs/architecture.svg is what the code makes it."""

from __future__ import annotations

from docsite.architecture import LETTER, drawing, imports, in_rows, layers, modules, shown, upward


def test_the_drawing_is_fresh(root):
    assert (root / "docs" / "architecture.svg").read_text(encoding="utf-8") == drawing() + "\n"


def test_layers_are_those_that_are_held():
    assert [room.name for room in layers("runtime")[5]] == ["evaluation", "preview", "plugins"]
    assert layers("conversations")[-1][0].purpose.startswith("A row")
    assert all(room.purpose for package in ("specgen", "runtime", "conversations") for layer in layers(package) for room in layer)


def test_what_is_imported_is_counted():
    assert imports("specgen", "runtime") == imports("runtime", "specgen") == imports("conversations", "specgen") == 0
    assert imports("runtime", "conversations") > 10


def test_a_box_says_as_much_as_has_room():
    purpose = "The one text: read, and `held`; nothing else. More stands here."
    said = [shown(purpose, 13 + LETTER * letters) for letters in (42, 28, 14, 12, 5)]
    assert said == ["The one text: read, and held; nothing else", "The one text: read, and held", "read, and held", "The one text", ""]


def test_rows_of_a_layer_are_even():
    assert [[len(row) for row in in_rows(list(range(number)))] for number in (1, 3, 4, 6, 8)] == [[1], [3], [2, 2], [3, 3], [2, 3, 3]]


def test_what_the_layers_leave_out_is_counted():
    total, layered = modules("runtime")
    assert total > layered > 0
    assert upward() == 3

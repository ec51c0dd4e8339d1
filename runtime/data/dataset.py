"""Tokenized rows on disk and in batches.

Flat arrays in files of their own, written as the rows come and mapped into memory when they are read: neither takes more
memory for more rows. An example is on disk once; how often it counts is an order of numbers. Where rows are packed, `packs`
says which places of that order go together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from runtime.data.joining import Joined
from runtime.data.packing import Packing
from runtime.vision.pictures import Picture

if TYPE_CHECKING:
    import numpy as np
    import torch

    Array = np.ndarray[Any, Any]

# Little-endian, without a header. `bounds` are E + 1 places in the first three, for E examples; `weights` are there only where
# a trained token counts another weight than 1. `train` and `validation` are numbers of examples, repeated as they count;
# `packs` are places in `train`, and `pack_bounds` places in `packs`. Of texts that are joined there are `pieces` instead of `packs`:
# [P, 2], each the tokens from here up to there (joining.py). Of a model that sees, `image_bounds` are E + 1 places in its images,
# and of I images `reference_bounds` I + 1 places in `references`, which are the SHA-256 of a picture's bytes in hex and its path in
# UTF-8, one behind the other; without a path it is a file of that name in the folder `pictures`.
FILES = {
    "input_ids": "<i4",
    "trained": "u1",
    "weights": "<f4",
    "bounds": "<i8",
    "train": "<i8",
    "validation": "<i8",
    "packs": "<i8",
    "pieces": "<i8",
    "pack_bounds": "<i8",
    "image_bounds": "<i8",
    "reference_bounds": "<i8",
    "references": "u1",
}
PICTURES = "pictures"
SHA256 = 64  # letters
IGNORED = -100  # the label that cross entropy leaves out
BLOCK = 1 << 20

InLine = Literal["nothing", "packs", "all"]  # what of a batch lies in one line, without padding


class Writer:
    """Writes examples into a folder as they come, between `with` and its end."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.tokens, self.images, self.letters = folder, 0, 0, 0
        self._files: dict[str, IO[bytes]] = {name: _file(folder, name).open("wb") for name in ("input_ids", "trained", "bounds")}
        self._write("bounds", [0])

    def add(self, input_ids: Array, trained: Array, weights: Array | None, lengths: Array) -> None:
        """Examples, one behind another: `input_ids`, `trained` and `weights` [T] in all, `lengths` [E]."""
        import numpy as np

        if weights is not None and "weights" not in self._files:
            self._begin_weights()
        self._write("input_ids", input_ids)
        self._write("trained", trained)
        if "weights" in self._files:
            self._write("weights", trained if weights is None else weights)
        self._write("bounds", self.tokens + np.cumsum(lengths, dtype=np.int64))
        self.tokens += len(input_ids)

    def show(self, pictures: Sequence[Picture], seen: Array) -> None:
        """The pictures of the examples that were added last, `seen` [E] of them in each."""
        import numpy as np

        if "references" not in self._files:
            for name in ("image_bounds", "reference_bounds", "references"):
                self._files[name] = _file(self.folder, name).open("wb")
            self._write("image_bounds", [0])
            self._write("reference_bounds", [0])
        references = [(picture.sha256 + picture.path).encode("utf-8", "surrogateescape") for picture in pictures]
        for picture in pictures:
            if picture.content is not None:
                (self.folder / PICTURES).mkdir(exist_ok=True)
                (self.folder / PICTURES / picture.sha256).write_bytes(picture.content)
        self._files["references"].write(b"".join(references))
        ends = self.letters + np.cumsum([len(reference) for reference in references], dtype=np.int64)
        self._write("reference_bounds", ends)
        self._write("image_bounds", self.images + np.cumsum(seen, dtype=np.int64))
        self.images += len(references)
        self.letters += sum(map(len, references))

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            file.close()

    def finish(self, train: Array | Sequence[int], validation: Array | Sequence[int], packs: Packing | Joined | None) -> None:
        """Writes what counts: numbers of examples, with repetitions, and what is packed of the first of the two."""
        import numpy as np

        orders = {"train": train, "validation": validation}
        if isinstance(packs, Joined):
            orders |= {"pieces": np.stack([packs.starts, packs.ends], axis=1), "pack_bounds": packs.bounds}
        elif packs is not None:
            orders |= {"packs": packs.rows, "pack_bounds": packs.bounds}
        for name, order in orders.items():
            self._files[name] = _file(self.folder, name).open("wb")
            self._write(name, order)

    def _begin_weights(self) -> None:
        """Every token so far counts 1 where it is trained."""
        self._files["trained"].flush()
        self._files["weights"] = _file(self.folder, "weights").open("wb")
        with _file(self.folder, "trained").open("rb") as file:
            while block := file.read(BLOCK):
                self._write("weights", list(block))

    def _write(self, name: str, values: Array | Sequence[int]) -> None:
        import numpy as np

        self._files[name].write(np.ascontiguousarray(values, dtype=FILES[name]).data)


class Rows:
    """A map-style data set of one split: `rows[i]` is {"input_ids": int32 [T], "trained": uint8 [T]}, and "weights", float32
    [T], if the data set has them; of one with images "images", a list of Pictures. It holds no more than the mapped files, and is sent
    to other processes as their names."""

    def __init__(self, folder: Path, split: str) -> None:
        self.folder, self.split = folder, split
        self.arrays = {name: _mapped(folder, name) for name in FILES if _file(folder, name).exists()}
        self.order = self.arrays[split]
        self._flat = [name for name in ("input_ids", "trained", "weights") if name in self.arrays]

    def __reduce__(self) -> tuple[type[Rows], tuple[Path, str]]:
        return Rows, (self.folder, self.split)

    def __len__(self) -> int:
        return len(self.order)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row, in order."""
        bounds = self.arrays["bounds"]
        lengths: list[int] = (bounds[self.order + 1] - bounds[self.order]).tolist()
        return lengths

    @property
    def longest(self) -> int:
        """Tokens of the longest example of both splits."""
        bounds = self.arrays["bounds"]
        return int((bounds[1:] - bounds[:-1]).max())

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = self.order[index]
        found: dict[str, Any] = self.tokens(self.arrays["bounds"][row], self.arrays["bounds"][row + 1])
        return {**found, "images": self._pictures(row)} if "image_bounds" in self.arrays else found

    def _pictures(self, row: int) -> list[Picture]:
        """The pictures of an example."""
        bounds, letters = self.arrays["reference_bounds"], self.arrays["references"]
        found = []
        for image in range(*self.arrays["image_bounds"][row : row + 2]):
            text = letters[bounds[image] : bounds[image + 1]].tobytes().decode("utf-8", "surrogateescape")
            sha256, path = text[:SHA256], text[SHA256:]
            found.append(Picture(path or str(self.folder / PICTURES / sha256), sha256))
        return found

    def tokens(self, start: int, end: int) -> dict[str, Array]:
        """The tokens of the flat arrays from `start` up to `end`."""
        return {name: self.arrays[name][start:end] for name in self._flat}


class Packs:
    """Packed training rows: `packs[i]` has position_ids, int64 [T], too, which start again at each row.

    The first token of a row is not trained: nothing of its own row predicts it.
    """

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.bounds = rows.arrays["pack_bounds"]
        self.pieces = rows.arrays["pieces"].reshape(-1, 2) if "pieces" in rows.arrays else None

    def __reduce__(self) -> tuple[type[Packs], tuple[Rows]]:
        return Packs, (self.rows,)

    def __len__(self) -> int:
        return len(self.bounds) - 1

    @property
    def longest(self) -> int:
        """Tokens of the longest pack, or of the longest row of both splits."""
        import numpy as np

        if self.pieces is None:
            lengths = np.diff(self.rows.arrays["bounds"])[self.rows.order][self.rows.arrays["packs"]]
        else:
            lengths = self.pieces[:, 1] - self.pieces[:, 0]
        return max(self.rows.longest, int(np.add.reduceat(lengths, self.bounds[:-1]).max()))

    def __getitem__(self, index: int) -> dict[str, Any]:
        here = slice(self.bounds[index], self.bounds[index + 1])
        if self.pieces is None:
            rows = [self.rows[place] for place in self.rows.arrays["packs"][here]]
        else:
            rows = [self.rows.tokens(start, end) for start, end in self.pieces[here]]
        return _pack(rows)


def load_rows(folder: Path) -> tuple[Rows | Packs, Rows]:
    """The training rows, packed if they were, and the validation rows (maybe none) of a data stage's output."""
    train = Rows(folder, "train")
    return Packs(train) if "pack_bounds" in train.arrays else train, Rows(folder, "validation")


def sha256_of(folder: Path) -> str:
    """One hash, in hex, of all rows and their order: of every file of the data set."""
    found = hashlib.sha256()
    for name in FILES:
        if _file(folder, name).exists():
            with _file(folder, name).open("rb") as stream:
                found.update(name.encode() + hashlib.file_digest(stream, "sha256").digest())
    return found.hexdigest()


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name}.bin"


def _mapped(folder: Path, name: str) -> Array:
    import numpy as np

    file = _file(folder, name)
    if not file.stat().st_size:
        return np.zeros(0, dtype=FILES[name])  # nothing cannot be mapped
    # as a plain array: slices of a memmap cost several times as much
    return np.asarray(np.memmap(file, dtype=FILES[name], mode="r"))


def collate(
    rows: Sequence[dict[str, Any]],
    *,
    pad_id: int,
    in_line: InLine = "nothing",
    look: Callable[[list[Picture]], torch.Tensor] | None = None,
) -> dict[str, torch.Tensor]:
    """Rows as a right-padded batch: input_ids and labels, int64 [B, T], each row's number of real tokens, int64 [rows], and the weights
    of the labels, float32 [B, T], if the rows have them; if they have images, what `look` makes of all of them in the order in
    which they stand in the rows: pixel_values, float32 [I, 3, H, W].

    Padding is known by position, never by its id: where pad and end of turn are one token, the latter stays trained. Rows
    come with an attention_mask; packs with position_ids instead, in which the padding is a row of its own. Without any padding come
    packs `in_line`, or packs and rows: one after another, with position_ids (packing.py).
    """
    import torch

    tokens = torch.tensor([len(row["input_ids"]) for row in rows])
    if "position_ids" in rows[0] and in_line != "nothing":
        rows = [_one_line(rows)]
    elif in_line == "all":
        rows = [_pack(rows)]
    lengths = [len(row["input_ids"]) for row in rows]
    input_ids_BT = torch.full((len(rows), max(lengths)), pad_id)
    labels_BT = torch.full_like(input_ids_BT, IGNORED)
    attention_mask_BT = torch.zeros_like(input_ids_BT)
    position_ids_BT = torch.zeros_like(input_ids_BT)
    for index, (row, length) in enumerate(zip(rows, lengths, strict=True)):
        ids_T = torch.as_tensor(row["input_ids"].astype("int64"))
        trained_T = torch.as_tensor(row["trained"].astype(bool))
        input_ids_BT[index, :length] = ids_T
        labels_BT[index, :length] = torch.where(trained_T, ids_T, IGNORED)
        attention_mask_BT[index, :length] = 1
        if "position_ids" in row:
            position_ids_BT[index, :length] = torch.as_tensor(row["position_ids"])
            position_ids_BT[index, length:] = torch.arange(max(lengths) - length)
    batch = {"position_ids": position_ids_BT} if "position_ids" in rows[0] else {"attention_mask": attention_mask_BT}
    if "weights" in rows[0]:
        batch["weights"] = weights_BT = torch.zeros(input_ids_BT.shape)
        for index, (row, length) in enumerate(zip(rows, lengths, strict=True)):
            weights_BT[index, :length] = torch.tensor(row["weights"])
    pictures = [picture for row in rows for picture in row.get("images", ())]
    if look is not None and pictures:
        batch["pixel_values"] = look(pictures)
    return {"input_ids": input_ids_BT, **batch, "labels": labels_BT, "tokens": tokens}


def rows_in(batch: Mapping[str, torch.Tensor]) -> list[torch.Tensor]:
    """The ids of each row, or pack, of a batch; with their padding, where it has any."""
    input_ids_BT, tokens = batch["input_ids"], batch["tokens"]
    return list(input_ids_BT) if len(input_ids_BT) == len(tokens) else list(input_ids_BT[0].split(tokens.tolist()))


def _pack(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Rows one behind another, with position_ids; the first token of each is not trained."""
    import numpy as np

    lengths = [len(row["input_ids"]) for row in rows]
    pack = _one_line(rows)
    for name in pack.keys() - {"input_ids", "images"}:
        pack[name][np.cumsum([0, *lengths[:-1]])] = 0
    return {**pack, "position_ids": np.concatenate([np.arange(length) for length in lengths])}


def _one_line(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Rows, or packs, one behind another."""
    import numpy as np

    found = {name: np.concatenate([row[name] for row in rows]) for name in rows[0] if name != "images"}
    images = [picture for row in rows for picture in row.get("images", ())]
    return {**found, "images": images} if "images" in rows[0] else found

"""Sizes as people write and read them."""

from __future__ import annotations

BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}  # of a number in each dtype
UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "MiB": 2**20, "GiB": 2**30}


def size_in_bytes(text: str) -> int:
    """`8GiB` or `2GB` in bytes."""
    number = text.rstrip("KMGiB")
    return round(float(number) * UNITS[text[len(number) :]])


def size(number: int) -> str:
    """Bytes as people read them, in powers of ten: weights and files."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if number >= factor:
            return f"{number / factor:.1f} {unit}"
    return f"{number} B"


def shortest(number: float) -> str:
    """A number in the fewest characters, so that 2.0e-4 and 0.0002 read alike: 2e-4, 0.05, 3."""
    written = next(text for places in range(17) if float(text := f"{number:.{places}e}") == number)
    mantissa, _, exponent = written.partition("e")
    return min(repr(number).removesuffix(".0"), f"{mantissa}e{int(exponent)}", key=len)


def gib(number: int) -> str:
    """Bytes in GiB, as memory is counted."""
    return f"{number / 2**30:.2f} GiB"


def merging_bytes(parameters: int) -> int:
    """Memory of the stage merge, which compares the whole model in float32 with what was trained."""
    return 4 * parameters

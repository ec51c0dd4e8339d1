"""The stages of a run in their order, and which others each needs: as the runtime has them."""

NEEDS: dict[str, tuple[str, ...]] = {
    "data": (),
    "train": ("data",),
    "convert": ("train",),
    "merge": ("convert",),
    "smoke": ("merge",),
    "eval": ("merge",),
    "export": ("merge",),
    "report": ("data", "train", "convert", "merge", "smoke", "eval", "export"),
}
STAGES = tuple(NEEDS)
TESTS = ("smoke", "eval")  # those that a model can fail

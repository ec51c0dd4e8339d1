"""A pack of a run: which rows stand in it, one after another. Packs are known once the data stage is done."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from runtime.config import Config
from runtime.data.dataset import Packs, load_rows
from runtime.faults import WRONG, RunFault
from runtime.preview.pieces import Pack, Token
from runtime.run.graph import stages
from runtime.stages import is_done, keys


def read_pack(config: Config, build: Path, runs_dir: Path, number: int) -> Pack:
    """Pack `number` of the data stage's output. Raises RunFault where there is none."""
    folder = runs_dir / config.name
    if not config.data.packing:
        raise RunFault("SG491", "there are no packs: data.packing is false", "write data.packing: true", exit_code=WRONG)
    if not is_done(folder, "data", keys(stages(build)[:1], config)["data"]):
        hint = "specgen run SPEC --stage data makes them"
        raise RunFault("SG491", f"the packs of these data are not made yet in {folder}", hint, exit_code=WRONG)
    packs, _ = load_rows(folder / "data")
    assert isinstance(packs, Packs)
    if not 1 <= number <= len(packs):
        hint = f"packs are counted from 1: --pack 1 to --pack {len(packs)}"
        raise RunFault("SG491", f"there are {len(packs):,} packs; there is no pack {number}", hint, exit_code=WRONG)
    arrays = packs[number - 1]
    ids, weights = arrays["input_ids"].tolist(), arrays.get("weights", arrays["trained"]).tolist()
    tokens = [Token(id=index, weight=float(weight)) for index, weight in zip(ids, weights, strict=True)]
    starts = [place for place, position in enumerate(arrays["position_ids"].tolist()) if position == 0]
    rows = tuple(tuple(tokens[start:end]) for start, end in pairwise([*starts, len(tokens)]))
    return Pack(number=number, packs=len(packs), rows=rows)

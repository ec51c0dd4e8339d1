"""Plan → files, through Jinja; then read back and compared with the plan."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any

from specgen import quoting, sizes
from specgen.facts.gather import Facts
from specgen.memory.zero import bucket_size, swap_buffer
from specgen.plan import Plan, to_plain
from specgen.source import parse
from specgen.summary import summarise
from specgen.trainable import trainable_parameters

if TYPE_CHECKING:
    from jinja2 import Environment

    from specgen.memory import MemoryPlan

Files = dict[str, str]


def render(plan: Plan, facts: Facts, measured: MemoryPlan | None = None) -> Files:
    """The compiled folder: file name → text. The same plan and facts give the same text everywhere."""
    names = ["config.yaml", *(["deepspeed.json"] if plan.distributed.zero_stage else []), "launch.sh"]
    trained = trainable_parameters(plan, facts.model) if facts.model else None
    sizes_of_zero = {"bucket_size": bucket_size(trained), "swap_buffer": swap_buffer(plan, facts.model.tensors if facts.model else {})}
    files = {name: _template(name).render(plan=plan, **sizes_of_zero) for name in names}
    if plan.distributed.deepspeed and "deepspeed.json" in files:
        files["deepspeed.json"] = _laid_over(files["deepspeed.json"], plan.distributed.deepspeed)
    files["plan.md"] = _template("plan.md").render(plan=plan, **summarise(plan, facts, measured))
    _read_back(files, plan)
    return files


def render_text(name: str, **values: Any) -> str:
    """One file from its template. A YAML file is read back, twice, as what it says has to be the same to every reader."""
    text: str = _template(name).render(**values)
    if name.endswith(".yaml"):
        import yaml

        ours, theirs = parse(text, name).plain(), yaml.load(text, Loader=yaml.CSafeLoader)
        assert ours == theirs, _difference(ours, theirs)
    return text


def _laid_over(derived: str, own: dict[str, Any]) -> str:
    """DeepSpeed's settings with the spec's own over them, key by key."""
    return json.dumps(_merged(json.loads(derived), own), ensure_ascii=False, indent=2) + "\n"


def _merged(base: Any, over: Any) -> Any:
    if isinstance(base, dict) and isinstance(over, dict):
        return {**base, **{key: _merged(base.get(key), value) for key, value in over.items()}}
    return over


def _template(name: str) -> Any:
    return _environment().get_template(name + ".j2")


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    from specgen.places import data_folder

    environment = Environment(
        loader=FileSystemLoader(data_folder("templates"), encoding="utf-8"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701  (every value goes through a filter of quoting.py)
    )
    environment.filters.update(
        scalar=quoting.scalar,
        block=quoting.block,
        json=quoting.as_json,
        shell=quoting.shell,
        cell=quoting.cell,
        comment=quoting.comment,
        count=quoting.count,
        bars=quoting.bars,
        gib=sizes.gib,
        bytes=sizes.size,
    )
    return environment


def _read_back(files: Files, plan: Plan) -> None:
    """A difference here is a fault of ours: some value was quoted wrongly."""
    import yaml

    expected = to_plain(plan)
    ours = parse(files["config.yaml"], "config.yaml").plain()
    assert ours == expected, _difference(ours, expected)
    theirs = yaml.load(files["config.yaml"], Loader=yaml.CSafeLoader)  # YAML 1.1, as the runtime reads it
    assert theirs == expected, _difference(theirs, expected)
    if "deepspeed.json" in files:
        settings = json.loads(files["deepspeed.json"])
        assert settings["zero_optimization"]["stage"] == plan.distributed.zero_stage, settings
        assert settings["train_batch_size"] == plan.train.batch_size, settings


def _difference(found: Any, expected: Any, path: str = "config") -> str:
    if isinstance(found, dict) and isinstance(expected, dict):
        for key in expected.keys() | found.keys():
            if found.get(key) != expected.get(key):
                return _difference(found.get(key), expected.get(key), f"{path}.{key}")
    return f"{path}: {found!r} instead of {expected!r}"

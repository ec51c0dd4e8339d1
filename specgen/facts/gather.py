"""Collects all facts that a spec refers to. What is missing or broken comes back as diagnostics."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import itertools
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from conversations.mixing import Mix, counts, held_out, number_held_out, shares_fault, totals
from conversations.row import Row
from conversations.templates import library
from specgen.diagnostics import Diagnostic, printable
from specgen.facts.figures import DataFigures
from specgen.facts.llm import llm_facts
from specgen.facts.model import MissingBase, ModelFacts, parse_base, read_model_facts
from specgen.facts.rows import matching_files, missing_pictures, read_rows, shape_faults
from specgen.facts.rowtable import Look, RowTable
from specgen.facts.survey import NOT_TESTED, Counted, Survey, Tested, survey, tested
from specgen.facts.synthetic import Rules
from specgen.facts.template import in_use
from specgen.facts.tower import NoTower, TowerFacts, read_tower_facts, seeing
from specgen.limits import TooMuch, limited
from specgen.plan import DataFile, FileVariable, HubBase, LocalBase, PackageBase, TemplatePlan
from specgen.reading import regular
from specgen.source import Node

LONGEST_SEARCH = 2  # seconds
# what reading a model's files raises where they hold something else than they should
UNREADABLE = (ValueError, OSError, KeyError, TypeError, AttributeError, RecursionError)
SOURCES = (("data", "sources"), ("data", "validation", "sources"), ("eval", "sources"))
# all of a spec that facts are read from, or by
READ = (
    ("model", "base"),
    ("model", "vision"),
    ("template",),
    ("data",),
    ("smoke",),
    ("eval",),
    ("train", "seed"),
    ("train", "preview"),
)


def source_lists(tree: Node) -> tuple[list[Node], list[Node], list[Node]]:
    """The sources of training, those of validation, and those of the evaluation."""
    own, validation, asked = (tree.at(*path) for path in SOURCES)
    return own.items if own else [], validation.items if validation else [], asked.items if asked else []


def reads_facts(path: Sequence[str | int]) -> bool:
    """Whether facts may change with the value at a path: it is one that they depend on, or in one, or around one."""
    return any(all(one == other for one, other in zip(part, path, strict=False)) for part in READ)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFacts:
    """`table` has a source's rows before mixing, `counts` how often each of them is in the data set; None where they are not at hand.

    `own_rows` is how many rows it has before mixing, `rows` after; None where only the hub or another model can tell. Of a source on
    the hub a lock knows `own_rows` and `revision`; of one that another model writes only `requests` is known. `variables` are those
    whose values are in files. `images` is the folder that relative paths of a file's images start at, where the model sees.
    """

    table: RowTable | None
    images: str | None = None
    files: tuple[DataFile, ...] = ()
    own_rows: int | None = None
    revision: str | None = None
    variables: dict[str, FileVariable] = field(default_factory=dict)
    requests: int = 0
    counts: array[int] | None = None
    rows: int | None = None

    @property
    def texts(self) -> list[Row]:
        """The first rows, as far as they are in the data set."""
        return [row for row, count in zip(self.table.texts, self.counts or (), strict=False) if count] if self.table else []


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionFacts:
    """`tower` is None for one on the hub that nobody knows."""

    base: PackageBase | HubBase | LocalBase
    tower: TowerFacts | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """`model` is None for a base on the hub that nobody knows, `vision` where it sees nothing. `survey` covers all rows at hand.

    `held_out_known` is false where rows are held out that are not at hand. `rows_are_examples` says whether each row is one
    training example: neither packed nor parted nor, maybe, dropped. `task_files` has the SHA-256 of each file that eval.tasks name.
    """

    base: PackageBase | HubBase | LocalBase
    model: ModelFacts | None
    vision: VisionFacts | None
    template: TemplatePlan
    sources: tuple[SourceFacts, ...]
    validation_sources: tuple[SourceFacts, ...]
    eval_sources: tuple[SourceFacts, ...]
    tested: Tested
    task_files: dict[str, str]
    held_out_known: bool
    rows_are_examples: bool
    survey: Survey
    figures: DataFigures | None

    @property
    def source_lists(self) -> tuple[tuple[SourceFacts, ...], ...]:
        """The sources of training, those of validation, and those of the evaluation."""
        return self.sources, self.validation_sources, self.eval_sources

    @property
    def rows(self) -> int | None:
        """Rows of all sources, or None where one of them is not known."""
        rows = [source.rows for source in self.sources]
        return None if None in rows else sum(row for row in rows if row is not None)

    @property
    def rows_at_hand(self) -> bool:
        """Whether all rows could be looked at."""
        return all(source.table is not None and source.counts is not None for source in self.sources)

    @property
    def train_rows(self) -> int | None:
        """Rows without those held out, or None where that is not known."""
        if self.rows is None or not self.held_out_known:
            return None
        return self.survey.trained_rows if self.rows_at_hand else self.rows

    @property
    def examples(self) -> int | None:
        """What training sees in an epoch, or None where only the tokenizer can tell."""
        if self.figures is not None:
            return self.figures.examples
        return self.train_rows if self.rows_are_examples else None

    def first_rows(self, most: int) -> list[Row]:
        """The first rows of the data set, source by source."""
        return list(itertools.islice((row for source in self.sources for row in source.texts), most))

    @property
    def template_written(self) -> str | None:
        """The chat template's Jinja text, where it can be known."""
        if self.template.name != "tokenizer":
            return self.template.jinja
        return self.model.chat_template if self.model else None

    @property
    def template_text(self) -> str | None:
        """The same as it is used: with the begin of text that the tokenizer puts before every text."""
        text, tokenizer = self.template_written, self.model.tokenizer if self.model else None
        if text is None or tokenizer is None:
            return text
        return in_use(text, bos=tokenizer.names.get("bos_token"), adds_bos=tokenizer.adds_bos)


def gather(tree: Node) -> tuple[Facts, list[Diagnostic]]:
    """Facts of a complete tree. With diagnostics, the facts are what could be had."""
    gatherer = _Gatherer(rules=Rules(seed=tree.number("train", "seed")))
    facts = gatherer.facts(tree)
    return facts, gatherer.faults


@dataclass(slots=True)
class _Gatherer:
    rules: Rules
    faults: list[Diagnostic] = field(default_factory=list)
    look: Look = field(default_factory=Look)
    drops: bool = False
    sees: bool = False

    def facts(self, tree: Node) -> Facts:
        base, model = self.model(tree.children["model"].children["base"])
        vision = self.vision(tree.children["model"].children["vision"])
        if model is not None and vision is not None:
            model = seeing(model, vision.tower)
        self.look = Look(controls=tuple(model.tokenizer.controls) if model and model.tokenizer else (), asked=tuple(_asked(tree)))
        template = self.template(tree.children["template"])
        data = tree.children["data"].children
        self.drops = data["on_bad_row"].value == "drop"
        self.sees = tree.children["model"].children["vision"].value is not None
        sources, validation, asked = (tuple(map(self.source, nodes)) for nodes in source_lists(tree))
        facts = Facts(
            base=base,
            model=model,
            vision=vision,
            template=template,
            sources=sources,
            validation_sources=validation,
            eval_sources=asked,
            tested=NOT_TESTED,
            task_files=_task_files(tree),
            held_out_known=True,
            rows_are_examples=_rows_are_examples(data),
            survey=survey((), (), (), asked=()),
            figures=None,
        )
        return mixed(tree, facts)

    def model(self, node: Node) -> tuple[PackageBase | HubBase | LocalBase, ModelFacts | None]:
        try:
            base = parse_base(str(node.value))
        except ValueError as error:
            self.fault("SG213", node, f"model.base is {node.value}: {error}")
            return LocalBase(path=str(node.value)), None
        try:
            return base, read_model_facts(base)
        except MissingBase as error:
            self.fault("SG211", node, str(error), error.install)
        except UNREADABLE as error:
            self.fault("SG212", node, f"the base model cannot be read: {error}")
        return base, None

    def vision(self, node: Node) -> VisionFacts | None:
        if node.value is None:
            return None
        tower = node.children["tower"]
        try:
            base = parse_base(str(tower.value))
        except ValueError as error:
            self.fault("SG213", tower, f"model.vision.tower is {tower.value}: {error}")
            return VisionFacts(base=LocalBase(path=str(tower.value)), tower=None)
        try:
            return VisionFacts(base=base, tower=read_tower_facts(base, select_layer=node.number("select_layer")))
        except MissingBase as error:
            self.fault("SG211", tower, str(error), error.install)
        except NoTower as error:
            hint = "give a CLIP or SigLIP model, such as hf:openai/clip-vit-large-patch14-336 or hf:google/siglip-so400m-patch14-384"
            self.fault("SG624", tower, f"model.vision.tower is no CLIP or SigLIP vision tower: {error}", hint)
        except UNREADABLE as error:
            self.fault("SG212", tower, f"the vision tower cannot be read: {error}")
        return VisionFacts(base=base, tower=None)

    def template(self, node: Node) -> TemplatePlan:
        if isinstance(node.value, str):
            if node.value == "tokenizer":
                return TemplatePlan(name=node.value, jinja=None, stop=())
            if (found := library().get(node.value)) is not None:
                return TemplatePlan(name=node.value, jinja=found.jinja, stop=found.stop)
            near = " or ".join(f"'{name}'" for name in difflib.get_close_matches(node.value, ["tokenizer", *library()]))
            hint = f"did you mean {near}?" if near else "specgen list --templates shows those that come along; or write {file: PATH}"
            self.fault("SG201", node, f"there is no template named '{node.value}'", hint)
            return TemplatePlan(name=node.value, jinja=None, stop=())
        kind, inner = next(iter(node.children.items()))
        if kind == "jinja":
            return TemplatePlan(name="inline", jinja=str(inner.value), stop=())
        path = Path(str(inner.value))
        try:
            return TemplatePlan(name=path.stem, jinja=regular(path).read_text(encoding="utf-8"), stop=())
        except UnicodeDecodeError:
            self.fault("SG202", inner, f"the template file {path} is not UTF-8 text")
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            self.fault("SG202", inner, f"the template file {printable(str(path))} cannot be read: {reason}", _looked_in())
        return TemplatePlan(name=path.stem, jinja=None, stop=())

    def source(self, node: Node) -> SourceFacts:
        kind, settings = next(iter(node.children.items()))
        if kind in ("file", "hub") and (wrong := list(shape_faults(settings))):
            self.faults += wrong
            return SourceFacts(table=None)
        if kind == "file":
            return self.files(settings)
        if kind == "llm":
            found, faults = llm_facts(settings, self.rules)
            self.faults += faults
            return SourceFacts(table=None, requests=found.requests, variables=found.variables)
        if kind != "synthetic":
            return SourceFacts(table=None)
        table = RowTable(self.look)
        if faults := self.rules.read(settings, table.add):
            self.faults += faults
            return SourceFacts(table=RowTable(self.look), own_rows=0)
        return SourceFacts(table=table, own_rows=len(table), variables=self.rules.file_variables(settings))

    def files(self, node: Node) -> SourceFacts:
        pattern = node.children["path"]
        try:
            with limited(LONGEST_SEARCH):
                paths = matching_files(str(pattern.value))
        except (OSError, ValueError, TooMuch) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            self.fault("SG205", pattern, f"{printable(str(pattern.value))} cannot be read: {reason}")
            return SourceFacts(table=RowTable(self.look), own_rows=0)
        if not paths:
            what = "no file matches" if any(c in str(pattern.value) for c in "*?[") else "there is no file"
            self.fault("SG205", pattern, f"{what} {pattern.value}", _looked_in())
        table = RowTable(self.look)
        images = self.images(node, paths)
        files: list[DataFile] = []
        for path in paths:
            try:
                found = read_rows(path, node, self.look, drop=self.drops, images=images)
            except OSError as error:
                self.fault("SG205", pattern, f"{path} cannot be read: {error.strerror}")
                continue
            self.faults += found.faults
            if images is not None:
                self.faults += missing_pictures(path, node, found.table, images=images, drop=self.drops)
            files.append(found.file)
            table.extend(found.table)
        return SourceFacts(table=table, images=images, files=tuple(files), own_rows=len(table))

    def images(self, node: Node, paths: list[str]) -> str | None:
        """The folder that a source's relative paths of images start at; None where the model sees nothing."""
        own = node.children["images"]
        if not self.sees:
            return None
        if own.value is not None:
            return str(own.value)
        folders = sorted({Path(path).parent.as_posix() for path in paths})
        if len(folders) > 1:
            message = f"the files of {node.text('path')} lie in {len(folders)} folders, {folders[0]} and {folders[1]} among them"
            self.fault("SG625", node.children["path"], message, "say with images: FOLDER where the paths of their images start")
        return folders[0] if folders else "."

    def fault(self, code: str, node: Node, message: str, hint: str | None = None) -> None:
        self.faults.append(Diagnostic(code=code, message=message, place=node.place or node.key, hint=hint))


def mixed(tree: Node, facts: Facts) -> Facts:
    """The facts with the rows of all sources put together: how often each counts, and which are held out of training."""
    seed, validation = tree.number("train", "seed"), tree.children["data"].children["validation"]
    sources, own, asked = (_mixed(nodes, found, seed) for nodes, found in zip(source_lists(tree), facts.source_lists, strict=True))
    known = all(source.counts is not None for source in (*sources, *own))
    counted, counted_own = _counted(sources), _counted(own)
    held = _held(validation, counted, counted_own, seed) if known else frozenset()
    return replace(
        facts,
        sources=sources,
        validation_sources=own,
        eval_sources=asked,
        tested=tested(counted, held, _counted(asked)),
        held_out_known=known or not validation.children,
        survey=survey(counted, held, counted_own, asked=_asked(tree)),
    )


def _mixed(nodes: list[Node], sources: tuple[SourceFacts, ...], seed: int) -> tuple[SourceFacts, ...]:
    """Sources with their rows after limit, weight and share. A source of unknown size leaves the size of every share unknown."""
    if any(source.own_rows is None for source in sources) or shares_fault([_share(node) for node in nodes]):
        unknown = [replace(source, rows=None, counts=None) for source in sources]
        return tuple(
            source if _share(node) is not None or source.own_rows is None else _mixed([node], (source,), seed)[0]
            for node, source in zip(nodes, unknown, strict=True)
        )
    mixes = [_mix(node, source.own_rows or 0) for node, source in zip(nodes, sources, strict=True)]
    return tuple(
        replace(source, rows=total, counts=None if source.table is None else counts(mix.rows, total, seed, mix.limit))
        for source, mix, total in zip(sources, mixes, totals(mixes), strict=True)
    )


def _mix(node: Node, rows: int) -> Mix:
    settings = next(iter(node.children.values())).children
    weight = settings["repeat"] if "repeat" in settings else settings["weight"]
    return Mix(rows=rows, weight=_real(weight) or 0, share=_share(node), limit=_number(settings["limit"]))


def _share(node: Node) -> float | None:
    return _real(next(iter(node.children.values())).children["share"])


def _real(node: Node | None) -> float | None:
    return float(node.value) if node and isinstance(node.value, int | float) else None


def _number(node: Node | None) -> int | None:
    return node.value if node and isinstance(node.value, int) else None


def _counted(sources: tuple[SourceFacts, ...]) -> list[Counted]:
    return [(source.table, source.counts) for source in sources if source.table is not None and source.counts is not None]


def _held(validation: Node, sources: list[Counted], own: list[Counted], seed: int) -> frozenset[int]:
    """The digests of the rows that are not trained on."""
    if "sources" in validation.children:
        return frozenset(digest for table, _ in own for digest in table.digests)
    distinct = {digest for table, times in sources for digest, count in zip(table.digests, times, strict=True) if count}
    if not validation.children or not distinct:
        return frozenset()
    fraction, rows = validation.children.get("fraction"), validation.children.get("rows")
    number = number_held_out(len(distinct), fraction=_real(fraction), count=_number(rows))
    return frozenset(held_out(distinct, number, seed))


def _rows_are_examples(data: Mapping[str, Node]) -> bool:
    whole = data["overlong"].value == "error" and data["on_bad_row"].value == "error"
    return whole and not data["packing"].value and not data["unroll"].value and data["near_duplicates"].value is None


def _asked(tree: Node) -> list[str]:
    """The questions of the smoke test, those that begin a conversation and are about no image, and the previews."""
    prompts = tree.at("train", "preview", "prompts")
    previews = [str(node.value) for node in prompts.items] if prompts else []
    return [*(item.text("user") for item in tree.children["smoke"].items if item.children["image"].value is None), *previews]


def _task_files(tree: Node) -> dict[str, str]:
    """Without those that cannot be read: a rule tells of them."""
    tasks = tree.at("eval", "tasks")
    paths = [task.children["path"].value for task in tasks.items] if tasks else []
    found: dict[str, str] = {}
    for path in (str(path) for path in paths if path is not None):
        with contextlib.suppress(OSError, ValueError):
            found[path] = hashlib.sha256(regular(Path(path)).read_bytes()).hexdigest()
    return found


def _looked_in() -> str:
    return f"paths start at the working folder, {Path.cwd()}"

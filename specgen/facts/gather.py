"""Collects all facts that a spec refers to. What is missing or broken comes back as diagnostics."""

from __future__ import annotations

import difflib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from conversations.row import Row
from specgen.diagnostics import Diagnostic, printable
from specgen.facts.figures import DataFigures
from specgen.facts.model import MissingBase, ModelFacts, parse_base, read_model_facts
from specgen.facts.rows import FileRows, fitting_format, held_out, matching_files, read_rows, weighted
from specgen.facts.survey import Survey, survey
from specgen.facts.synthetic import render_rows
from specgen.facts.template import shipped_templates
from specgen.limits import TooMuch, limited
from specgen.plan import DataFile, FileVariable, HubBase, LocalBase, PackageBase, TemplatePlan
from specgen.reading import regular
from specgen.source import Node

LONGEST_SEARCH = 2  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFacts:
    """`counts` says how often each distinct row is in the data set. Of one on the hub only a lock knows `rows` and `revision`;
    of one that another model writes only `requests` is known. `variables` are those whose values are in files."""

    counts: Counter[Row]
    files: tuple[DataFile, ...]
    rows: int | None
    revision: str | None
    variables: dict[str, FileVariable] = field(default_factory=dict)
    requests: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """`model` is None for a base on the hub that nobody knows. `counts` covers all sources at hand; `held_out` its rows for validation.

    `held_out_known` is false where rows are held out that are not at hand. `rows_are_examples` says whether each row is one
    training example: neither packed nor, maybe, dropped.
    """

    base: PackageBase | HubBase | LocalBase
    model: ModelFacts | None
    template: TemplatePlan
    sources: tuple[SourceFacts, ...]
    validation_sources: tuple[SourceFacts, ...]
    counts: Counter[Row]
    held_out: tuple[Row, ...]
    held_out_known: bool
    rows_are_examples: bool
    survey: Survey
    figures: DataFigures | None

    @property
    def rows(self) -> int | None:
        """Rows of all sources, or None where one of them is not known."""
        rows = [source.rows for source in self.sources]
        return None if None in rows else sum(row for row in rows if row is not None)

    @property
    def train_rows(self) -> int | None:
        """Rows without those held out, or None where that is not known."""
        if self.rows is None or not self.held_out_known:
            return None
        return self.rows - sum(self.counts[row] for row in self.held_out)

    @property
    def examples(self) -> int | None:
        """What training sees in an epoch, or None where only the tokenizer can tell."""
        if self.figures is not None:
            return self.figures.examples
        return self.train_rows if self.rows_are_examples else None

    @property
    def output_layer(self) -> str:
        """The name of the layer that makes logits."""
        return "output" if self.model and self.model.model_type == "internlm2" else "lm_head"

    @property
    def template_text(self) -> str | None:
        """The chat template's Jinja text, where it can be known."""
        if self.template.name != "tokenizer":
            return self.template.jinja
        return self.model.chat_template if self.model else None


def gather(tree: Node) -> tuple[Facts, list[Diagnostic]]:
    """Facts of a complete tree. With diagnostics, the facts are what could be had."""
    gatherer = _Gatherer()
    facts = gatherer.facts(tree)
    return facts, gatherer.faults


@dataclass(slots=True)
class _Gatherer:
    faults: list[Diagnostic] = field(default_factory=list)

    def facts(self, tree: Node) -> Facts:
        seed = tree.number("train", "seed")
        base, model = self.model(tree.children["model"].children["base"])
        template = self.template(tree.children["template"])
        data = tree.children["data"].children
        sources = tuple(self.source(node, seed) for node in data["sources"].items)
        counts: Counter[Row] = Counter()
        for source in sources:
            counts.update(source.counts)
        fraction = data["validation"].children.get("fraction")
        known = all(source.rows is not None for source in sources)
        held = held_out(counts, data["validation"].real("fraction"), seed) if fraction and counts and known else []
        return Facts(
            base=base,
            model=model,
            template=template,
            sources=sources,
            validation_sources=(),
            counts=counts,
            held_out=tuple(held),
            held_out_known=known or not fraction,
            rows_are_examples=data["overlong"].value == "error" and not data["packing"].value,
            survey=survey(counts, held, asked=_asked(tree), controls=model.tokenizer.controls if model and model.tokenizer else ()),
            figures=None,
        )

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
        except (ValueError, OSError, KeyError, TypeError) as error:
            self.fault("SG212", node, f"the base model cannot be read: {error}")
        return base, None

    def template(self, node: Node) -> TemplatePlan:
        if isinstance(node.value, str):
            shipped = shipped_templates()
            if node.value != "tokenizer" and node.value not in shipped:
                known = ["tokenizer", *shipped]
                near = difflib.get_close_matches(node.value, known, n=1)
                hint = f"did you mean '{near[0]}'?" if near else f"the names are {', '.join(known)}; or {{file: PATH}}"
                self.fault("SG201", node, f"there is no template named '{node.value}'", hint)
            return TemplatePlan(name=node.value, jinja=shipped.get(node.value), stop=())
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

    def source(self, node: Node, seed: int) -> SourceFacts:
        if synthetic := node.children.get("synthetic"):
            rows, faults = render_rows(synthetic)
            self.faults += faults
            repeat = synthetic.number("repeat")
            counts = Counter({row: count * repeat for row, count in Counter(rows).items()})
            return SourceFacts(counts=counts, files=(), rows=counts.total(), revision=None)
        if "hub" in node.children or "llm" in node.children:
            return SourceFacts(counts=Counter(), files=(), rows=None, revision=None)
        return self.files(node.children["file"], seed)

    def files(self, node: Node, seed: int) -> SourceFacts:
        pattern = node.children["path"]
        try:
            with limited(LONGEST_SEARCH):
                paths = matching_files(str(pattern.value))
        except (OSError, ValueError, TooMuch) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            self.fault("SG205", pattern, f"{printable(str(pattern.value))} cannot be read: {reason}")
            return SourceFacts(counts=Counter(), files=(), rows=0, revision=None)
        if not paths:
            what = "no file matches" if any(c in str(pattern.value) for c in "*?[") else "there is no file"
            self.fault("SG205", pattern, f"{what} {pattern.value}", _looked_in())
        rows: list[Row] = []
        files: list[DataFile] = []
        for path in paths:
            try:
                found = read_rows(path, node.text("format"))
            except OSError as error:
                self.fault("SG205", pattern, f"{path} cannot be read: {error.strerror}")
                continue
            self.faults += self.of_another_format(node, found) or found.faults
            rows += found.rows
            files.append(found.file)
        counts = weighted(tuple(rows), node.real("weight"), seed)
        return SourceFacts(counts=counts, files=tuple(files), rows=counts.total(), revision=None)

    def of_another_format(self, node: Node, found: FileRows) -> list[Diagnostic]:
        """One fault instead of one for each row, where no row has the format of the spec and all have another one."""
        path, form = found.file.path, node.children["format"]
        other = fitting_format(path, str(form.value)) if found.faults and not found.rows else None
        if other is None:
            return []
        message = f"the rows of {path} have the format {other}, not {form.value}"
        place = form.place or node.children["path"].place
        return [Diagnostic(code="SG517", message=message, place=place, hint=f"write format: {other}")]

    def fault(self, code: str, node: Node, message: str, hint: str | None = None) -> None:
        self.faults.append(Diagnostic(code=code, message=message, place=node.place or node.key, hint=hint))


def _asked(tree: Node) -> list[str]:
    """The questions of the smoke test and the previews."""
    prompts = tree.at("train", "preview", "prompts")
    previews = [str(node.value) for node in prompts.items] if prompts else []
    return [*(item.text("user") for item in tree.children["smoke"].items), *previews]


def _looked_in() -> str:
    return f"paths start at the working folder, {Path.cwd()}"

"""What can be known of a source that another model writes, without asking it: its prompts, how many there are, and faults in its texts."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from conversations.rules import RuleFault, Writer, names_in
from specgen.diagnostics import Diagnostic
from specgen.facts.model import MissingBase, locate, parse_base
from specgen.facts.synthetic import LONGEST_COMPILING, ROWS_A_SECOND, Rules, placed, plain_rule
from specgen.limits import TooMuch, limited, told
from specgen.plan import FileVariable
from specgen.source import Node

OF_JINJA = {"choice", "shuffle", "range", "dict", "cycler", "joiner", "namespace"}
CONVERSATION = ("system", "user", "assistant", "messages")  # what a judge's prompt may name


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmFacts:
    """`requests` counts prompts times samples, without those of a judge; 0 with faults."""

    requests: int = 0
    variables: dict[str, FileVariable] = field(default_factory=dict)


def llm_facts(node: Node, rules: Rules) -> tuple[LlmFacts, list[Diagnostic]]:
    """Facts of one source, or its faults."""
    faults = [*_model(node), *_names(node), *_roles(node)]
    if faults or not rules.names_known(node):
        return LlmFacts(), faults
    settings = plain_rule(node)
    try:
        found = rules.combined(settings)
        with limited(LONGEST_COMPILING):
            writer = _writer(node, "prompt", rules.seed)
            _writer(node, "row", rules.seed)
            if node.children["judge"].children:
                _writer(node.children["judge"], "prompt", rules.seed)
        with limited(1 + len(found) / ROWS_A_SECOND):  # all of them: one that fails would be met by a run that others were paid for
            for values in found:
                writer.write(values)
    except RuleFault as fault:
        return LlmFacts(), [placed(_of_texts(fault, "prompt"), node)]
    except (TooMuch, MemoryError) as error:
        prompt = node.children["prompt"]
        return LlmFacts(), [Diagnostic(code="SG204", message=f"the texts do not render: {told(error)}", place=prompt.key or prompt.place)]
    return LlmFacts(requests=len(found) * node.number("samples"), variables=rules.file_variables(node)), []


def turn_texts(turns: Node) -> list[Node]:
    """The texts of a list of turns."""
    return [text for turn in turns.items for text in turn.children.values()]


def _names(node: Node) -> Iterator[Diagnostic]:
    """Texts whose Jinja is wrong or that name what they are not given."""
    variables = list(node.children["variables"].children)
    yield from _unknown(turn_texts(node.children["prompt"]), variables)
    yield from _unknown(turn_texts(node.children["row"]), ["answer", *variables])
    if judge := node.children["judge"].children:
        yield from _unknown(turn_texts(judge["prompt"]), CONVERSATION)


def _roles(node: Node) -> Iterator[Diagnostic]:
    """A row that nothing is learned from."""
    row = node.children["row"]
    if not any("assistant" in turn.children for turn in row.items):
        message = "no turn of row is from the assistant, so there is nothing to learn"
        yield Diagnostic(code="SG209", message=message, place=row.key or row.place, hint='add - assistant: "{{ answer }}"')


def _unknown(texts: Iterable[Node], known: Iterable[str]) -> Iterator[Diagnostic]:
    from jinja2 import TemplateSyntaxError

    names = list(known)
    for text in texts:
        try:
            unknown = names_in(str(text.value)) - {*names} - OF_JINJA
        except TemplateSyntaxError as error:
            message = f"the text does not render: {error.message}"
            yield Diagnostic(code="SG204", message=message, place=text.place, hint="{{ name }} stands for a variable")
            continue
        for name in sorted(unknown):
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"it may name {', '.join(names) or 'nothing: there are no variables'}"
            yield Diagnostic(code="SG204", message=f"the text does not render: '{name}' is undefined", place=text.place, hint=hint)


def _model(node: Node) -> Iterator[Diagnostic]:
    """A local model that is not to be had."""
    if not node.children["local"].value:
        return
    model = node.children["model"]
    try:
        locate(parse_base(str(model.value)))
    except MissingBase as error:
        yield Diagnostic(code="SG211", message=str(error), place=model.place, hint=error.install)
    except ValueError as error:
        yield Diagnostic(code="SG213", message=f"model is {model.value}: {error}", place=model.place)
    except OSError as error:
        yield Diagnostic(code="SG211", message=f"the model cannot be read: {error.strerror}", place=model.place)


def _writer(node: Node, name: str, seed: int) -> Writer:
    messages = [{"role": role, "content": str(text.value)} for turn in node.children[name].items for role, text in turn.children.items()]
    return Writer(messages, seed)


def _of_texts(fault: RuleFault, name: str) -> RuleFault:
    """A fault of turns that a source calls by another name than a rule does."""
    path = (name, *fault.path[1:]) if fault.path[:1] == ("messages",) else fault.path
    return RuleFault(fault.kind, path, fault.text, fault.hint)

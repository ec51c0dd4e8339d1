"""Synthetic rules (conversations/rules.py) as the compiler meets them: bounded in time and size, faults with their places."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conversations.row import Conversation
from conversations.rules import RuleFault, Writer, names_in, rows_of_rules, written
from conversations.variables import Combinations, combinations, values_of
from specgen.diagnostics import Diagnostic
from specgen.limits import TooMuch, limited, told
from specgen.plan import FileVariable
from specgen.reading import regular
from specgen.source import Node

MOST_COMBINATIONS = 200_000
LONGEST_COMPILING = 0.5  # seconds
ROWS_A_SECOND = 5_000  # far fewer than any honest rule makes

CODES = {
    "file": "SG205",
    "empty variable": "SG586",
    "zip": "SG587",
    "sample": "SG587",
    "too many": "SG209",
    "syntax": "SG204",
    "render": "SG204",
    "empty answer": "SG209",
    "equal": "SG589",
}


@dataclass(slots=True)
class Rules:
    """The synthetic rules of a spec, met one after the other: a rule may take its values from those before it."""

    seed: int
    _named: dict[str, dict[str, Any]] = field(default_factory=dict)
    _files: dict[str, FileVariable] = field(default_factory=dict)

    def read(self, node: Node, add: Callable[[Conversation], None]) -> list[Diagnostic]:
        """Hands on the conversations of one rule, one for each combination (before `repeat`). With faults, some or none."""
        rule = plain_rule(node)
        if not any(message["role"] == "assistant" for message in rule["messages"]):
            return [_without_assistant(node.children["messages"])]
        if not self.names_known(node):
            return []
        try:
            self._read(rule, add)
        except RuleFault as fault:
            return [placed(one, node) for one in (fault, *fault.others)]
        except (TooMuch, MemoryError) as error:
            messages = node.children["messages"]
            return [Diagnostic(code="SG204", message=f"the texts do not render: {told(error)}", place=messages.key or messages.place)]
        if rule["name"] is not None:
            self._named.setdefault(rule["name"], rule)
        return []

    def names_known(self, node: Node) -> bool:
        """Whether the variables name sound rules further up; where one does not, that is told elsewhere."""
        variables = node.children["variables"].children.values()
        return all(variable.text("rule") in self._named for variable in variables if "rule" in variable.children)

    def combined(self, settings: Mapping[str, Any]) -> Combinations:
        """The combinations of the variables that a source asks for. Raises RuleFault."""
        for name, variable in settings["variables"].items():
            _regular_file(name, variable)
        values = values_of(settings["variables"], rows_of=rows_of_rules(self._named, seed=self.seed))
        for name, variable in settings["variables"].items():
            if isinstance(variable, dict) and "file" in variable:
                path = variable["file"]["path"]
                sha256 = hashlib.sha256(Path(path).read_bytes()).hexdigest()
                self._files[path] = FileVariable(path=path, rows=len(values[name]), sha256=sha256)
        combine, sample = settings["combine"], settings["sample"]
        return combinations(values, combine=combine, sample=sample, seed=self.seed, at_most=MOST_COMBINATIONS)

    def file_variables(self, node: Node) -> dict[str, FileVariable]:
        """The files that the variables of a source take their values from, as far as they were read."""
        paths = {name: variable.at("file", "path") for name, variable in node.children["variables"].children.items()}
        return {name: self._files[str(path.value)] for name, path in paths.items() if path and str(path.value) in self._files}

    def _read(self, rule: dict[str, Any], add: Callable[[Conversation], None]) -> None:
        found = self.combined(rule)
        with limited(LONGEST_COMPILING):  # constant expressions are worked out here
            writer = Writer(rule["messages"], self.seed)
        with limited(1 + len(found) / ROWS_A_SECOND):
            writer.try_all(found.at(found.indices[0]))
            for conversation in written(writer, found, unique=rule["unique"]):
                add(conversation)


def plain_rule(node: Node) -> dict[str, Any]:
    """A rule of the spec, or the variables of another source, as config.yaml has them."""
    settings = {name: child.plain() for name, child in node.children.items()}
    variables = node.children["variables"].children.items()
    settings["variables"] = {name: _variable(variable.plain()) for name, variable in variables}
    messages = [next(iter(message.children.items())) for message in node.children["messages"].items] if "messages" in settings else []
    return {**settings, "messages": [{"role": role, "content": text.plain()} for role, text in messages]}


def placed(fault: RuleFault, node: Node) -> Diagnostic:
    """A rule's fault as a diagnostic, at the part of the rule that has it."""
    found = node
    for step in fault.path:
        found = found.child(step) or found
        if isinstance(step, int) and found.children:  # a message is one role and its text
            found = next(iter(found.children.values()))
    place = found.key or found.place if fault.kind == "too many" else found.place or found.key
    return Diagnostic(code=CODES[fault.kind], message=fault.text, place=place, hint=fault.hint)


def unused_variables(synthetic: Node) -> list[str]:
    """The variables that no message names. Empty where a message does not render."""
    names = list(synthetic.children["variables"].children)
    if not names:
        return []
    texts = [text for message in synthetic.children["messages"].items for node in message.children.values() for text in _texts(node)]
    try:
        named = {name for text in texts for name in names_in(text)}
    except Exception:  # told where it is rendered
        return []
    return [name for name in names if name not in named] if named <= set(names) else []  # else one of them is misspelled


def _texts(node: Node) -> list[str]:
    return [str(item.value) for item in node.items] or [str(node.value)]


def _variable(variable: Any) -> Any:
    return {"rule": {"name": variable["rule"]}} if isinstance(variable, dict) and "rule" in variable else variable


def _regular_file(name: str, variable: Any) -> None:
    if isinstance(variable, dict) and "file" in variable:
        path = variable["file"]["path"]
        try:
            regular(Path(path))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise RuleFault("file", ("variables", name), f"{path} cannot be read: {reason}") from None


def _without_assistant(messages: Node) -> Diagnostic:
    return Diagnostic(
        code="SG209",
        message="no message is from the assistant, so there is nothing to learn",
        place=messages.key or messages.place,
        hint='add - assistant: "…"',
    )

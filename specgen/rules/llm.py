"""Rules about sources that another model writes: whatever would be noticed only after the answers are paid for."""

from __future__ import annotations

import difflib
import ipaddress
import os
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from conversations.rules import names_in
from specgen.diagnostics import Diagnostic
from specgen.facts.gather import Facts, SourceFacts, source_lists
from specgen.facts.llm import CONVERSATION, OF_JINJA, turn_texts
from specgen.rules.json_schema import schema_faults
from specgen.source import Node

OF_AN_ENDPOINT = ("base_url", "api_key_env", "timeout_s")
INSIDE = ("localhost", "local", "internal", "lan", "svc", "test")  # last labels of names that only a network of one's own has


def rows_hold_the_answer(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """A row that does not name the answer is the same whatever the model writes."""
    for source, _ in llm_sources(tree, facts):
        row = source.children["row"]
        if (named := _named(row)) is not None and "answer" not in named:
            yield Diagnostic(
                code="SG590",
                message="no text of row names answer: what the model writes goes nowhere",
                place=row.key or row.place,
                hint='write {{ answer }}, as in - assistant: "{{ answer }}"',
            )


def the_schema_is_one(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """A JSON Schema with a mistake accepts nothing, or anything."""
    for source, _ in llm_sources(tree, facts):
        yield from schema_faults(source.children["schema"], "schema", "SG591")


def rows_take_parts_that_are_there(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """answer.question needs a schema that asks for a question."""
    for source, _ in llm_sources(tree, facts):
        if any(schema_faults(source.children["schema"], "schema", "SG591")):
            continue
        schema = source.children["schema"].plain()
        for text in turn_texts(source.children["row"]):
            for part in _parts(str(text.value)):
                if found := _lacking(part, schema):
                    yield Diagnostic(code="SG592", message=found[0], place=text.place, hint=found[1])
                elif _may_lack(part, schema, str(text.value)):
                    yield Diagnostic(
                        code="SG592",
                        severity="warning",
                        message=f"the model may leave out answer.{part}: the schema does not require it",
                        place=text.place,
                        hint=f"required: [{part}] in the schema",
                    )


def the_budget_is_enough(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """A budget that is smaller than what is to be asked ends the run on the way."""
    for source, found in llm_sources(tree, facts):
        judged = bool(source.children["judge"].children)
        needed = found.requests * (2 if judged else 1)
        budget = source.children["budget"].children["requests"]
        if needed > int(str(budget.value)):
            yield Diagnostic(
                code="SG593",
                severity="warning",
                message=f"{found.requests:,} prompts{' and their judgements' if judged else ''} are at least {needed:,} requests, "
                f"and the budget is {budget.value:,}: the run will stop on the way",
                place=budget.place or source.children["prompt"].key,
                hint=f"budget: {{requests: {needed + needed // 10}}}; answers that are kept from earlier runs are not counted",
            )


def samples_differ(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """At temperature 0 a model gives one answer, however often it is asked."""
    for source, _ in llm_sources(tree, facts):
        samples = source.children["samples"]
        if samples.value != 1 and source.real("temperature") == 0:
            yield Diagnostic(
                code="SG501",
                severity="warning",
                message=f"samples: {samples.value} at temperature 0 are {samples.value} times the same answer",
                place=samples.place,
                hint="temperature: 0.8, or samples: 1",
            )


def the_endpoint_is_an_address(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """base_url is what stands before /chat/completions."""
    for source, _ in llm_sources(tree, facts):
        url = source.children["base_url"]
        if source.children["local"].value:
            for name in OF_AN_ENDPOINT:
                if source.children[name].place:
                    message = f"{name} is for an endpoint, and local: true asks none"
                    yield Diagnostic(code="SG594", message=message, place=source.children[name].key, hint=f"leave out {name}, or local")
            continue
        try:
            parts = urlsplit(str(url.value))
            wrong = (
                "holds a user or a password" if "@" in parts.netloc
                else "has a query" if parts.query or parts.fragment
                else "names no host" if not parts.hostname
                else "ends with /chat/completions, which is added to it" if parts.path.rstrip("/").endswith("/chat/completions")
                else "has a port that is none" if parts.port == 0
                else None
            )  # fmt: skip
        except ValueError:
            wrong = "is no address"
        if wrong:
            hint = "write what stands before /chat/completions, as in https://api.openai.com/v1; api_key_env names where the key is"
            yield Diagnostic(code="SG594", message=f"base_url {wrong}", place=url.place, hint=hint)


def the_key_is_set(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """The machine that runs the spec needs the key; this one may be another."""
    for source, _ in llm_sources(tree, facts):
        name = source.children["api_key_env"]
        if isinstance(name.value, str) and not source.children["local"].value and not os.environ.get(name.value, "").strip():
            yield Diagnostic(
                code="SG595",
                severity="note",
                message=f"the environment variable {name.value} is not set here; the run needs it to ask {source.text('model')}",
                place=name.place,
                hint=f"export {name.value}=… on the machine that runs; answers that are kept need no key",
            )


def the_key_travels_hidden(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """Over plain HTTP everybody on the way reads the key."""
    for source, _ in llm_sources(tree, facts):
        url = source.children["base_url"]
        if source.children["api_key_env"].value is None or source.children["local"].value:
            continue
        try:
            parts = urlsplit(str(url.value))
            public = parts.scheme == "http" and _public(parts.hostname or "localhost")
        except ValueError:
            continue
        if public:
            yield Diagnostic(
                code="SG596",
                severity="warning",
                message=f"the key goes to {parts.hostname} unencrypted",
                place=url.place,
                hint=f"write https://{parts.netloc}{parts.path}",
            )


def judges_see_the_conversation(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """A judge that is not shown the answer gives every conversation the same mark."""
    for source, _ in llm_sources(tree, facts):
        judge = source.children["judge"].children
        named = _named(judge["prompt"]) if judge else None
        if named is not None and not named & {"assistant", "messages"}:
            yield Diagnostic(
                code="SG597",
                message="the judge is not shown the answer: its prompt names neither assistant nor messages",
                place=judge["prompt"].key or judge["prompt"].place,
                hint=f"a judge's prompt may name {', '.join(CONVERSATION)}",
            )


def variables_are_asked(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """A variable that neither the prompt nor the row names only multiplies what is paid for."""
    for source, _ in llm_sources(tree, facts):
        variables = source.children["variables"].children
        asked, shown = _named(source.children["prompt"]), _named(source.children["row"])
        if asked is None or shown is None or not asked | shown <= {*variables, "answer"}:  # broken or misspelled, which is told elsewhere
            continue
        for name, node in variables.items():
            if name not in asked | shown:
                times = f", and makes {len(node.items)} times as many requests" if len(node.items) > 1 else ""
                message = f"neither prompt nor row names the variable {name}{times}"
                hint = f"write {{{{ {name} }}}} in the prompt; samples asks for more answers"
                yield Diagnostic(code="SG515", severity="warning", message=message, place=node.key or node.place, hint=hint)


def llm_sources(tree: Node, facts: Facts) -> Iterator[tuple[Node, SourceFacts]]:
    """The sources that another model writes, those of validation and of the evaluation among them."""
    for nodes, found in zip(source_lists(tree), facts.source_lists, strict=True):
        for node, source in zip(nodes, found, strict=True):
            if "llm" in node.children:
                yield node.children["llm"], source


def _named(turns: Node) -> set[str] | None:
    """The names in the texts of turns. None where one is no Jinja, which is told elsewhere."""
    from jinja2 import TemplateSyntaxError

    try:
        return {name for text in turn_texts(turns) for name in names_in(str(text.value))} - OF_JINJA
    except TemplateSyntaxError:
        return None


def _parts(text: str) -> list[str]:
    """The parts of the answer that a text takes, as in answer.question or answer['question']."""
    from jinja2 import Environment, TemplateSyntaxError, nodes

    try:
        parsed = Environment().parse(text)  # noqa: S701  (parsed only)
    except TemplateSyntaxError:
        return []
    taken = [(node.node, node.attr) for node in parsed.find_all(nodes.Getattr)]
    taken += [(node.node, node.arg.value) for node in parsed.find_all(nodes.Getitem) if isinstance(node.arg, nodes.Const)]
    found = [part for of, part in taken if isinstance(of, nodes.Name) and of.name == "answer" and isinstance(part, str)]
    return list(dict.fromkeys(found))


def _lacking(part: str, schema: Any) -> tuple[str, str] | None:
    """Why the answer has no such part, and what to do about it."""
    if schema is None:
        return f"answer is a text and has no part {part}: there is no schema", "give a schema, or write {{ answer }}"
    properties = _properties(schema)
    if properties is None or part in properties:
        return None
    near = difflib.get_close_matches(part, properties, n=1)
    return f"answer.{part} is not in the schema", f"did you mean 'answer.{near[0]}'?" if near else f"the schema has {', '.join(properties)}"


def _may_lack(part: str, schema: Any, text: str) -> bool:
    """Whether an answer that fits may have no such part, and the text does not say what then."""
    return _properties(schema) is not None and part not in schema.get("required", ()) and "default" not in text and "defined" not in text


def _properties(schema: Any) -> dict[str, Any] | None:
    """What the schema itself says of an answer's parts; None where that stands elsewhere."""
    properties = schema.get("properties")
    return None if not isinstance(properties, dict) or any(word in schema for word in ("$ref", "allOf", "anyOf", "oneOf")) else properties


def _public(host: str) -> bool:
    """Whether a host may be reached through networks of others."""
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        return "." in host and host.rpartition(".")[2] not in INSIDE

"""A reply as an answer: text, or what the JSON Schema describes. What does not fit is told in a few words, the same for like cases."""

from __future__ import annotations

import json
import re
from typing import Any

from runtime.data.llm.request import Reply

_FENCE = re.compile(r"```(?:json)?[ \t]*\n(.*?)\n?[ \t]*```", re.DOTALL | re.IGNORECASE)
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


class Misfit(Exception):
    """An answer that makes no row. The text says why."""


def answer_of(reply: Reply, schema: dict[str, Any] | None) -> Any:
    """The text, or the object that the schema describes, also out of a ```json fence. Raises Misfit."""
    text = whole(reply)
    if schema is None:
        return text.strip()
    fenced = _FENCE.search(text)
    try:
        answer = json.loads(fenced[1] if fenced else text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise Misfit("it is no JSON") from None
    from jsonschema import validators
    from jsonschema.exceptions import best_match
    from referencing import Registry

    checker = validators.validator_for(schema, default=validators.Draft202012Validator)
    if error := best_match(checker(schema, registry=Registry()).iter_errors(answer)):  # the registry: nothing is fetched
        raise Misfit(f"it does not fit the schema: {error.json_path}: {error.message}")
    return answer


def whole(reply: Reply) -> str:
    """The text of a reply that ended by itself. Raises Misfit for a cut, a refused or an empty one."""
    if reply.finish == "length":
        raise Misfit("it is cut at max_tokens")
    if reply.finish in ("refusal", "content_filter"):
        raise Misfit("the model refuses to answer")
    if not reply.text.strip():
        raise Misfit("it is empty")
    return reply.text


def mark_of(reply: Reply) -> float:
    """The first number in a judge's reply. Raises Misfit."""
    found = _NUMBER.search(whole(reply))
    if found is None:
        raise Misfit("the judge gives no number")
    return float(found[0])


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")

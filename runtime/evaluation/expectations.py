"""What an answer of the smoke test has to be like, and what of that it fails."""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any

from conversations.similarity import nearest
from runtime.config import ExpectConfig
from runtime.console import one_line
from runtime.generation.generate import Answer


def unmet(expect: ExpectConfig, answer: Answer, seconds: float = 0.0) -> list[str]:
    """What an answer that took so many seconds fails of an expectation; empty where it passes."""
    problems = [f"does not contain {text!r}" for text in expect.contains if text not in answer.text]
    problems += [f"contains {text!r}" for text in expect.not_contains if text in answer.text]
    problems += [f"does not match {pattern!r}" for pattern in expect.matches if not re.search(pattern, answer.text)]
    if expect.json is not False:
        problems += _unmet_json({} if expect.json is True else expect.json, answer.text)
    if expect.similar is not None:
        likeness = nearest(answer.text, expect.similar.to)
        if likeness < expect.similar.at_least:
            problems.append(f"has a likeness of {likeness:.2f} to what is expected, less than {expect.similar.at_least:g}")
    if expect.refuses is not None:
        found = refusal(answer.text, expect.refusals)
        if expect.refuses and found is None:
            problems.append("does not refuse: none of the texts of a refusal occurs")
        elif not expect.refuses and found is not None:
            problems.append(f"refuses: {found!r} occurs")
    if expect.stops and not answer.stopped:
        problems.append(f"did not stop by itself within {answer.tokens} tokens")
    if expect.within_seconds is not None and seconds > expect.within_seconds:
        problems.append(f"took {seconds:.2f} s, more than {expect.within_seconds:g} s on this machine")
    return problems


def refusal(text: str, phrases: tuple[str, ...]) -> str | None:
    """The first of these texts that occurs, whatever the case, the apostrophes and the spaces."""
    plain = _plain(text)
    return next((phrase for phrase in phrases if _plain(phrase) in plain), None)


def _unmet_json(schema: dict[str, Any], text: str) -> list[str]:
    """The whole answer has to be JSON: a program reads it, and no fence around it is cut away."""
    from jsonschema import validators
    from jsonschema.exceptions import best_match

    try:
        value = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        place = f" at line {error.lineno}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        return [f"is no JSON: {reason}{place}"]
    checker = validators.validator_for(schema, default=validators.Draft202012Validator)
    fault = best_match(checker(schema).iter_errors(value))
    return [] if fault is None else [f"does not meet the JSON Schema: {fault.json_path}: {one_line(fault.message)}"]


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).replace("\u2019", "'").casefold().split())

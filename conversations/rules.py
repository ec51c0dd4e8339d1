"""Synthetic rules: the turns once for every combination of the variables, rendered with sandboxed Jinja.

A rule is a mapping as in config.yaml: variables, combine, sample, unique and messages (role, content). The same rule and seed give
the same conversations on every machine: all chance comes from conversations/chance.py, and no text says when or where it was made.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from conversations.chance import Chance, chosen_text
from conversations.row import Conversation, Row, canonical, digest
from conversations.variables import Combinations, RowsOf, RuleFault, combinations, values_of

if TYPE_CHECKING:
    from jinja2.sandbox import SandboxedEnvironment

__all__ = ["RowsOf", "RuleFault", "Writer", "conversations_of", "names_in", "rows_of_rules", "written"]

Render = Callable[[Mapping[str, Any]], str]
Path = tuple[str | int, ...]  # from the rule to one of its parts

DRAWING = ("choice", "shuffle", "random")
MOST_TOLD = 200  # characters
MOST_CHARACTERS = 1_000_000


def conversations_of(rule: Mapping[str, Any], *, seed: int, rows_of: RowsOf) -> Iterator[Conversation]:
    """The conversations of a rule, one for each combination (before `repeat`). `rows_of` gives those of the rules that its
    variables name. Raises RuleFault."""
    values = values_of(rule["variables"], rows_of=rows_of)
    found = combinations(values, combine=rule["combine"], sample=rule["sample"], seed=seed)
    return written(Writer(rule["messages"], seed), found, unique=rule["unique"])


def rows_of_rules(rules: Mapping[str, Mapping[str, Any]], *, seed: int) -> RowsOf:
    """The rows of rules by their names, each made when it is first asked for. A rule names earlier ones only."""

    @cache
    def rows(name: str) -> Sequence[Row]:
        return [canonical(conversation) for conversation in conversations_of(rules[name], seed=seed, rows_of=rows)]

    return rows


def written(writer: Writer, found: Combinations, *, unique: bool) -> Iterator[Conversation]:
    """A conversation for each combination. Raises RuleFault at the first text that does not render, or with `unique` at the
    first conversation that was there before."""
    before: dict[int, int] = {}
    for index in found.indices:
        values = found.at(index)
        conversation = writer.write(values)
        if unique and (other := before.setdefault(digest(canonical(conversation)), index)) != index:
            text = f"two conversations are equal: those of {_told(found.at(other))} and of {_told(values)}"
            raise RuleFault("equal", ("unique",), text, "let the texts name what differs, or write unique: false")
        yield conversation


class Writer:
    """The turns of a rule. Raises RuleFault where the Jinja of texts is wrong."""

    def __init__(self, messages: Sequence[Mapping[str, Any]], seed: int) -> None:
        self._seed, self._chance = seed, Chance()
        environment = _environment(self._chance)
        ordinals: dict[str, int] = {}
        self._turns: list[_Turn] = []
        faults: list[RuleFault] = []
        for place, message in enumerate(messages):
            role = message["role"]
            ordinals[role] = ordinals.get(role, 0) + 1  # a turn more of another role changes nothing in this one
            label = f"{role} {ordinals[role]}"
            try:
                self._turns.append(_Turn(environment, role, message["content"], path=("messages", place), label=label))
            except RuleFault as fault:
                faults.append(fault)
        if faults:
            faults[0].others = tuple(faults[1:])
            raise faults[0]
        self._by_chance = any(turn.by_chance for turn in self._turns)

    def write(self, values: Mapping[str, Any]) -> Conversation:
        """The conversation of one combination: a system turn that says nothing is left out."""
        key = _key(self._seed, values) if self._by_chance else ""
        messages = []
        for turn in self._turns:
            self._chance.begin(f"{key}:{turn.label}")
            text = turn.render(turn.chosen(key), values)
            if turn.role != "system" or text.strip():
                messages.append({"role": turn.role, "content": text})
        return {"messages": messages}

    def try_all(self, values: Mapping[str, Any]) -> None:
        """Renders every paraphrase once, so that a fault is found in those, too, that no conversation takes."""
        for turn in self._turns:
            for place in range(len(turn.texts)):
                self._chance.begin("")
                turn.render(place, values)


class _Turn:
    """One turn of a rule: its text, or paraphrases of it. `label` tells it from the other turns of the rule."""

    def __init__(self, environment: SandboxedEnvironment, role: str, content: str | Sequence[str], *, path: Path, label: str) -> None:
        self.role, self.label = role, label
        self.texts = [content] if isinstance(content, str) else list(content)
        self._paths = [path if isinstance(content, str) else (*path, place) for place in range(len(self.texts))]
        # only where there is something for it to do: Jinja would change line ends
        self._renders = [
            _compiled(environment, text, path) if "{" in text else None for text, path in zip(self.texts, self._paths, strict=True)
        ]

    @property
    def by_chance(self) -> bool:
        """Whether the text may differ between seeds."""
        return len(self.texts) > 1 or any(word in text for text in self.texts for word in DRAWING)

    def chosen(self, key: str) -> int:
        """The place of the paraphrase that the conversation of that key takes."""
        return chosen_text(self.texts, f"{key}:{self.label}") if len(self.texts) > 1 else 0

    def render(self, place: int, values: Mapping[str, Any]) -> str:
        """A paraphrase with the values put in. Raises RuleFault."""
        render = self._renders[place]
        try:
            text = self.texts[place] if render is None else render(values)
        except Exception as error:  # a template may raise anything
            raise _render_fault(error, self._paths[place], values) from error
        if len(text) > MOST_CHARACTERS:
            problem = f"the text has {len(text):,} characters; at most {MOST_CHARACTERS:,} are allowed"
            raise RuleFault("render", self._paths[place], problem)
        if self.role == "assistant" and not text.strip():
            raise RuleFault("empty answer", self._paths[place], "an assistant text is empty, so there is nothing to learn")
        return text


def names_in(text: str) -> set[str]:
    """The variables that a text names. Raises jinja2.TemplateSyntaxError."""
    from jinja2 import meta

    return meta.find_undeclared_variables(_environment(Chance()).parse(text)) if "{" in text else set()


def _compiled(environment: SandboxedEnvironment, text: str, path: Path) -> Render:
    from jinja2 import TemplateSyntaxError

    try:
        return environment.from_string(text).render
    except TemplateSyntaxError as error:
        raise RuleFault("syntax", path, f"the text does not render: {error.message}", "{{ name }} stands for a variable") from error
    except Exception as error:  # constant expressions are worked out here
        raise _render_fault(error, path, {}) from error


def _render_fault(error: Exception, path: Path, values: Mapping[str, Any]) -> RuleFault:
    from jinja2 import UndefinedError

    problem = "it takes too much memory" if isinstance(error, MemoryError) else str(error) or type(error).__name__
    hint = None
    if isinstance(error, UndefinedError):
        missing = problem.split("'")[1] if problem.startswith("'") else ""
        near = difflib.get_close_matches(missing, values, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"the variables are {', '.join(values) or 'none'}"
    return RuleFault("render", path, f"the text does not render: {problem}", hint)


def _key(seed: int, values: Mapping[str, Any]) -> str:
    """What the choices of a conversation hang on: its values, whatever the order of the variables."""
    return f"{seed}:{digest(json.dumps(values, ensure_ascii=False, sort_keys=True, default=str))}"


def _told(values: Mapping[str, Any]) -> str:
    text = json.dumps(values, ensure_ascii=False, default=str)
    return text if len(text) <= MOST_TOLD else text[: MOST_TOLD - 1] + "…"


def _environment(chance: Chance) -> SandboxedEnvironment:
    """Sandboxed Jinja in which equal values make equal texts: `lipsum` and the filter `random` would not."""
    from jinja2 import StrictUndefined, pass_context
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Environment(ImmutableSandboxedEnvironment):
        def getattr(self, obj: Any, attribute: str) -> Any:
            """value.items is the part of that name, where there is one, and not the method of a mapping."""
            return obj[attribute] if isinstance(obj, dict) and attribute in obj else super().getattr(obj, attribute)

    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True, finalize=_written)
    del environment.globals["lipsum"]
    environment.globals.update(choice=chance.choice, shuffle=chance.shuffle)
    environment.filters["random"] = pass_context(lambda _context, values: chance.choice(values))  # else worked out once, with the text
    environment.filters["tojson"] = _json  # Jinja's own is for HTML: < becomes \u003c
    return environment


def _json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _written(value: Any) -> Any:
    """What {{ }} writes. Refuses what would be written with its place in memory, and nothing where a value is meant."""
    from jinja2 import Undefined

    if value is None:
        raise TypeError("{{ }} writes a null; write {{ … or '' }}, or {% if … %}")
    if isinstance(value, list | tuple):
        for item in value:
            _plain(item)
    elif not isinstance(value, Undefined):
        _plain(value)
    return value


def _plain(value: Any) -> None:
    if not isinstance(value, str | int | float | dict | list | tuple | None):
        raise TypeError(f"{{{{ }}}} writes a {type(value).__name__}, which is no text; a list of it may be meant: … | list")

"""The reference pages, from the schema, the explanations and the chat templates: `python -m docsite.reference` writes them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from docsite.templates import page as templates_page
from specgen.diagnostics import Explanation, explanations
from specgen.schema import is_variant, keys, spec_schema, types
from specgen.validate import in_words, written

GROUPS = {
    "SG0": "The text of a spec",
    "SG1": "Keys and values",
    "SG2": "What a spec refers to, and how its parts fit together",
    "SG3": "Writing and starting",
    "SG4": "While a run is carried out",
    "SG5": "Secrets, generation and export; more of data and templates",
    "SG6": "Methods, clusters, resuming, watching and sweeps",
}


def spec_page() -> str:
    """Every key of a spec."""
    return "\n".join(_spec_lines()).rstrip("\n") + "\n"


def checks_page() -> str:
    """Every code, with its examples."""
    return "\n".join(_check_lines(list(explanations().values()))).rstrip("\n") + "\n"


def _spec_lines() -> Iterator[str]:
    yield f"# The keys of a spec\n\n{spec_schema()['description']} `specgen explain KEY` prints the same of one key.\n"
    yield "Made from schemas/spec.schema.json by `make docs`.\n"
    for name, schema in keys():
        yield f"{'##' if '.' not in name else '###'} {name}\n\n{schema['description']}\n"
        facts = [in_words(schema)]
        if "default" in schema:
            facts.append(f"default `{written(schema['default'])}`" if schema["default"] != {} else "may be left out")
        elif not _is_choice(name):
            facts.append("**required**")
        yield f"- {'; '.join(facts)}"
        if "properties" in schema and "object" in types(schema):
            home = next(other for other, found in keys() if found == schema)  # a definition that is used again is told once
            yield f"- keys: {', '.join(_link(f'{home}.{key}', key) for key in schema['properties'])}"
        yield f"- for example `{name.rpartition('.')[2]}: {written(schema['examples'][0])}`\n"


def _is_choice(name: str) -> bool:
    """Whether a key is one of several, none of which has to be there."""
    parent = name.rpartition(".")[0]
    around = dict(keys()).get(parent, spec_schema())
    return is_variant(around.get("items", around)) or is_variant(around)


def _link(target: str, text: str) -> str:
    return f"[{text}](#{target.replace('.', '').lower()})"


def _check_lines(entries: list[Explanation]) -> Iterator[str]:
    yield "# The codes\n\nWhat specgen finds wrong has a code. `specgen explain CODE` prints what stands here,"
    yield "`specgen explain --all` lists them. An error ends the command; a warning and a note do not.\n"
    yield "Made from schemas/diagnostics.yaml by `make docs`."
    groups = {title: [entry for entry in entries if entry.code.startswith(group)] for group, title in GROUPS.items()}
    for title, members in groups.items():
        yield f"\n| {title} | | |\n|---|---|---|"
        yield from (f"| {_link(entry.code, entry.code)} | {entry.severity} | {entry.title} |" for entry in members)
    for title, members in groups.items():
        yield f"\n## {title}"
        for entry in members:
            yield from _check(entry)


def _check(entry: Explanation) -> Iterator[str]:
    yield f'\n### <a id="{entry.code.lower()}"></a>{entry.code}: {entry.title}\n'
    yield f"*{entry.severity}*. {entry.why.strip()}\n"
    for title, example in (("Wrong", entry.wrong), ("Right", entry.right)):
        yield f"{title}:\n```yaml\n{example.rstrip()}\n```"


def main() -> None:
    """Writes the pages into the folder that the call names."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/reference")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "spec.md").write_text(spec_page(), encoding="utf-8")
    (folder / "checks.md").write_text(checks_page(), encoding="utf-8")
    (folder / "templates.md").write_text(templates_page(), encoding="utf-8")


if __name__ == "__main__":
    main()

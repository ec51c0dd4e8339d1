"""docs/reference/templates.md: the chat templates that come along, as a table and with an example of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from conversations.templates import ChatTemplate, library
from specgen.facts.marking import Marking, marked
from specgen.facts.template import NAMES

ROW = (
    '{"messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":"Hello."},'
    '{"role":"user","content":"Bye"},{"role":"assistant","content":"See you."}]}'
)
MARKING = Marking(system="Be brief.", train_on="assistant", end_of_turn=True, last_only=False)
HEAD = f"""\
# The chat templates

`template: NAME` in a spec takes one of these; `specgen list --templates` lists them. `template: tokenizer` takes the model's own, and
`{{file: PATH}}` or `{{jinja: TEXT}}` one of yours. What is trained of a turn is marked in each with `{{% generation %}}`; the exported
chat template is the same without these marks, which most servers do not know.

A conversation begins as the tokenizer begins a text: with `bos_token` where it puts that before every text, else without. Generation
stops on the tokenizer's own end of text and on the stop texts here; the exported generation_config.json names their tokens.

Made from conversations/chat_templates/ by `make docs`. In the examples `{NAMES["bos_token"]}` and `{NAMES["eos_token"]}` stand for the
tokenizer's own, and [[ ]] for what is trained.
"""


def page() -> str:
    """The whole page, Markdown."""
    return "\n".join(_lines()).rstrip("\n") + "\n"


def _lines() -> Iterator[str]:
    yield HEAD
    yield "| name | turns | for | stop texts | system text | rewrites earlier turns |"
    yield "|---" * 6 + "|"
    for template in library().values():
        cells = [
            f"[{template.name}](#{template.name})",
            _escaped(template.description),
            template.models,
            " ".join(f"`{text}`" for text in template.stop).replace("|", "\\|"),
            template.system,
            "yes" if template.rewrites_earlier_turns else "no",
        ]
        yield f"| {' | '.join(cells)} |"
    for template in library().values():
        yield f"\n## {template.name}\n\n{_escaped(template.description)} Form: {template.source}.\n\n```text\n{_example(template)}\n```"


def _example(template: ChatTemplate) -> str:
    return marked(template.jinja, ROW, replace(MARKING, system=None) if template.system == "refused" else MARKING)


def _escaped(text: str) -> str:
    return text.replace("<", "\\<").replace("|", "\\|")

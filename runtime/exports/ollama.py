"""Modelfile: how Ollama runs a GGUF file. Its templates are Go's, so one is written only where it renders what ours does.

Where it cannot, TEMPLATE is left out: `ollama create` then looks the file's own chat template up among those that it knows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from runtime.config import ChatConfig
from runtime.exports.turns import Turns, turns_of
from runtime.faults import WRONG, RunFault
from runtime.generation.generate import template_stops
from runtime.tokens.chat_template import ChatFormat
from runtime.tokens.text_format import RowFormat

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FENCE = '"""'
LONGEST_CONTEXT = 8192  # Ollama reserves memory for all of it; more is for the user to say
LEFT_OUT = (
    "# Ollama has no template like this model's: it takes one that it knows from the file, or none.\n"
    "# Give it whole prompts, or use the file with llama.cpp, which reads the model's own."
)


def modelfile(file: str, *, chat: ChatConfig, tokenizer: PreTrainedTokenizerBase, form: RowFormat, ends: list[str], positions: int) -> str:
    """The text of a Modelfile for a GGUF file beside it. `ends` are texts of the tokens that end an answer. Raises RunFault."""
    lines = [f"FROM ./{file}", ""]
    if isinstance(form, ChatFormat):
        turns = turns_of(form, begin=str(tokenizer.bos_token) if form.vocabulary.begin else "")
        template = None if turns is None else go_template(turns)
        lines += [LEFT_OUT if template is None else f"TEMPLATE {FENCE}{template}{FENCE}", ""]
    else:
        lines += [f"TEMPLATE {FENCE}{{{{ .Prompt }}}}{FENCE}", ""]
    if chat.system is not None and isinstance(form, ChatFormat):
        lines += [f"SYSTEM {_fenced(chat.system, 'chat.system')}", ""]
    lines += [f"PARAMETER {name} {value}" for name, value in parameters(chat, positions=positions)]
    stops = dict.fromkeys([*ends, *template_stops(form), *chat.stop])
    lines += [f"PARAMETER stop {_fenced(text, 'chat.stop')}" for text in stops]
    return "\n".join(lines) + "\n"


def go_template(turns: Turns) -> str | None:
    """The parts as a Go template; None where one of them holds what Go would take for its own."""
    parts = (*turns.system, *turns.user, *turns.assistant, turns.opening, turns.prompt)
    if any("{{" in part or "}}" in part or '"' in (part[:1], part[-1:]) or FENCE in part for part in parts):
        return None
    opening = f'{{{{ if ne (index .Messages 0).Role "system" }}}}{turns.opening}{{{{ end }}}}' if turns.opening else ""
    roles = {"system": turns.system, "user": turns.user, "assistant": turns.assistant}
    choices = [f'if eq .Role "{role}" }}}}{before}{{{{ .Content }}}}{after}' for role, (before, after) in roles.items()]
    return f"{opening}{{{{ range .Messages }}}}{{{{ {'{{ else '.join(choices)}{{{{ end }}}}{{{{ end }}}}{turns.prompt}"


def parameters(chat: ChatConfig, *, positions: int) -> list[tuple[str, str]]:
    """The chat settings by Ollama's names. Its own defaults differ: each is written."""
    sampling = [("top_k", f"{chat.top_k}"), ("top_p", f"{chat.top_p:g}")] if chat.temperature > 0 else []
    return [
        ("temperature", f"{chat.temperature:g}"),
        *sampling,
        ("repeat_penalty", f"{chat.repetition_penalty:g}"),
        ("repeat_last_n", "-1"),
        ("seed", f"{chat.seed}"),
        ("num_predict", f"{chat.max_new_tokens}"),
        ("num_ctx", f"{min(positions, LONGEST_CONTEXT)}"),
    ]


def _fenced(text: str, what: str) -> str:
    """A text as a Modelfile holds it. Raises RunFault for one that it cannot hold."""
    if FENCE in text or text.endswith('"'):
        message = f"{what} holds {FENCE}" if FENCE in text else f"{what} ends with a quotation mark"
        raise RunFault("SG478", f"{message}, which a Modelfile cannot", "change it, or leave out export.gguf", exit_code=WRONG)
    return f"{FENCE}{text}{FENCE}" if '"' in text or "\n" in text else f'"{text}"'

"""vLLM, where it is installed: the command that serves the merged model as the spec says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from runtime.config import ChatConfig
from runtime.faults import WRONG, RunFault


def program() -> str | None:
    """Where vLLM's command lies; None where it is not installed."""
    return shutil.which("vllm")


def require_program() -> str:
    """The same. Raises RunFault."""
    found = program()
    if found is None:
        hint = "pip install vllm, or --engine transformers"
        raise RunFault("SG680", "--engine vllm: there is no command vllm on PATH", hint, exit_code=WRONG)
    return found


def obstacle(stops: tuple[str, ...], adapter: Path | None, system: str | None) -> str | None:
    """What vLLM could not be told of this model; None where nothing is in the way."""
    if adapter is not None:
        return "it serves a whole model, and --adapter is none"
    if stops:
        return f"it takes stop texts from requests only, and this model's answers end at {', '.join(map(repr, stops))}"
    if system is not None:
        return "it answers without the system text of the chat, where a request has none of its own"
    return None


def require_no_obstacle(found: str | None) -> None:
    """Raises RunFault for what vLLM could not be told."""
    if found:
        raise RunFault("SG683", f"--engine vllm: {found}", "take --engine transformers", exit_code=WRONG)


def command(vllm: str, model: Path, *, name: str, chat: ChatConfig | None, host: str, port: int) -> list[str]:
    """The command. Ids that end an answer are in the model's generation_config.json, which vLLM reads; without `chat` so is the rest."""
    words = [vllm, "serve", str(model), "--host", host, "--port", str(port), "--served-model-name", name]
    template = model / "chat_template.jinja"
    if template.is_file():
        words += ["--chat-template", str(template)]
    words += ["--generation-config", str(model)]
    if chat is not None:
        words += ["--override-generation-config", json.dumps(_settings(chat))]
    return words


def _settings(chat: ChatConfig) -> dict[str, Any]:
    settings: dict[str, Any] = {"temperature": chat.temperature, "max_new_tokens": chat.max_new_tokens}
    if chat.temperature > 0:
        settings |= {"top_k": chat.top_k, "top_p": chat.top_p}
    return settings | {"repetition_penalty": chat.repetition_penalty}

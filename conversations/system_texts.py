"""System texts by XTuner's names (SYSTEM_TEMPLATE in its utils/templates.py): a model that was trained with one is asked with it."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

NAMES = ("moss_sft", "alpaca", "arxiv_gentile", "colorist", "coder", "lawyer", "medical", "sql")
APIS = {"search": "Search(query)", "calculate": "Calculate(expression)", "solve": "Solve(equation)"}


def system_texts(bot_name: str = "BOT", plugins: Collection[str] = ()) -> dict[str, str]:
    """Name → text, for a model of this name and with these tools."""
    import yaml

    texts = yaml.safe_load((Path(__file__).parent / "system_texts.yaml").read_text(encoding="utf-8"))
    tools = {name: f"enabled. API: {api}" if name in plugins else "disabled." for name, api in APIS.items()}
    return {name: text.format(bot_name=bot_name, **tools) for name, text in texts.items()}

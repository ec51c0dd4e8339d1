"""A task file of lm-evaluation-harness as plain data. Nothing that it names is imported or run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

OTHERS = ("include", "class", "custom_dataset")  # what would bring code or other files in


class BadTask(ValueError):
    """Why a file is no task, and what to do about it."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


def read_task(path: Path, name: str) -> dict[str, Any]:
    """What the file says. Raises OSError, and BadTask where it is no task of that name."""
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise BadTask("it is not UTF-8 text") from None
    except RecursionError:
        raise BadTask("it is nested too deeply") from None
    except yaml.constructor.ConstructorError as error:
        hint = "write the texts with Jinja, doc_to_text: '{{question}}'; code of one's own is not run"
        raise BadTask(f"it names Python code: {(error.problem or '').partition(' for the tag ')[2] or error.problem}", hint) from None
    except yaml.YAMLError as error:
        raise BadTask(f"it is no YAML: {getattr(error, 'problem', None) or error}") from None
    if not isinstance(content, dict) or not isinstance(content.get("task"), str):
        raise BadTask("it names no task", f"write task: {name}")
    if content["task"] != name:
        raise BadTask(f"its task is {content['task']}, not {name}", f"name: {content['task']}")
    for key in OTHERS:
        if key in content:
            raise BadTask(f"{key} brings other files or code in, which is not read", "put all of the task into this file")
    return content

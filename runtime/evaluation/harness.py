"""Tasks of lm-evaluation-harness (extra `eval`), on a model that is loaded already.

A task file of one's own is read here, as plain data: one that names Python code is refused, and its Jinja texts run in a sandbox.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from conversations.task_files import BadTask, read_task
from runtime.config import TaskConfig
from runtime.data.as_compiled import require_unchanged
from runtime.faults import WRONG, RunFault


def require_tasks(tasks: Sequence[TaskConfig]) -> None:
    """Before anything is trained: raises RunFault where lm-evaluation-harness is missing, does not know a task, or a file has changed."""
    if not tasks:
        return
    if importlib.util.find_spec("lm_eval") is None:
        raise RunFault("SG695", "eval.tasks need lm-evaluation-harness, which is not installed", "pip install 'specgen[eval]'")
    named = [task.name for task in tasks if task.path is None]
    for task in tasks:
        _config_of(task)
    if named:
        from lm_eval.tasks import TaskManager

        known = TaskManager().all_tasks
        for name in named:
            if name not in known:
                raise RunFault("SG696", f"lm-evaluation-harness has no task {name}", "lm-eval ls tasks shows them", exit_code=WRONG)


def score_of(task: TaskConfig, model: Any, tokenizer: Any, *, batch_size: int) -> float:
    """What a model comes to in a task, by the metric that counts. Raises RunFault where its data is not at hand."""
    with _quiet():
        from lm_eval import simple_evaluate, utils
        from lm_eval.models.huggingface import HFLM

        utils.env = _sandboxed(utils.env)
        asked = _config_of(task)
        try:
            found = simple_evaluate(
                model=HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size),
                tasks=[asked if asked is not None else task.name],
                num_fewshot=task.num_fewshot,
                limit=task.limit,
                apply_chat_template=task.apply_chat_template,
                bootstrap_iters=0,
                log_samples=False,
            )
        except RunFault:
            raise
        except Exception as error:  # a library that runs what a file says: any kind may come
            reason = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
            hint = "its data has to be in the cache of the hub or in files; lm-eval run it alone tells more"
            raise RunFault("SG696", f"task {task.name} cannot be carried out: {reason}", hint) from None
    figures = {key.partition(",")[0]: value for key, value in found["results"][task.name].items() if isinstance(value, int | float)}
    if task.metric not in figures:
        known = ", ".join(sorted(name for name in figures if not name.endswith("_stderr") and name != "sample_len")) or "none"
        raise RunFault(
            "SG697", f"task {task.name} has no metric {task.metric}; it has {known}", f"metric: {known.split(', ')[0]}", exit_code=WRONG
        )
    return float(figures[task.metric])


def _config_of(task: TaskConfig) -> dict[str, Any] | None:
    """What a task's own file says; None of one that comes with lm-evaluation-harness."""
    if task.path is None:
        return None
    assert task.sha256 is not None
    require_unchanged(task.path, task.sha256)
    try:
        return read_task(Path(task.path), task.name)
    except BadTask as fault:
        raise RunFault("SG694", f"{task.path}: {fault}", fault.hint, exit_code=WRONG) from None


def _sandboxed(environment: Any) -> Any:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    if isinstance(environment, ImmutableSandboxedEnvironment):
        return environment
    own = ImmutableSandboxedEnvironment(
        loader=environment.loader, undefined=environment.undefined, keep_trailing_newline=environment.keep_trailing_newline
    )
    own.filters.update(environment.filters)
    return own


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the harness's own lines and bars: the stage has its own."""
    logger = logging.getLogger("lm_eval")
    before = logger.level
    logger.setLevel(logging.ERROR)
    with contextlib.redirect_stderr(_Nothing()):
        try:
            yield
        finally:
            logger.setLevel(before)


class _Nothing:
    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        pass

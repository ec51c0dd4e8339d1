"""The stage graph of a compiled folder: what each stage needs, what its output depends on, and what does its work.

Heavy imports stay inside the stages' functions.
"""

from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path
from typing import Any

from runtime.config import Config
from runtime.models.base import identity_of_parts
from runtime.models.from_run import identity_of_run
from runtime.stage_names import STAGES
from runtime.stages import Stage
from runtime.training.contract import what_changes_weights
from runtime.training.schedule import without_counts, without_rows
from runtime.vision.parts import adapter_of

TOKENIZER = ("transformers", "tokenizers")
MODEL = ("torch", "transformers", "peft")


def stages(build: Path) -> tuple[Stage, ...]:
    """The stage graph of a compiled folder."""
    return (
        Stage(name="data", needs=(), part=_data_part, libraries=TOKENIZER, work=_data),
        Stage(name="train", needs=("data",), part=_train_part, libraries=(*MODEL, "accelerate"), work=_train(build), resumable=True),
        Stage(name="convert", needs=("train",), part=_convert_part, libraries=("peft",), work=_convert),
        Stage(name="merge", needs=("convert",), part=_merge_part, libraries=MODEL, work=_merge),
        Stage(
            name="smoke", needs=("merge",), part=lambda config: {"chat": config.chat, "smoke": config.smoke}, libraries=MODEL, work=_smoke
        ),
        Stage(name="eval", needs=("merge",), part=_eval_part, libraries=MODEL, work=_evaluate),
        Stage(name="export", needs=("merge",), part=_export_part, libraries=(*MODEL, "gguf"), work=_export),
        Stage(
            name="report",
            needs=tuple(name for name in STAGES if name != "report"),
            part=lambda config: config,
            libraries=("matplotlib",),
            work=_report,
        ),
    )


def _data_part(config: Config) -> object:
    seed = config.train.seed
    objective = config.train.objective
    data = without_counts(config.data)
    found = {"base": identity_of_parts(config.model), "template": config.template, "data": data, "seed": seed, "objective": objective}
    return found if config.model.vision is None else {**found, "vision": config.model.vision}


def _train_part(config: Config) -> object:
    begun = {} if config.model.from_run is None else {"from_run": identity_of_run(config.model)}
    return {
        **begun,
        "model": config.model,
        "adapter": config.adapter,
        "train": what_changes_weights(config.train),
        "distributed": replace(config.distributed, nvme_path=None, ddp_timeout=0),
    }


def _convert_part(config: Config) -> object:
    return config.export.merged if adapter_of(config) is None else config.export.adapter


def _merge_part(config: Config) -> object:
    # the chat settings of the exported generation_config are written once more by the smoke test: they are not worth a merge
    return {"export": config.export.merged, "template": config.template}


def _eval_part(config: Config) -> object:
    return {"chat": config.chat, "eval": replace(config.eval, sources=without_rows(config.eval.sources)) if config.eval else None}


def _export_part(config: Config) -> object:
    export = config.export
    asked = config.smoke if export.quantized is not None else ()
    wanted = {"gguf": export.gguf, "quantized": export.quantized}
    return {**wanted, "name": config.name, "description": config.description, "chat": config.chat, "smoke": asked}


def _data(config: Config, folder: Path, out: Path) -> dict[str, Any]:
    from runtime.data.stage import make_data

    return make_data(config, folder, out)


def _train(build: Path) -> Any:
    def work(config: Config, folder: Path, out: Path) -> dict[str, Any]:
        from runtime.training.train import train

        gc.freeze()  # a third of a second for each collection among the libraries' objects, some of them in the middle of a step
        return train(config, folder, out, build=build)

    return work


def _convert(config: Config, folder: Path, out: Path) -> dict[str, Any]:
    from runtime.conversion.convert import convert

    return convert(config, folder, out)


def _merge(config: Config, folder: Path, out: Path) -> dict[str, Any]:
    from runtime.conversion.merge import merge

    return merge(config, folder, out)


def _smoke(config: Config, folder: Path, out: Path) -> dict[str, Any]:
    from runtime.evaluation.smoke import smoke

    return smoke(config, folder, out)


def _evaluate(config: Config, folder: Path, out: Path) -> dict[str, Any]:
    from runtime.evaluation.evaluate import evaluate

    return evaluate(config, folder, out)


def _export(config: Config, folder: Path, out: Path) -> dict[str, Any]:
    from runtime.exports.stage import export

    return export(config, folder, out)


def _report(config: Config, folder: Path, out: Path) -> dict[str, Any]:
    from runtime.reports.report import report

    return report(config, folder, out)

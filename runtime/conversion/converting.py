"""python -m runtime.conversion.converting CHECKPOINT OUT: makes a Hugging Face adapter or model of a checkpoint, without a run.

CHECKPOINT is a checkpoint-N of a run (its weights are gathered in it, whatever ZeRO stage and number of processes wrote it), a
folder as peft or transformers writes it, or XTuner's iter_N.pth, a file or a folder of DeepSpeed's.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from runtime import console
from runtime.conversion.new_folder import copy_small_files, written_aside
from runtime.faults import WRONG, RunFault, exit_code_of
from runtime.starting import in_utf8, quiet

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from peft import LoraConfig

    from runtime.conversion.xtuner import Weights
    from runtime.training.initial import Taken
    from runtime.weights.written import Kind

HINT = "write --fp32"
Made = tuple[str, int]  # adapter or model, and its bytes


def main() -> int:
    """The program; specgen convert gives the form of the weights and the size of their files. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m runtime.conversion.converting", description="Makes a Hugging Face folder of a checkpoint."
    )
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="checkpoint-N of a run, or XTuner's iter_N.pth")
    parser.add_argument("out", type=Path, metavar="OUT", help="the folder to write; not there yet")
    parser.add_argument("--fp32", action="store_true", help="write float32; else float16")
    parser.add_argument("--max-shard-size", required=True)
    parser.add_argument("--format", dest="form", choices=("safetensors", "bin"), required=True)
    parser.add_argument("--lora-alpha", type=float, default=None, help="of an XTuner adapter whose file does not say it")
    parser.add_argument(
        "--base", type=Path, default=None, help="the base model's folder: for XTuner's whole models, and its adapters of InternLM2"
    )
    arguments = parser.parse_args()
    quiet()
    return exit_code_of(lambda: convert(arguments))


def convert(arguments: argparse.Namespace) -> int:
    """Writes the folder. Raises RunFault for what is no checkpoint."""
    checkpoint: Path = arguments.checkpoint
    if not checkpoint.exists():
        raise RunFault("SG450", f"there is no checkpoint {checkpoint}", "give a folder or a .pth file", exit_code=WRONG)
    with written_aside(arguments.out) as out:
        made, number = _made(arguments, checkpoint, out)
    console.say("convert", f"{made} · {'float32' if arguments.fp32 else 'float16'} · {console.size(number)}")
    quoted = shlex.quote(str(arguments.out))
    then = f"merge BASE {quoted} OUT" if made == "adapter" else f"chat {quoted}"
    print(f"wrote {arguments.out}; next: specgen {then}")
    return 0


def _made(arguments: argparse.Namespace, checkpoint: Path, out: Path) -> Made:
    from runtime.training.checkpoints import SEAL, problem_of

    if (checkpoint / SEAL).exists() and (problem := problem_of(checkpoint)):
        raise RunFault("SG441", f"{checkpoint} is damaged: {problem}", "give another checkpoint of the run")
    if (checkpoint / "adapter_config.json").exists():
        return _of_peft(arguments, checkpoint, out)
    if (checkpoint / "config.json").exists():
        return _of_transformers(arguments, checkpoint, out)
    return _of_xtuner(arguments, checkpoint, out)


def _of_peft(arguments: argparse.Namespace, checkpoint: Path, out: Path) -> Made:
    """An adapter; one that began with a part of the base's weights (PiSSA, OLoRA) becomes an ordinary one.

    What it began with, and whether its base was quantized, stands in the contract of the run: in that of the checkpoint, or for
    final in that of the train folder. Its adapter_config.json says neither (trainable.py).
    """
    from peft import LoraConfig

    from runtime.conversion.restored import against_base
    from runtime.models.adapter import read_adapter
    from runtime.training import contract, trained_on

    settings, tensors = LoraConfig.from_pretrained(str(checkpoint)), read_adapter(checkpoint)
    method = str(contract.made_under(checkpoint).get("adapter.lora.init_lora_weights"))
    if trained_on.takes_from_base(method):
        tensors = against_base(tensors, settings, _taken(checkpoint, method))
    if (record := trained_on.read(checkpoint)) is not None:
        trained_on.write(out, record.quantization, dtype=record.dtype, taken=record.taken)
    return _adapter(arguments, tensors, settings, out)


def _taken(checkpoint: Path, method: str) -> Taken:
    """What the adapter took out of the base. Raises RunFault where that is not beside it: without it the weights fit no base."""
    from runtime.training.initial import TAKEN, read_taken

    taken = read_taken(checkpoint.absolute().parent / TAKEN)
    if not taken:
        message = f"the adapter in {checkpoint} cannot be read: it began with a part of the base's weights ({method}), and {TAKEN}, "
        message += "which holds that part, is not beside it"
        raise RunFault("SG441", message, "convert it where its run has it: runs/NAME/train/checkpoint-N", exit_code=WRONG)
    return taken


def _of_transformers(arguments: argparse.Namespace, checkpoint: Path, out: Path) -> Made:
    from runtime.weights.shards import files_of, kinds, tensors

    where = files_of(checkpoint, "the checkpoint's weights")
    return _model(arguments, kinds(where), lambda name: next(tensors(where, [name]))[1], checkpoint, out)


def _of_xtuner(arguments: argparse.Namespace, checkpoint: Path, out: Path) -> Made:
    from runtime.conversion import xtuner

    found = xtuner.read(checkpoint)
    if found.others:
        console.say("note", f"left out: {', '.join(found.others)}; only the language model is converted")
    if found.is_adapter():
        settings = _settings(arguments, found)
        return _adapter(arguments, _turned(arguments, found.tensors, settings), settings, out)
    base = _base_of(arguments, "holds a whole model's weights, without its config.json")
    kinds = {name: (list(tensor.shape), tensor.dtype) for name, tensor in found.tensors.items()}
    _require_like(base, kinds, checkpoint)
    return _model(arguments, kinds, found.tensors.__getitem__, base, out)


def _require_like(base: Path, found: dict[str, Kind], checkpoint: Path) -> None:
    """Raises RunFault where the weights are not those of a model like the base: one is missing, or has another shape."""
    from runtime.weights.shards import COMPUTED, files_of, kinds
    from runtime.weights.streaming import is_tied

    of_base = kinds(files_of(base, "the base model's weights"))
    outputs = ("lm_head.weight", "output.weight") if is_tied(base) else ()
    for name, (shape, _) in of_base.items():
        if name.endswith(COMPUTED) or (name in outputs and name not in found):
            continue
        if name not in found or found[name][0] != shape:
            what = f"{name} is {found[name][0]}, in {base} {shape}" if name in found else f"it has no {name}"
            message = f"{checkpoint} does not hold the weights of a model like {base}: {what}"
            raise RunFault("SG496", message, "give the base model that was trained: --base DIR", exit_code=WRONG)


def _turned(arguments: argparse.Namespace, tensors: dict[str, torch.Tensor], settings: LoraConfig) -> dict[str, torch.Tensor]:
    """The adapter by the names of the base, where that is given: InternLM2's own code calls its modules otherwise."""
    from runtime.models.adapter import turned_for

    if arguments.base is None:
        return tensors
    base = _base_of(arguments, "is to have its base model's names, and that has no config.json")
    return turned_for(json.loads((base / "config.json").read_text(encoding="utf-8")), tensors, settings, arguments.checkpoint)


def _base_of(arguments: argparse.Namespace, reason: str) -> Path:
    """The folder of the base model. Raises RunFault where none is given, or it is none."""
    base: Path | None = arguments.base
    if base is None or not (base / "config.json").is_file():
        message = f"{arguments.checkpoint} {reason}"
        raise RunFault("SG496", message, "give the folder of the base model: --base DIR", exit_code=WRONG)
    return base


def _settings(arguments: argparse.Namespace, found: Weights) -> LoraConfig:
    """peft's settings, from the tensors: rank, modules, DoRA; alpha is in no tensor."""
    from peft import LoraConfig

    from runtime.weights.adapters import PREFIX

    alpha = arguments.lora_alpha or found.alpha
    if alpha is None:
        message = f"{arguments.checkpoint} does not say lora_alpha, which scales the adapter"
        raise RunFault("SG496", message, "give it as the training config had it: --lora-alpha 16", exit_code=WRONG)
    factors = {name.partition(".lora_A")[0]: len(tensor) for name, tensor in found.tensors.items() if ".lora_A" in name}
    ranks = {module.removeprefix(PREFIX): rank for module, rank in factors.items()}
    usual = Counter(ranks.values()).most_common(1)[0][0]
    whole = {name.split(".")[-2] for name in found.tensors if ".lora_" not in name and name.endswith(".weight")}
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=usual,
        lora_alpha=int(alpha) if float(alpha).is_integer() else alpha,
        rank_pattern={module: rank for module, rank in ranks.items() if rank != usual},
        target_modules=sorted({module.rpartition(".")[2] for module in ranks}),
        modules_to_save=sorted(whole) or None,
        use_dora=any("lora_magnitude_vector" in name for name in found.tensors),
        base_model_name_or_path=found.base,
        inference_mode=True,
    )


def _adapter(arguments: argparse.Namespace, tensors: dict[str, torch.Tensor], settings: LoraConfig, out: Path) -> Made:
    from runtime.models.adapter import write_adapter

    options = {"max_shard_size": arguments.max_shard_size, "form": arguments.form, "hint": HINT}
    return "adapter", write_adapter(tensors, settings, out, dtype=_dtype(arguments), **options)


def _model(arguments: argparse.Namespace, kinds: dict[str, Kind], value: Callable[[str], torch.Tensor], like: Path, out: Path) -> Made:
    """A whole model, tensor by tensor; `like` is a folder that has its settings and tokenizer."""
    from runtime.weights.streaming import is_tied, write_config
    from runtime.weights.written import write_weights

    dtype = _dtype(arguments)
    planned = {name: (shape, dtype if own.is_floating_point else own) for name, (shape, own) in kinds.items()}
    number = write_weights(planned, value, out, max_shard_size=arguments.max_shard_size, form=arguments.form, hint=HINT)
    write_config(like, out, dtype=dtype, tied=is_tied(like))
    copy_small_files(like, out)
    return "model", number


def _dtype(arguments: argparse.Namespace) -> torch.dtype:
    import torch

    return torch.float32 if arguments.fp32 else torch.float16


if __name__ == "__main__":
    in_utf8("runtime.conversion.converting")
    sys.exit(main())

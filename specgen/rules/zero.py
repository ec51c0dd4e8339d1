"""Rules about processes and DeepSpeed. What goes with which stage is in schemas/support.yaml."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from specgen.diagnostics import Diagnostic
from specgen.facts.gather import Facts
from specgen.presets import settings_of
from specgen.schedule import divides, schedule, world_size
from specgen.source import Node, scalar
from specgen.validate import dotted, place_of

# The sections of a DeepSpeed configuration: deepspeed/runtime/constants.py and config.py, 0.19
DEEPSPEED_KEYS = (
    "train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping", "optimizer", "scheduler",
    "fp16", "bf16", "amp", "torch_autocast", "zero_optimization", "zero_allow_untested_optimizer", "zero_force_ds_cpu_optimizer",
    "steps_per_print", "wall_clock_breakdown", "dump_state", "communication_data_type", "seq_parallel_communication_data_type",
    "prescale_gradients", "gradient_predivide_factor", "gradient_allreduce_op", "sparse_gradients", "disable_allgather",
    "dataloader_drop_last", "data_types", "checkpoint", "load_universal_checkpoint", "activation_checkpointing", "aio", "flops_profiler",
    "comms_logger", "tensorboard", "wandb", "csv_monitor", "comet", "autotuning", "elasticity", "compile", "hybrid_engine",
    "use_data_before_expert_parallelism", "log_level", "graph_harvesting", "check_overflow", "disable_python_gc", "nebula",
    "data_efficiency", "curriculum_learning", "compression_training", "quantize_training", "tensor_parallel", "timers", "zenflow",
    "train_steps", "seed",
)  # fmt: skip
LETS_TORCH_RUN = ("optimizer", "scheduler")
# settings that are texts, whatever they look like: deepspeed/monitor/config.py, nebula, the flops profiler and the autotuner
TEXTS = frozenset({
    "api_key", "exps_dir", "experiment_key", "experiment_name", "group", "job_name", "load_path", "mode", "nvme_path", "output_file",
    "output_path", "persistent_storage_path", "project", "results_dir", "team", "workspace",
})  # fmt: skip
# what deepspeed.json has as a mapping, or takes as one
SECTIONS = ("bf16", "fp16", "aio", "zero_optimization", "zero_optimization.offload_optimizer", "zero_optimization.offload_param")


def sharing_needs_processes(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """A stage without processes to share among is allowed, and does nothing: say so."""
    stage = tree.number("distributed", "zero_stage")
    if stage and world_size(tree) == 1 and tree.text("distributed", "offload") == "none":
        yield Diagnostic(
            code="SG263",
            severity="note",
            message=f"zero_stage {stage} with one process shares nothing out",
            place=place_of(tree, "distributed", "zero_stage"),
        )


def deepspeed_settings_need_a_stage(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """Without a ZeRO stage there is no deepspeed.json that they could go into."""
    own = _own(tree)
    if own.children and tree.number("distributed", "zero_stage") == 0:
        yield Diagnostic(
            code="SG264",
            message="distributed.deepspeed is given, and zero_stage is 0: this run has no DeepSpeed",
            place=own.key or own.place,
            hint="write zero_stage: 2, or leave distributed.deepspeed out",
        )


def deepspeed_settings_are_typed(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """A number or a truth in quotes is text to DeepSpeed; and auto is for transformers to fill in, not for a concrete file."""
    for path, node in _leaves(_own(tree), []):
        if not _is_mistyped(path[-1] if path else "", node):
            continue
        name = dotted(["distributed", "deepspeed", *path])
        if node.value == "auto":
            hint = "leave it out: specgen writes the number that the rest of the spec says"
            yield Diagnostic(code="SG265", message=f"{name} is auto; a compiled deepspeed.json has none", place=node.place, hint=hint)
        else:
            text = str(node.value)
            message = f"{name} is the text {text!r}".replace("'", '"')
            yield Diagnostic(code="SG265", message=message, place=node.place, hint=f"write {text.lower()} without quotes")


def _is_mistyped(name: str | int, node: Node) -> bool:
    """Whether a setting is a text that stands for something else. Where DeepSpeed takes texts, none does."""
    if not isinstance(node.value, str) or name in TEXTS:
        return False
    return node.value == "auto" or isinstance(scalar(node.value), bool | int | float)


def deepspeed_sections_stay_sections(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """A section of deepspeed.json that is no mapping takes the place of what the spec says in it."""
    for path in SECTIONS:
        node = _own(tree).at(*path.split("."))
        if node is not None and not isinstance(node.value, dict) and node.value != "auto":
            yield Diagnostic(
                code="SG266",
                message=f"distributed.deepspeed.{path} is {_plain(node.value)}, and DeepSpeed reads a section there",
                place=node.place or node.key,
                hint=f"leave {path} out, or give it settings of DeepSpeed's",
            )


def deepspeed_settings_agree(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """What the spec says elsewhere is not said otherwise to DeepSpeed."""
    if not divides(tree):
        return
    for path, (key, value, how) in _said_elsewhere(tree).items():
        node = _own(tree).at(*path.split("."))
        if node is None or _is_mistyped(path.rpartition(".")[2], node):
            continue
        if node.value == value and isinstance(node.value, bool) == isinstance(value, bool):  # to Python, 1 is true as well
            continue
        other = tree.at(*key.split("."))
        yield Diagnostic(
            code="SG266",
            message=f"distributed.deepspeed.{path} is {_plain(node.value)}, and {key} makes it {_plain(value)}{how}",
            place=node.place,
            related=((other.place, f"{key} is set here"),) if other is not None and other.place else (),
            hint=f"leave {path} out, and change {key}",
        )


def _said_elsewhere(tree: Node) -> dict[str, tuple[str, object, str]]:
    """DeepSpeed's key → the spec's key, the value that follows from it, and how."""
    steps = schedule(tree, None)
    micro, accumulation, processes = steps.micro_batch_size, steps.accumulation, world_size(tree)
    dtype, offload = tree.text("model", "dtype"), tree.text("distributed", "offload")
    return {
        "train_batch_size": ("train.batch_size", tree.number("train", "batch_size"), f" = {micro} x {accumulation} x {processes}"),
        "train_micro_batch_size_per_gpu": ("train.micro_batch_size", micro, ""),
        "gradient_accumulation_steps": ("train.batch_size", accumulation, ""),
        "gradient_clipping": ("train.max_grad_norm", tree.real("train", "max_grad_norm"), ""),
        "bf16.enabled": ("model.dtype", dtype == "bfloat16", ""),
        "fp16.enabled": ("model.dtype", dtype == "float16", ""),
        "zero_optimization.stage": ("distributed.zero_stage", tree.number("distributed", "zero_stage"), ""),
        **_moved(tree, "offload_optimizer", "cpu_offload", moves=offload in ("optimizer", "all")),
        **_moved(tree, "offload_param", "cpu_offload_param", moves=offload == "all"),
    }


def _moved(tree: Node, section: str, of_old: str, *, moves: bool) -> dict[str, tuple[str, object, str]]:
    """The same of what is moved to the CPU, or to a disk. DeepSpeed still reads the truth that older versions had there."""
    distributed = tree.children["distributed"].children
    device = distributed["offload_device"].value if moves else "none"
    return {
        f"zero_optimization.{section}.device": (f"distributed.offload{'_device' if moves else ''}", device, ""),
        f"zero_optimization.{section}.nvme_path": ("distributed.nvme_path", distributed["nvme_path"].value, ""),
        f"zero_optimization.{of_old}": ("distributed.offload", moves, ""),
    }


def deepspeed_leaves_the_optimizer(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """One optimizer and one schedule: those of train."""
    for name in LETS_TORCH_RUN:
        node = _own(tree).children.get(name)
        if node is None:
            continue
        key = {"optimizer": "train.optimizer", "scheduler": "train.schedule"}[name]
        other = tree.at(*key.split("."))
        yield Diagnostic(
            code="SG267",
            message=f"the {name} is chosen by {key}, and a second one is given to DeepSpeed",
            place=node.key,
            related=((other.place, f"{key} is set here"),) if other is not None and other.place else (),
            hint=f"leave distributed.deepspeed.{name} out",
        )


def deepspeed_keys_are_known(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """DeepSpeed ignores a key that it does not know."""
    for name, node in _own(tree).children.items():
        if name not in DEEPSPEED_KEYS:
            near = difflib.get_close_matches(name, DEEPSPEED_KEYS, n=1)
            message = f"DeepSpeed knows no section {name}, and would ignore it"
            hint = f"did you mean '{near[0]}'?" if near else "its sections are in DeepSpeed's documentation, under Configuration JSON"
            yield Diagnostic(code="SG268", message=message, place=node.key, hint=hint)


def a_preset_is_not_contradicted(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """What a preset says is not said otherwise beside it."""
    for key, value in settings_of(tree).items():
        written = tree.children["distributed"].children[key]
        if written.value == value:
            continue
        preset = tree.children["distributed"].children["preset"]
        yield Diagnostic(
            code="SG631",
            message=f"distributed.{key} is {_plain(written.value)}, and distributed.preset: {preset.value} says {_plain(value)}",
            place=written.place,
            related=((preset.place, "distributed.preset is set here"),) if preset.place else (),
            hint=f"leave {key} out, or leave preset out and write zero_stage and offload yourself",
        )


def nvme_offload_has_a_folder(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """DeepSpeed puts its files where nvme_path says, and nowhere else."""
    path = tree.children["distributed"].children["nvme_path"]
    to_disk = tree.text("distributed", "offload_device") == "nvme"
    if to_disk and path.value is None:
        hint = "write nvme_path: a folder on a local NVMe disk"
        place = place_of(tree, "distributed", "offload_device")
        yield Diagnostic(code="SG632", message="offload_device is nvme, and nvme_path does not say where", place=place, hint=hint)
    elif path.value is not None and not to_disk:
        message = "nvme_path has no effect: offload_device is cpu"
        yield Diagnostic(code="SG633", severity="warning", message=message, place=path.key or path.place, hint="write offload_device: nvme")
    elif to_disk and tree.text("distributed", "offload") == "none":
        message = "offload_device has no effect: distributed.offload is none"
        place = place_of(tree, "distributed", "offload_device")
        yield Diagnostic(code="SG633", severity="warning", message=message, place=place, hint="write offload: optimizer, or offload: all")


def only_zero_3_offloads_to_a_disk(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """In stages 1 and 2 DeepSpeed knows the CPU's memory only."""
    stage = tree.number("distributed", "zero_stage")
    if tree.text("distributed", "offload_device") == "nvme" and tree.text("distributed", "offload") != "none" and stage in (1, 2):
        other = tree.children["distributed"].children["zero_stage"]
        yield Diagnostic(
            code="SG636",
            message=f"only ZeRO-3 moves optimizer state to a disk, and distributed.zero_stage is {stage}",
            place=place_of(tree, "distributed", "offload_device"),
            related=((other.place, "distributed.zero_stage is set here"),) if other.place else (),
            hint="write offload_device: cpu, or zero_stage: 3",
        )


def offload_to_a_disk_is_unproven(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """On a CPU a forward pass of DeepSpeed 0.19.8 ends with "param already assigned swap buffer"; on a GPU it was not tried."""
    offload, path = tree.text("distributed", "offload"), tree.children["distributed"].children["nvme_path"]
    to_disk = tree.text("distributed", "offload_device") == "nvme" and path.value is not None
    if to_disk and offload != "none" and tree.number("distributed", "zero_stage") == 3:
        yield Diagnostic(
            code="SG637",
            severity="warning",
            message=f"offload: {offload} to a disk has not been seen to train here: on a CPU DeepSpeed 0.19.8 ends in the first steps",
            place=place_of(tree, "distributed", "offload_device"),
            hint="write offload_device: cpu, or try two steps first: --set train.max_steps=2",
        )


def _own(tree: Node) -> Node:
    return tree.children["distributed"].children["deepspeed"]


def _leaves(node: Node, path: list[str | int]) -> Iterator[tuple[list[str | int], Node]]:
    if node.children:
        for key, child in node.children.items():
            yield from _leaves(child, [*path, key])
    elif node.items:
        for index, item in enumerate(node.items):
            yield from _leaves(item, [*path, index])
    else:
        yield path, node


def _plain(value: object) -> str:
    """A value as a spec says it, in a word."""
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    if isinstance(value, float):
        return f"{value:g}"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)

"""Rules about the optimizer: what it reads, and what it cannot."""

from __future__ import annotations

from collections.abc import Iterator

from specgen.diagnostics import Diagnostic, Place
from specgen.facts.gather import Facts
from specgen.modules import is_projected
from specgen.optimizers import OPTIMIZERS, Optimizer
from specgen.rules.settings import unlike
from specgen.schedule import divides, schedule, world_size
from specgen.source import Node
from specgen.validate import place_of

READ_BY_SOME = ("adam_beta1", "adam_beta2", "adam_epsilon", "weight_decay", "max_grad_norm")


def the_optimizer_reads_its_settings(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """Settings that the chosen optimizer does not read."""
    name, optimizer = _chosen(tree)
    for key in READ_BY_SOME:
        node = tree.children["train"].children[key]
        if node.place and key not in optimizer.reads and (key != "weight_decay" or node.value):
            yield Diagnostic(
                code="SG258",
                message=f"train.{key} is given, and the optimizer {name} does not read it",
                place=node.key,
                related=tuple(_where(tree, "optimizer")),
                hint=f"leave {key} out, or write optimizer: adamw_torch",
            )


def optim_args_are_known(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """transformers drops an argument that the optimizer does not have, and takes any text for a truth."""
    name, optimizer = _chosen(tree)
    given = tree.children["train"].children["optim_args"]
    yield from unlike(given, optimizer.args, code="SG608", path="train.optim_args", reader=f"the optimizer {name}")
    for key in ("kahan_sum", "decouple_lr"):
        node = given.children.get(key)
        if name == "stable_adamw" and node is not None and node.value is False:
            message = f"transformers reads every value of {key} as true"
            yield Diagnostic(code="SG608", message=message, place=node.place, hint=f"leave {key} out: that is false")
    nesterov, momentum = given.children.get("nesterov"), given.children.get("momentum")
    if nesterov is not None and nesterov.value is True and not (momentum and momentum.value):
        yield Diagnostic(code="SG608", message="nesterov needs a momentum", place=nesterov.place, hint="write momentum: 0.9 beside it")


def projected_modules_match(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """GaLore and APOLLO project the gradients of some linear layers; other optimizers know nothing of that."""
    name, optimizer = _chosen(tree)
    targets = tree.children["train"].children["optim_target_modules"]
    if optimizer.projects and not targets.items:
        message = f"the optimizer {name} projects the gradients of train.optim_target_modules, and none is named"
        yield Diagnostic(
            code="SG609", message=message, place=place_of(tree, "train", "optimizer"), hint="write optim_target_modules: [attn, mlp]"
        )
    elif not optimizer.projects and targets.items:
        message = f"train.optim_target_modules is given, and the optimizer {name} does not read it"
        yield Diagnostic(code="SG609", message=message, place=targets.key, related=tuple(_where(tree, "optimizer")), hint="leave it out")
    linear = facts.model.linear if facts.model else {}
    for node in targets.items:
        if optimizer.projects and linear and not any(is_projected(str(node.value), module) for module in [*linear, "lm_head"]):
            message = f"optim_target_modules names {node.value}, which matches 0 linear layers of the base model"
            yield Diagnostic(code="SG609", message=message, place=node.place, hint=f"its layers are {_leaves(linear)}")


def the_optimizer_can_do_this(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """What an optimizer cannot is told before the run."""
    name, optimizer = _chosen(tree)
    chosen = place_of(tree, "train", "optimizer")
    for why, related, hint in _cannot(tree, optimizer):
        yield Diagnostic(code="SG610", message=f"the optimizer {name} {why}", place=chosen, related=tuple(related), hint=hint)
    ratio = tree.at("adapter", "lora", "loraplus_lr_ratio")
    if ratio is not None and ratio.value is not None and not optimizer.takes_groups:
        yield Diagnostic(
            code="SG606",
            message=f"LoRA+ gives lora_B a rate of its own, and the optimizer {name} makes its own groups of parameters",
            place=ratio.place,
            related=tuple(_where(tree, "optimizer")),
            hint="write optimizer: adamw_torch, or leave loraplus_lr_ratio out",
        )


def _cannot(tree: Node, optimizer: Optimizer) -> Iterator[tuple[str, Iterator[tuple[Place, str]], str]]:
    """Why it cannot, what else in the spec says so, and what to write."""
    if optimizer.broken:
        yield f"cannot be used: {optimizer.broken}", iter(()), "write optimizer: adamw_torch"
        return
    accumulation = schedule(tree, None).accumulation if divides(tree) else 1
    if optimizer.fused and accumulation > 1:
        hint = f"write micro_batch_size: {tree.number('train', 'batch_size') // world_size(tree)}"
        why = f"steps within the backward pass, so that {accumulation} micro batches cannot add up to one step"
        yield why, _where(tree, "micro_batch_size"), hint
    if optimizer.fused and world_size(tree) > 1:
        why = "steps within the backward pass, before the gradients of several processes are averaged"
        yield why, _where(tree, "processes_per_node", "distributed"), "write processes_per_node: 1, or optimizer: adamw_torch"
    if optimizer.projects and tree.at("adapter", "lora") is not None:
        why = "projects the gradients of whole weights, and with an adapter those are frozen"
        yield why, _where(tree, "adapter", ""), "write adapter: null, or optimizer: adamw_torch"
    if not optimizer.flat and tree.number("distributed", "zero_stage"):
        why = "does not work on the slices of all weights that ZeRO gives a process"
        yield why, _where(tree, "zero_stage", "distributed"), "write zero_stage: 0, or optimizer: adamw_torch"
    if optimizer.needs_gpu and tree.text("hardware", "device") == "cpu":
        yield "runs on GPUs only", _where(tree, "device", "hardware"), "write optimizer: adamw_torch"


def checkpoints_hold_the_state(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """A run that is broken off could not go on."""
    name, optimizer = _chosen(tree)
    if not optimizer.resumes and not optimizer.broken:
        yield Diagnostic(
            code="SG616",
            severity="warning",
            message=f"checkpoints do not hold the state of {name}: a run that is broken off cannot go on, and begins anew",
            place=place_of(tree, "train", "optimizer"),
        )


def kernels_need_a_gpu(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """Liger's kernels are written in Triton."""
    node = tree.children["train"].children["use_liger_kernel"]
    if node.value is True and tree.text("hardware", "device") == "cpu":
        yield Diagnostic(
            code="SG614",
            message="train.use_liger_kernel needs a GPU, and hardware.device is cpu",
            place=node.place,
            related=tuple(_where(tree, "device", "hardware")),
            hint="write use_liger_kernel: false",
        )


def _chosen(tree: Node) -> tuple[str, Optimizer]:
    name = tree.text("train", "optimizer")
    return name, OPTIMIZERS[name]


def _where(tree: Node, key: str, section: str = "train") -> Iterator[tuple[Place, str]]:
    """Where a setting stands, if it is written."""
    path = [part for part in (section, key) if part]
    node = tree.at(*path)
    if node is not None and (place := node.place):
        yield place, f"{'.'.join(path)} is set here"


def _leaves(modules: dict[str, tuple[int, int]]) -> str:
    return ", ".join(sorted({module.rpartition(".")[2] for module in modules}))

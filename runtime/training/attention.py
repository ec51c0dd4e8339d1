"""Which attention a model is trained with, by its name in transformers, and why.

auto takes FlashAttention 3 on Hopper and FlashAttention 2 from Ampere on, where they are installed and know the model's dtype and
heads; else sdpa, where transformers offers it to the model, else eager. On a CPU by_rows where the caller can lay rows in a line
(by_rows.py), else eager for short rows, which is faster there (LOG.md).
Outside training (merging, answering) transformers chooses: answers are not compared between kernels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runtime.config import ModelConfig
from runtime.faults import WRONG, RunFault

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig

SHORT_ROW = 128  # tokens; longer rows go to PyTorch's kernel, which keeps no scores (LOG.md)
WIDEST_HEAD = 256  # flash-attn 2 and 3: README of Dao-AILab/flash-attention
BY_ROWS = "by_rows"
FLASH = ("flash_attention_3", "flash_attention_2")  # they take packs of a batch in one line; the better one first
GPU_ONLY = (*FLASH, "flex_attention")
FLAGS = {"flash_attention_3": "flash_attn", "flash_attention_2": "flash_attn", "flex_attention": "flex_attn", "sdpa": "sdpa"}
PACKAGES = {"flash_attention_3": "flash-attn 3 (flash_attn_interface)", "flash_attention_2": "flash-attn"}
INSTALL = {
    "flash_attention_3": "build it from the folder hopper of Dao-AILab/flash-attention, or write model.attention: auto",
    "flash_attention_2": "pip install 'specgen[flash]'",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """An attention by its name in transformers, and why it was taken."""

    name: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Whether training is on a GPU; its compute capability, None where it is not NVIDIA's; which flash attentions are installed."""

    on_gpu: bool
    capability: tuple[int, int] | None
    installed: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What decides on the model's side: its class, the attentions that transformers offers to it beside eager, the dtype of its
    arithmetic, and the features of its widest head."""

    name: str
    offers: frozenset[str]
    dtype: str
    head_dim: int

    @property
    def knows_rows(self) -> bool:
        """Whether its attention may get the positions, which tell rows in a line apart, and is of the plain kind."""
        return {"sdpa", "flash_attention_2"} <= self.offers


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacle:
    """Why an attention cannot be taken: the code and the words of the fault where a spec asks for it by name."""

    code: str
    why: str
    hint: str


def attention_for(model: ModelConfig, base: PreTrainedConfig, *, longest: int, device: torch.device, in_line: bool = False) -> Attention:
    """The attention for training on rows of at most `longest` tokens, which can lie `in_line` or not. Raises RunFault where the spec
    names one that cannot be."""
    return pick(model.attention, machine_of(device), asked_of(model, base), longest=longest, in_line=in_line)


def pick(choice: str, machine: Machine, asked: Asked, *, longest: int, in_line: bool = False) -> Attention:
    """The attention that a spec's choice comes to. Raises RunFault where it names one that cannot be taken."""
    if choice == "auto" and in_line and not machine.on_gpu and asked.knows_rows:
        return Attention(name=BY_ROWS, why="a CPU: each row by itself, and no padding (LOG.md)")
    if choice == "auto":
        return _automatic(machine, asked, longest)
    found = obstacle(choice, machine, asked)
    if found is not None:
        raise RunFault(found.code, f"model.attention: {choice}, but {found.why}", found.hint, exit_code=WRONG)
    return Attention(name=choice, why="the spec says so")


def obstacle(name: str, machine: Machine, asked: Asked) -> Obstacle | None:
    """What stands against an attention, None if nothing does."""
    why = _no_kernel(name, machine, asked) if name in GPU_ONLY else None
    if why is not None:
        return Obstacle(code="SG419", why=why, hint="write model.attention: auto")
    if name != "eager" and name not in asked.offers:
        has = [other for other in (*FLASH, "sdpa", "flex_attention") if other in asked.offers]
        return Obstacle(
            code="SG420", why=f"transformers has none for {asked.name}", hint=f"it has {', '.join([*has, 'eager'])}; or write auto"
        )
    if name in FLASH and name not in machine.installed:
        return Obstacle(code="SG414", why=f"{PACKAGES[name]} is not installed", hint=INSTALL[name])
    return None


def _no_kernel(name: str, machine: Machine, asked: Asked) -> str | None:
    """Why code for GPUs does not run for this model on this machine."""
    if name == "flex_attention":
        return None if machine.on_gpu else "it trains on GPUs only, and this is a CPU"
    if machine.capability is None:
        return "it is code for NVIDIA's GPUs, and this is none" if machine.on_gpu else "it runs on GPUs only, and this is a CPU"
    number = f"{machine.capability[0]}.{machine.capability[1]}"
    if name == "flash_attention_3" and machine.capability[0] != 9:
        return f"it is for GPUs of compute capability 9.0, and this one has {number}"
    if machine.capability[0] < 8:
        return f"it needs compute capability 8.0, and this GPU has {number}"
    if asked.dtype == "float32":
        return "it computes in 16 bits only, and model.dtype is float32"
    if asked.head_dim > WIDEST_HEAD:
        return f"its heads have at most {WIDEST_HEAD} features, and {asked.name} has {asked.head_dim}"
    return None


def _automatic(machine: Machine, asked: Asked, longest: int) -> Attention:
    if not machine.on_gpu:
        if longest <= SHORT_ROW:
            return Attention(name="eager", why=f"a CPU, and rows of at most {SHORT_ROW} tokens (LOG.md)")
        return _usual(asked, "a CPU, and longer rows than eager is good for")
    against = {name: obstacle(name, machine, asked) for name in FLASH}
    for name, found in against.items():
        if found is None:
            return Attention(name=name, why=f"{PACKAGES[name]} is installed, and this GPU and model can")
    closest = against["flash_attention_2"]
    assert closest is not None
    return _usual(asked, f"no flash attention, as {closest.why}")


def _usual(asked: Asked, why: str) -> Attention:
    if "sdpa" in asked.offers:
        return Attention(name="sdpa", why=why)
    return Attention(name="eager", why=f"{why}; transformers has no sdpa for {asked.name}")


def counted_as(model: ModelConfig, base: PreTrainedConfig, *, longest: int, device: torch.device) -> str | None:
    """The attention that memory is counted with where no kernel runs: eager, or what transformers takes by itself, whose memory is
    that of flash and flex attention, too: neither keeps the scores."""
    if model.attention in (*GPU_ONLY, "sdpa"):
        return None
    name = attention_for(model, base, longest=longest, device=device).name
    return "eager" if name == "eager" else None


def machine_of(device: torch.device) -> Machine:
    """What training on a device has. FlashAttention is asked for as transformers does."""
    import torch
    from transformers.utils import is_flash_attn_2_available, is_flash_attn_3_available

    on_gpu = device.type == "cuda"
    present = {"flash_attention_3": is_flash_attn_3_available(), "flash_attention_2": is_flash_attn_2_available()}
    return Machine(
        on_gpu=on_gpu,
        capability=torch.cuda.get_device_capability(device) if on_gpu and torch.version.cuda is not None else None,
        installed=frozenset(name for name, is_present in present.items() if is_present),
    )


def asked_of(model: ModelConfig, base: PreTrainedConfig) -> Asked:
    """What the class that transformers makes of a model's config offers."""
    kind: Any = _class_of(model, base)
    text = base.get_text_config()
    heads = getattr(text, "num_attention_heads", None) or 1
    return Asked(
        name=kind.__name__,
        offers=frozenset(name for name, flag in FLAGS.items() if getattr(kind, f"_supports_{flag}", False)),
        dtype=model.dtype,
        head_dim=max(getattr(text, "head_dim", None) or text.hidden_size // heads, getattr(text, "global_head_dim", None) or 0),
    )


def _class_of(model: ModelConfig, base: PreTrainedConfig) -> Any:
    from transformers.dynamic_module_utils import get_class_from_dynamic_module
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    own = (getattr(base, "auto_map", None) or {}).get("AutoModelForCausalLM")
    if model.trust_remote_code and own is not None:
        return get_class_from_dynamic_module(own, base.name_or_path)
    return MODEL_FOR_CAUSAL_LM_MAPPING[type(base.get_text_config())]  # of a model that sees, its language model decides

"""What is known of each optimizer that transformers names, read from transformers 5.23 (trainer_optimizer.py) and from the
libraries behind it: which settings of `train` it reads, what it cannot, and the bytes of its state."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

ADAM = frozenset({"adam_beta1", "adam_beta2", "adam_epsilon", "weight_decay", "max_grad_norm"})
BETAS = ADAM - {"adam_epsilon"}
PLAIN = frozenset({"weight_decay", "max_grad_norm"})
CLIPS = frozenset({"max_grad_norm"})

Kind = type[int] | type[float] | type[bool] | tuple[str, ...]
DTYPES = ("float32", "float16", "bfloat16")
SCALES = 4 / 256  # bytes a number: one float32 scale to 256 numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimizer:
    """`reads` are the settings of train that reach it, `args` those of optim_args and what they hold. `state` is in bytes a
    trained number: None where it follows from the matrices' shapes.

    `package` is what pip installs beside PyTorch and transformers. `projects`: the gradients of optim_target_modules, which have to
    be whole weights. `fused`: steps within the backward pass, so that gradients never add up, and are not clipped. `flat`: works on any
    slice of all numbers, as ZeRO gives them out. `resumes`: a checkpoint holds its state. `is_adam_like`: the rates of recipes, which are
    Adam's, are of its kind. `broken` says why it cannot be used at all.
    """

    package: str | None = None
    reads: frozenset[str] = ADAM
    args: dict[str, Kind] = field(default_factory=dict)
    state: float | None = 8.0
    projects: bool = False
    fused: bool = False
    flat: bool = True
    resumes: bool = True
    needs_gpu: bool = False
    takes_groups: bool = True
    is_adam_like: bool = True
    broken: str | None = None


_GALORE = Optimizer(
    package="galore-torch",
    reads=CLIPS,
    args={"rank": int, "update_proj_gap": int, "scale": float, "proj_type": ("std", "reverse_std", "right", "left", "full")},
    state=None, projects=True, flat=False, resumes=False, takes_groups=False,
)  # fmt: skip
_APOLLO = replace(
    _GALORE,
    package="apollo-torch",
    reads=ADAM - {"weight_decay"},
    args={**_GALORE.args, "proj": ("random", "svd"), "scale_type": ("channel", "tensor")},
)
_SCHEDULE_FREE = Optimizer(package="schedulefree", args={"weight_lr_power": float, "r": float}, flat=False)
_ADEMAMIX = Optimizer(package="bitsandbytes", args={"beta3": float, "alpha": float, "t_alpha": int, "t_beta3": int}, state=12.0)
_LION = Optimizer(package="bitsandbytes", reads=BETAS, state=4.0)
_BNB_RMSPROP = Optimizer(
    package="bitsandbytes", reads=PLAIN, state=4.0
)  # transformers hands its optim_args on as text, which bitsandbytes refuses
_EIGHT_BITS = Optimizer(package="bitsandbytes", state=2 * (1 + SCALES))
_LOMO = Optimizer(package="lomo-optim", reads=frozenset(), state=0.0, fused=True, flat=False, takes_groups=False, is_adam_like=False)


def _layerwise(optimizer: Optimizer) -> Optimizer:
    return replace(optimizer, fused=True, reads=optimizer.reads - CLIPS)


OPTIMIZERS = {
    "adamw_torch": Optimizer(),
    "adamw_torch_fused": Optimizer(),
    "adamw_torch_xla": Optimizer(package="torch_xla", broken="it is for TPUs, on which specgen does not train"),
    "adamw_torch_npu_fused": Optimizer(package="torch-npu", broken="it is for Ascend NPUs, on which specgen does not train"),
    "adafactor": Optimizer(reads=PLAIN, state=None),
    "adamw_anyprecision": Optimizer(
        package="git+https://github.com/pytorch/torchdistx",
        args={"use_kahan_summation": bool, "momentum_dtype": DTYPES, "variance_dtype": DTYPES, "compensation_buffer_dtype": DTYPES}
    ),
    "adamw_torch_4bit": Optimizer(package="torchao", args={"bf16_stochastic_round": bool}, state=2 * (0.5 + SCALES), flat=False),
    "adamw_torch_8bit": Optimizer(package="torchao", args={"bf16_stochastic_round": bool}, state=2 * (1 + SCALES), flat=False),
    "ademamix": _ADEMAMIX,
    "sgd": Optimizer(reads=PLAIN, args={"momentum": float, "dampening": float, "nesterov": bool}, state=0.0, is_adam_like=False),
    "adagrad": Optimizer(reads=PLAIN, args={"lr_decay": float, "eps": float}, state=4.0, is_adam_like=False),
    "adamw_bnb_8bit": _EIGHT_BITS,
    "adamw_8bit": _EIGHT_BITS,
    "ademamix_8bit": replace(_ADEMAMIX, state=3 * (1 + SCALES)),
    "lion_8bit": replace(_LION, state=1 + SCALES),
    "lion_32bit": _LION,
    "paged_adamw_32bit": Optimizer(package="bitsandbytes"),
    "paged_adamw_8bit": _EIGHT_BITS,
    "paged_ademamix_32bit": replace(_ADEMAMIX, needs_gpu=True),  # the others fall back to plain state on a CPU
    "paged_ademamix_8bit": replace(_ADEMAMIX, state=3 * (1 + SCALES), needs_gpu=True),
    "paged_lion_32bit": _LION,
    "paged_lion_8bit": replace(_LION, state=1 + SCALES),
    "rmsprop": Optimizer(reads=PLAIN, args={"momentum": float, "alpha": float, "eps": float, "centered": bool}, state=4.0),
    "rmsprop_bnb": _BNB_RMSPROP,
    "rmsprop_bnb_8bit": replace(_BNB_RMSPROP, state=1 + SCALES),
    "rmsprop_bnb_32bit": _BNB_RMSPROP,
    "galore_adamw": _GALORE,
    "galore_adamw_8bit": replace(_GALORE, needs_gpu=True),
    "galore_adafactor": _GALORE,
    "galore_adamw_layerwise": _layerwise(_GALORE),
    "galore_adamw_8bit_layerwise": replace(_layerwise(_GALORE), needs_gpu=True),
    "galore_adafactor_layerwise": replace(
        _layerwise(_GALORE), broken="transformers 5.23 starts it with settings that exclude each other (lr and relative_step)"
    ),
    "lomo": _LOMO,
    "adalomo": replace(_LOMO, state=None, resumes=False, needs_gpu=True),
    "grokadamw": Optimizer(
        package="grokadamw",
        reads=PLAIN,
        args={"alpha_init": float, "lamb": float, "gamma": float, "grokking_signal_decay_rate": float, "gradient_clipping": float},
        state=12.0, flat=False, resumes=False,
    ),
    "schedule_free_radam": _SCHEDULE_FREE,
    "schedule_free_adamw": _SCHEDULE_FREE,
    "schedule_free_sgd": replace(_SCHEDULE_FREE, reads=PLAIN, state=4.0, is_adam_like=False),
    "apollo_adamw": _APOLLO,
    "apollo_adamw_layerwise": _layerwise(_APOLLO),
    "stable_adamw": Optimizer(package="torch-optimi", args={"max_lr": float, "kahan_sum": bool, "decouple_lr": bool}, flat=False),
}  # fmt: skip

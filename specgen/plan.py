"""The resolved spec: frozen dataclasses without defaults, every number concrete. `config.yaml` is exactly this.

Where a field holds one of several classes, the mapping in `config.yaml` has one key, the class's TAG.
All sections on one page, in the order of `config.yaml`, to be read beside runtime/config.py, the other side of the same contract.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

Dtype = Literal["float32", "float16", "bfloat16"]
Role = Literal["system", "user", "assistant"]
Format = Literal[
    "openai", "sharegpt", "alpaca", "completion", "imagefolder", "text", "conversation", "alpaca_zh", "arxiv", "code_alpaca", "colors",
    "crime_kg_assitan", "default", "law_reference", "medical", "moss", "msagent_react", "oasst1", "openorca", "pretrain", "sql",
    "stack_exchange", "tiny_codes", "wizardlm",
]  # fmt: skip
Optimizer = Literal[
    "adamw_torch", "adamw_torch_fused", "adamw_torch_xla", "adamw_torch_npu_fused", "adafactor", "adamw_anyprecision",
    "adamw_torch_4bit", "adamw_torch_8bit", "ademamix", "sgd", "adagrad", "adamw_bnb_8bit", "adamw_8bit", "ademamix_8bit",
    "lion_8bit", "lion_32bit", "paged_adamw_32bit", "paged_adamw_8bit", "paged_ademamix_32bit", "paged_ademamix_8bit",
    "paged_lion_32bit", "paged_lion_8bit", "rmsprop", "rmsprop_bnb", "rmsprop_bnb_8bit", "rmsprop_bnb_32bit", "galore_adamw",
    "galore_adamw_8bit", "galore_adafactor", "galore_adamw_layerwise", "galore_adamw_8bit_layerwise", "galore_adafactor_layerwise",
    "lomo", "adalomo", "grokadamw", "schedule_free_radam", "schedule_free_adamw", "schedule_free_sgd", "apollo_adamw",
    "apollo_adamw_layerwise", "stable_adamw",
]  # fmt: skip
Schedule = Literal[
    "linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup", "inverse_sqrt",
    "reduce_lr_on_plateau", "cosine_with_min_lr", "cosine_warmup_with_min_lr", "warmup_stable_decay",
]  # fmt: skip
InitLoraWeights = Literal["default", "gaussian", "orthogonal", "olora", "pissa", "pissa_niter_4", "pissa_niter_16", "loftq"]
Tracker = Literal["tensorboard", "wandb", "mlflow", "trackio", "swanlab"]
Plugin = Literal["calculate", "solve", "search"]
Scalar = str | int | float | bool
Value = Scalar | dict[str, Scalar]


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageBase:
    """A file or folder inside an installed Python package."""

    TAG: ClassVar[str] = "package"
    package: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HubBase:
    """A repository on the Hugging Face hub; `revision` null is its main branch."""

    TAG: ClassVar[str] = "hub"
    repo: str
    revision: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalBase:
    """A folder or a .gguf file, relative to the working folder."""

    TAG: ClassVar[str] = "local"
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Nf4Quantization:
    """Weights in 4 bits, by bitsandbytes, but for the modules that are skipped."""

    TAG: ClassVar[str] = "nf4"
    double_quant: bool
    compute_dtype: Dtype
    skip_modules: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Int8Quantization:
    """Weights in 8 bits, by bitsandbytes, but for the modules that are skipped."""

    TAG: ClassVar[str] = "int8"
    skip_modules: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionPlan:
    """What sees. `image_tokens` is how many tokens one image takes; null where the tower's config.json is not at hand."""

    tower: PackageBase | HubBase | LocalBase
    projector: Literal["mlp2x_gelu"]
    select_layer: int
    pad_to_square: bool
    image_tokens: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPlan:
    """`from_run` is the folder of an earlier run, whose merged weights take the place of the base's own."""

    base: PackageBase | HubBase | LocalBase
    dtype: Dtype
    attention: Literal["auto", "flash_attention_3", "flash_attention_2", "sdpa", "flex_attention", "eager"]
    quantization: Nf4Quantization | Int8Quantization | None
    trust_remote_code: bool
    from_run: str | None
    vision: VisionPlan | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplatePlan:
    """`jinja` null is the tokenizer's own chat template. `stop` are texts that end an answer, beside the tokenizer's own."""

    name: str
    jinja: str | None
    stop: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageRule:
    """A turn's text, or paraphrases of which each conversation takes one."""

    role: Role
    content: str | tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnRule:
    """A turn whose text is a Jinja template."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeVariable:
    """Numbers from `start` to `stop`, both included."""

    TAG: ClassVar[str] = "range"
    start: int | float
    stop: int | float
    step: int | float


@dataclass(frozen=True, slots=True, kw_only=True)
class FileVariable:
    """Values from a file; `rows` counts them, `sha256` is of its bytes."""

    TAG: ClassVar[str] = "file"
    path: str
    rows: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleVariable:
    """The conversations of the synthetic source of that name."""

    TAG: ClassVar[str] = "rule"
    name: str


Variable = tuple[Value, ...] | RangeVariable | FileVariable | RuleVariable


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticSource:
    """`rows` counts the conversations times `repeat`, or what `share` and `limit` leave of them."""

    TAG: ClassVar[str] = "synthetic"
    name: str | None
    variables: dict[str, Variable]
    combine: Literal["product", "zip"]
    sample: int | None
    unique: bool
    repeat: int
    messages: tuple[MessageRule, ...]
    share: float | None
    limit: int | None
    rows: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFile:
    """`rows` counts the rows that have their format, `bad_rows` those left out. `sha256` is of the bytes: the runtime reads
    nothing else than what was checked."""

    path: str
    rows: int
    bad_rows: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSource:
    """`rows` counts the rows of all files after `limit` and `weight` or `share`. `images` is the folder that relative paths of images
    start at; null where the model sees nothing."""

    TAG: ClassVar[str] = "file"
    name: str | None
    format: Format
    fields: dict[str, str]
    row: tuple[TurnRule, ...] | str | None
    weight: float
    share: float | None
    limit: int | None
    images: str | None
    files: tuple[DataFile, ...]
    rows: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HubSource:
    """A data set on the Hugging Face hub; `rows`, after `limit` and `weight` or `share`, is null until a lock knows it."""

    TAG: ClassVar[str] = "hub"
    name: str | None
    repo: str
    revision: str | None
    subset: str | None
    split: str
    streaming: bool
    format: Format
    fields: dict[str, str]
    row: tuple[TurnRule, ...] | str | None
    weight: float
    share: float | None
    limit: int | None
    rows: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgePlan:
    """A conversation stays if the number in the answer to `prompt` is `least` or more."""

    prompt: tuple[TurnRule, ...]
    least: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetPlan:
    """The most that may be asked, without what the disk already answers."""

    requests: int
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmSource:
    """Conversations that another model writes. `requests` counts prompts times `samples`; `rows` is null: the answers tell."""

    TAG: ClassVar[str] = "llm"
    name: str | None
    base_url: str
    model: str
    local: bool
    api_key_env: str | None
    variables: dict[str, Variable]
    combine: Literal["product", "zip"]
    sample: int | None
    prompt: tuple[TurnRule, ...]
    samples: int
    temperature: float
    top_p: float
    max_tokens: int
    schema: dict[str, Any] | None
    row: tuple[TurnRule, ...]
    judge: JudgePlan | None
    unique: bool
    concurrency: int
    retries: int
    timeout_s: float
    budget: BudgetPlan
    weight: float
    share: float | None
    limit: int | None
    requests: int
    rows: int | None


Source = SyntheticSource | FileSource | HubSource | LlmSource


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationPlan:
    """One of `fraction` and `count`, of the distinct rows, or `sources` of its own. `rows` and `distinct_rows` are what is held
    out of training; null where the rows are not known yet."""

    fraction: float | None
    count: int | None
    sources: tuple[Source, ...]
    distinct_rows: int | None
    rows: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NearDuplicatesPlan:
    """`threshold` is the Jaccard similarity from which two rows are the same."""

    threshold: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsPlan:
    """Shares: the most that may be dropped, truncated, duplicates or in both splits; the least that is trained."""

    dropped: float
    truncated: float
    trained: float
    duplicates: float
    overlap: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DataPlan:
    """`rows` is all, `train_rows` what is left of it for training, `examples` what training sees of that after dropping and
    packing. Null is what only the hub, another model or the tokenizer can tell: the run finds it out."""

    system: str | None
    train_on: Literal["assistant", "last_assistant", "all"]
    train_end_of_turn: bool
    unroll: bool
    max_length: int
    overlong: Literal["error", "drop", "truncate", "split"]
    truncate_from: Literal["end", "user"]
    on_bad_row: Literal["error", "drop"]
    packing: bool
    near_duplicates: NearDuplicatesPlan | None
    limits: LimitsPlan
    validation: ValidationPlan | None
    sources: tuple[Source, ...]
    rows: int | None
    train_rows: int | None
    examples: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TowerLora:
    """The adapter on the vision tower's linear layers; its dropout is the adapter's."""

    r: int
    alpha: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraAdapter:
    """`targets` are module names, or all-linear: every linear layer of the language model but the output."""

    TAG: ClassVar[str] = "lora"
    r: int
    alpha: float
    dropout: float
    targets: tuple[str, ...] | Literal["all-linear"]
    use_rslora: bool
    use_dora: bool
    modules_to_save: tuple[str, ...]
    init_lora_weights: InitLoraWeights
    loftq_iter: int
    rank_pattern: dict[str, int]
    alpha_pattern: dict[str, float]
    layers_to_transform: tuple[int, ...] | None
    exclude_modules: tuple[str, ...]
    loraplus_lr_ratio: float | None
    vision_tower: TowerLora | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewPlan:
    """Sample answers while training, after each `every` optimizer steps."""

    every: int
    prompts: tuple[str, ...]
    max_new_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlyStoppingPlan:
    """`patience` counts validations, `threshold` is of the loss."""

    patience: int
    threshold: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LossSpikePlan:
    """A loss above `factor` times the median of the last `window` steps is a spike."""

    factor: float
    window: int
    action: Literal["warn", "skip", "stop"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainPlan:
    """`total_steps`, `steps_per_epoch` and `warmup_steps` count optimizer steps, and are null while `data.examples` is: then
    `warmup_ratio` says what the run makes of them. `epochs` is null when `max_steps` rules."""

    objective: Literal["chat", "text"]
    epochs: float | None
    max_steps: int | None
    batch_size: int
    micro_batch_size: int
    gradient_accumulation_steps: int
    steps_per_epoch: int | None
    total_steps: int | None
    learning_rate: float
    schedule: Schedule
    warmup_steps: int | None
    warmup_ratio: float | None
    lr_scheduler_kwargs: dict[str, Any]
    optimizer: Optimizer
    optim_args: dict[str, Any]
    optim_target_modules: tuple[str, ...]
    adam_beta1: float
    adam_beta2: float
    adam_epsilon: float
    weight_decay: float
    max_grad_norm: float
    trainable_modules: tuple[str, ...]
    neftune_noise_alpha: float | None
    label_smoothing_factor: float
    group_by_length: bool
    gradient_checkpointing: bool
    torch_compile: bool
    use_liger_kernel: bool
    seed: int
    save_steps: int
    save_total_limit: int
    eval_steps: int | None
    load_best_model_at_end: bool
    early_stopping: EarlyStoppingPlan | None
    loss_spike: LossSpikePlan | None
    report_to: tuple[Tracker, ...]
    preview: PreviewPlan | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DistributedPlan:
    """How many processes train together, and how DeepSpeed parts the work. `ddp_timeout` in seconds."""

    nodes: int
    processes_per_node: int
    world_size: int
    zero_stage: int
    offload: Literal["none", "optimizer", "all"]
    offload_device: Literal["cpu", "nvme"]
    nvme_path: str | None
    ddp_timeout: int
    deepspeed: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class HardwarePlan:
    """What is known of the machine; `device_memory` in bytes. Null is not known."""

    device: Literal["auto", "cpu", "cuda"]
    devices: int | None
    device_memory: int | None
    compute_capability: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterExport:
    """The adapter as it is written: sharded where it is larger, as in `2GB`."""

    dtype: Dtype
    max_shard_size: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MergedExport:
    """`base` is what the adapter of a quantized model is added to; `layout` is of an InternLM2 base."""

    dtype: Dtype
    max_shard_size: str
    device: Literal["auto", "cpu", "cuda"]
    base: Literal["dequantized", "full"]
    layout: Literal["llama", "original"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufExport:
    """One file for each type."""

    types: tuple[Literal["f16", "q8_0", "q4_k_m"], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Nf4Export:
    """Beside the merged model the same in 4 bits, by bitsandbytes."""

    TAG: ClassVar[str] = "nf4"
    double_quant: bool
    compute_dtype: Dtype


@dataclass(frozen=True, slots=True, kw_only=True)
class Int8Export:
    """Beside the merged model the same in 8 bits, by bitsandbytes."""

    TAG: ClassVar[str] = "int8"


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchaoExport:
    """Beside the merged model the same quantized by torchao."""

    TAG: ClassVar[str] = "torchao"
    type: Literal["int8_weight_only", "int4_weight_only"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HubExport:
    """Where `run --push` uploads which parts."""

    repo_id: str
    private: bool
    parts: tuple[Literal["adapter", "merged", "gguf", "quantized"], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportPlan:
    """What is made of the trained weights."""

    adapter: AdapterExport
    merged: MergedExport
    gguf: GgufExport | None
    quantized: Nf4Export | Int8Export | TorchaoExport | None
    hub: HubExport | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatPlan:
    """How answers are made, in the smoke test, in chat and in the exported generation_config.json."""

    system: str | None
    max_new_tokens: int
    temperature: float
    top_k: int
    top_p: float
    repetition_penalty: float
    seed: int
    stop: tuple[str, ...]
    plugins: tuple[Plugin, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SimilarPlan:
    """`at_least` is the ROUGE-L F1 to the nearest of the texts `to`."""

    to: tuple[str, ...]
    at_least: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectPlan:
    """`json` true is any JSON, a mapping the JSON Schema that it has to meet. `refusals` are the texts that a refusal is known by;
    none where `refuses` is null."""

    contains: tuple[str, ...]
    not_contains: tuple[str, ...]
    matches: tuple[str, ...]
    json: bool | dict[str, Any]
    similar: SimilarPlan | None
    refuses: bool | None
    refusals: tuple[str, ...]
    within_seconds: float | None
    stops: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnPlan:
    """A question that follows, and what its answer has to be like."""

    user: str
    expect: ExpectPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class SmokePlan:
    """A question that the model has to answer as expected, and what is asked after it."""

    user: str
    image: str | None
    expect: ExpectPlan
    then: tuple[TurnPlan, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorePlan:
    """What a metric has to come to; null and false where it is measured only."""

    min: float | None
    better_than_base: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PerplexityPlan:
    """The same of a figure that is better the lower it is."""

    max: float | None
    better_than_base: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsPlan:
    """Null is not measured."""

    exact_match: ScorePlan | None
    rouge_l: ScorePlan | None
    perplexity: PerplexityPlan | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskPlan:
    """A task of lm-evaluation-harness: one of its own, or the file `path`, which `sha256` is of."""

    name: str
    path: str | None
    sha256: str | None
    metric: str
    num_fewshot: int | None
    limit: int | None
    apply_chat_template: bool
    min: float | None
    max: float | None
    better_than_base: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalPlan:
    """A test on rows that are held out, and on tasks of lm-evaluation-harness. `limit` is the most rows that are asked."""

    sources: tuple[Source, ...]
    limit: int | None
    max_new_tokens: int
    batch_size: int
    base: bool
    metrics: MetricsPlan
    tasks: tuple[TaskPlan, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What runs. The order of the fields is the order of `config.yaml`."""

    specgen: Literal[1]
    name: str
    description: str
    model: ModelPlan
    template: TemplatePlan
    adapter: LoraAdapter | None
    data: DataPlan
    train: TrainPlan
    distributed: DistributedPlan
    hardware: HardwarePlan
    export: ExportPlan
    chat: ChatPlan
    smoke: tuple[SmokePlan, ...]
    eval: EvalPlan | None


def to_plain(value: object) -> Any:
    """A plan, or a part of one, as the dicts, lists and scalars that `config.yaml` holds."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        tag = getattr(value, "TAG", None)
        return {tag: fields} if tag else fields
    if isinstance(value, dict):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [to_plain(item) for item in value]
    return value

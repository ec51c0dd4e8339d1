"""The hub, asked by `specgen lock` and by nothing else: which commit a revision is, and what it holds."""

from __future__ import annotations

import fnmatch
import importlib.util
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from specgen.diagnostics import Diagnostic, SpecError
from specgen.facts.hub_cache import cache_root
from specgen.lock.contents import LockedFile
from specgen.lock.hashes import hashed

# what a run downloads of a model (runtime/models/base.py)
PATTERNS = ("*.json", "*.safetensors", "*.jinja", "*.model", "*.txt", "*.py")
NOT_READ = ("original/*", "consolidated*")  # the same weights in their makers' own form
TIMEOUT_S = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class HubModel:
    """A model at one commit. `folder` is where its small files lie now; of the large ones the hub itself tells the hash."""

    commit: str
    files: tuple[LockedFile, ...]
    folder: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class HubDataSet:
    """A data set at one commit; `rows` is None where the hub does not say how many a split has."""

    commit: str
    rows: int | None


def ask_model(repo: str, revision: str | None) -> HubModel:
    """A model's commit and files. Raises SpecError where the hub does not give them."""
    api, download = _client()
    with _faults(repo, revision):
        info = api.model_info(repo, revision=revision, files_metadata=True, timeout=TIMEOUT_S)
        files, folder = [], None
        for sibling in sorted(info.siblings or [], key=lambda sibling: sibling.rfilename):
            name = sibling.rfilename
            if not is_read(name):
                continue
            if sibling.lfs:
                files.append(LockedFile(path=name, size=sibling.lfs.size, sha256=sibling.lfs.sha256))
                if not name.startswith("tokenizer"):
                    continue
            local = Path(download(repo, name, revision=info.sha, cache_dir=cache_root(), endpoint=_endpoint()))
            if name == "config.json":
                folder = local.parent
            if not sibling.lfs:
                files.append(hashed(local, name))
    if folder is None:
        hint = "name a repository of a model in transformers' form"
        raise SpecError(Diagnostic(code="SG412", message=f"{_named(repo, revision)} holds no config.json, so it is no model", hint=hint))
    return HubModel(commit=info.sha, files=tuple(files), folder=folder)


def is_read(name: str) -> bool:
    """Whether a run reads a file of a model."""
    return _matches(name, PATTERNS) and not _matches(name, NOT_READ)


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for pattern in patterns)


def ask_data_set(repo: str, revision: str | None, subset: str | None, split: str) -> HubDataSet:
    """A data set's commit, and the rows of one split. Raises SpecError where the hub does not give them."""
    api, _ = _client()
    with _faults(repo, revision):
        info = api.dataset_info(repo, revision=revision, timeout=TIMEOUT_S)
    card = info.card_data.to_dict() if info.card_data else {}
    return HubDataSet(commit=info.sha, rows=_rows(card.get("dataset_info"), subset, split))


def _rows(described: Any, subset: str | None, split: str) -> int | None:
    """Rows of a split, from what the data set's card says of its subsets: one mapping, or a list of them."""
    entries = [entry for entry in (described if isinstance(described, list) else [described]) if isinstance(entry, dict)]
    wanted = [entry for entry in entries if entry.get("config_name", "default") == (subset or "default")]
    for entry in wanted or (entries if len(entries) == 1 and subset is None else []):
        for part in entry.get("splits") or []:
            if part.get("name") == split and isinstance(part.get("num_examples"), int):
                return int(part["num_examples"])
    return None


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT")


def _client() -> tuple[Any, Any]:
    if importlib.util.find_spec("huggingface_hub") is None:
        hint = "pip install huggingface_hub, or pip install 'specgen[train]'"
        raise SpecError(
            Diagnostic(code="SG297", message="locking what is on the hub needs huggingface_hub, which is not installed", hint=hint)
        )
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    return HfApi(endpoint=_endpoint()), hf_hub_download


@contextmanager
def _faults(repo: str, revision: str | None) -> Iterator[None]:
    """The hub's refusals as diagnostics, in the runtime's words."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    name = _named(repo, revision)
    try:
        yield
    except GatedRepoError:
        hint = f"accept its terms on https://huggingface.co/{repo}, and set HF_TOKEN"
        raise SpecError(Diagnostic(code="SG412", message=f"{name} is gated", hint=hint)) from None
    except RevisionNotFoundError:
        raise SpecError(Diagnostic(code="SG412", message=f"{repo} has no revision {revision}")) from None
    except RepositoryNotFoundError:
        hint = "check the name; for a private repository set HF_TOKEN"
        raise SpecError(Diagnostic(code="SG412", message=f"there is no repository {repo} on the hub", hint=hint)) from None
    except Exception as error:
        if not isinstance(error, OSError) and not type(error).__module__.startswith("httpx"):
            raise
        hint = "lock with network; a lock file once made is read without"
        message = f"{name} is not to be had: the hub cannot be reached, or fails ({type(error).__name__})"
        raise SpecError(Diagnostic(code="SG411", message=message, hint=hint)) from None


def _named(repo: str, revision: str | None) -> str:
    return f"{repo}@{revision or 'main'}"

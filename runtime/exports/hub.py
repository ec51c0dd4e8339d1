"""What was exported → a repository on the hub, in one commit. The token comes from HF_TOKEN or from `hf auth login`, never from a spec.

An upload that broke off goes on: large files that the hub has already are not sent again, and without the commit nobody sees them.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from runtime import console
from runtime.config import Config, HubExport
from runtime.exports.card import FOLDERS
from runtime.faults import WRONG, RunFault
from runtime.stages import STAGE_FILE, read_stage

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import CommitOperationDelete

WAITS_S = (1, 5)  # before the commit is tried again
SERVERS_FAULT = 500  # statuses from here on
WEIGHTS = (".safetensors", ".bin", ".gguf", ".index.json")


def require_push(config: Config) -> HubExport:
    """What `--push` needs, looked for before anything runs: a place and a token. Raises RunFault."""
    from huggingface_hub import get_token

    hub = config.export.hub
    if hub is None:
        hint = "write export: {hub: {repo_id: OWNER/NAME}}, or leave out --push"
        raise RunFault("SG480", "--push needs a place to push to, and export.hub is null", hint, exit_code=WRONG)
    if get_token() is None:
        raise RunFault(
            "SG480", f"pushing to {hub.repo_id} needs a token of the hub", "set HF_TOKEN, or call hf auth login", exit_code=WRONG
        )
    return hub


def push(config: Config, folder: Path) -> str:
    """Uploads the parts that the spec names; returns the commit's address. Raises RunFault where that fails, or a test has."""
    import httpx2
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    hub = require_push(config)
    _require_good(folder)
    files = dict(files_of_parts(hub, folder))
    api = HfApi()
    try:
        api.create_repo(hub.repo_id, private=hub.private, exist_ok=True)
        address = _committed(api, hub, files, f"{config.name}, by specgen")
    except OfflineModeIsEnabled:
        raise RunFault("SG480", "HF_HUB_OFFLINE is set, so nothing was pushed", "unset it; everything is kept") from None
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else None
        raise RunFault("SG480", f"{hub.repo_id} was not pushed: the hub answered {status}", _hint(status)) from None
    except (httpx2.HTTPError, RuntimeError, OSError) as error:
        cause = error.__cause__ or error
        message = f"{hub.repo_id} was not pushed: the upload broke off ({type(cause).__name__})"
        raise RunFault("SG480", message, "everything is kept; the same command goes on") from None
    size = sum(file.stat().st_size for file in files.values())
    console.say("push", f"{', '.join(hub.parts)} · {console.size(size)} · {address}")
    return address


def _committed(api: HfApi, hub: HubExport, files: dict[str, Path], message: str) -> str:
    """Uploads the files in one commit; returns its address. A server that stumbles is asked again. Raises HfHubHTTPError."""
    from huggingface_hub import CommitOperationAdd
    from huggingface_hub.errors import HfHubHTTPError

    waits = list(WAITS_S)
    while True:
        adds = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=file) for name, file in files.items()]
        try:
            return str(api.create_commit(hub.repo_id, [*adds, *_left_over(api, hub, files)], commit_message=message).commit_url)
        except HfHubHTTPError as error:
            if not waits or error.response is None or error.response.status_code < SERVERS_FAULT:
                raise
            time.sleep(waits.pop(0))


def files_of_parts(hub: HubExport, folder: Path) -> Iterator[tuple[str, Path]]:
    """Name in the repository → file. The merged model lies at the top, or what is named first. Raises RunFault where a part is missing."""
    top = "merged" if "merged" in hub.parts else hub.parts[0]
    for part in hub.parts:
        source = folder / FOLDERS[part]
        if not source.is_dir():
            raise RunFault(
                "SG480", f"export.hub names {part}, and the run has made none", "take it out of export.hub.parts", exit_code=WRONG
            )
        for file in sorted(source.iterdir()):
            if file.is_file() and file.name != STAGE_FILE:
                yield file.name if part == top else f"{part}/{file.name}", file


def _require_good(folder: Path) -> None:
    """Raises RunFault where a test of the run has failed, or the quantized model's own."""
    failed = [stage for stage in ("smoke", "eval") if read_stage(folder, stage).get("summary", {}).get("passed", True) is False]
    quantized = read_stage(folder, "export").get("summary", {}).get("quantized") or {}
    if quantized.get("passed", True) is False:
        failed.append("smoke test of the quantized model")
    if failed:
        raise RunFault("SG480", f"nothing was pushed: failed: {', '.join(failed)}", "everything is kept; the report shows the answers")


def _left_over(api: HfApi, hub: HubExport, files: Iterable[str]) -> list[CommitOperationDelete]:
    """Weight files of an earlier push that this one does not have: beside the new ones they would be taken for parts of them."""
    from huggingface_hub import CommitOperationDelete

    names = set(files)
    places = {name.rpartition("/")[0] for name in names}
    there = [name for name in api.list_repo_files(hub.repo_id) if name.rpartition("/")[0] in places and name not in names]
    return [CommitOperationDelete(path_in_repo=name) for name in there if name.endswith(WEIGHTS)]


def _hint(status: int | None) -> str:
    if status in (401, 403):
        return "the token may not write there: take one with write access, and check export.hub.repo_id"
    if status == 404:
        return "check export.hub.repo_id"
    return "everything is kept; the same command goes on"

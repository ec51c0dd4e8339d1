"""A base model on the hub is taken at the commit that the compiled config names, from a stand-in of the hub on loopback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.hub_stand_in import COMMIT, NEWER, Hub, Repo

LOCATE = f"""
from runtime.config import HubBase
from runtime.models.base import locate
print(locate(HubBase(repo='team/tiny', revision='{COMMIT}')))
"""


def test_a_locked_commit_is_downloaded_though_main_has_moved(tmp_path, root):
    read = {"config.json": b"{}", "model.safetensors": b"weights"}
    others = {"README.md": b"#", "consolidated.safetensors": b"weights", "original/params.json": b"{}"}
    hub = Hub({"models/team/tiny": Repo({**read, **others}, main=NEWER)})
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_XET": "1"}
    try:
        done = subprocess.run([sys.executable, "-c", LOCATE], cwd=root, env=environment, capture_output=True, text=True)
    finally:
        hub.shutdown()
    assert done.returncode == 0, done.stderr
    folder = Path(done.stdout.strip())
    assert folder == tmp_path / "hub/models--team--tiny/snapshots" / COMMIT
    assert sorted(file.name for file in folder.iterdir()) == sorted(read)
    assert not [call for call in hub.asked if NEWER in call or "main" in call]

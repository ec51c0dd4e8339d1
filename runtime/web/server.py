"""Streamlit's server in this process, behind the gate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from runtime.web.address import Address
from runtime.web.gate import Gate
from runtime.web.pictures import MOST_MB

PAGE = Path(__file__).with_name("page.py")
PING_TIMEOUT_S = 60.0  # while a model computes, answers to pings may be late
SETTINGS = {
    "browser.gatherUsageStats": False,
    "client.toolbarMode": "minimal",
    "client.showErrorDetails": "none",
    "client.showErrorLinks": False,
    "server.enableCORS": True,  # other origins are refused
    "server.enableXsrfProtection": True,
    "server.enableStaticServing": False,
    "server.fileWatcherType": "none",
    "server.headless": True,
    "server.maxUploadSize": MOST_MB,
    "server.runOnSave": False,
}


def run(address: Address) -> None:
    """Serves the page until Ctrl-C or SIGTERM."""
    import uvicorn
    from starlette.formparsers import MultiPartParser
    from streamlit.starlette import App
    from streamlit.web.bootstrap import load_config_options

    MultiPartParser.spool_max_size = (MOST_MB + 1) * 2**20  # what is sent stays in memory
    load_config_options(settings_for(address))
    app = Gate(App(PAGE), token=address.token, cookie=f"specgen-{address.port}")
    options: dict[str, Any] = {"ws": "websockets-sansio", "ws_ping_timeout": PING_TIMEOUT_S, "timeout_graceful_shutdown": 2}
    uvicorn.Server(uvicorn.Config(app, lifespan="on", log_level="warning", **options)).run(sockets=[address.listener])


def settings_for(address: Address) -> dict[str, Any]:
    """Streamlit's settings. They win over those of any config.toml."""
    settings = {**SETTINGS, "server.address": address.ip, "server.port": address.port}
    if address.token is None:  # a name that somebody else points to this machine is no way in
        settings["server.allowedHosts"] = sorted({"localhost", "127.0.0.1", "::1", address.host.lower()})
    return settings

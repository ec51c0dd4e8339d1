"""What a full installation is made of: a bill of materials, and what is known against its parts."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from conversations import __version__
from release.archives import DIST, ROOT
from release.installed import Environment
from release.say import Refused, called, output_of, say

BIN = Path(sys.executable).parent


def write_sbom(found: Environment) -> None:
    """dist/sbom.json, in CycloneDX's form. Raises Refused."""
    file = DIST / "sbom.json"
    words = ["environment", "--output-reproducible", "--pyproject", ROOT / "pyproject.toml", "--output-file", file, found.python]
    output_of([BIN / "cyclonedx-py", *words])
    told = json.loads(file.read_text(encoding="utf-8"))
    told["metadata"]["component"]["version"] = __version__  # which pyproject.toml only points to
    file.write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    say("sbom", f"{file.relative_to(ROOT)} · {len(told['components'])} components")


def audit(found: Environment) -> None:
    """Asks PyPI's list of vulnerabilities; AUDIT=skip does not. Raises Refused where there are some, or no answer."""
    if os.environ.get("AUDIT") == "skip":
        say("audit", "left out: AUDIT=skip")
        return
    file = found.folder / "audit.json"
    (packages,) = found.folder.glob("env/lib/python*/site-packages")
    words = [BIN / "pip-audit", "--progress-spinner", "off", "--format", "json", "--output", file, "--path", packages]
    done = called(words)
    if not file.exists():
        raise Refused(f"pip-audit has no answer; AUDIT=skip goes on without: {done.stderr.strip().splitlines()[-1]}")
    told = json.loads(file.read_text(encoding="utf-8"))["dependencies"]
    left_out = [package["name"] for package in told if "skip_reason" in package]
    if len(left_out) == len(told):  # pip-audit calls that "no known vulnerabilities"
        raise Refused(f"pip-audit could look up none of {len(told)} packages; AUDIT=skip goes on without: {told[0]['skip_reason']}")
    if known := [_line(package, fault) for package in told for fault in package.get("vulns", ())]:
        raise Refused("\n".join(["vulnerabilities are known:", *known]))
    not_asked = f"; not looked up: {', '.join(left_out)}" if left_out else ""
    say("audit", f"nothing is known against {len(told) - len(left_out)} packages{not_asked}")


def _line(package: dict[str, Any], fault: dict[str, Any]) -> str:
    mended = ", ".join(fault["fix_versions"]) or "no version yet"
    return f"{package['name']} {package['version']}: {fault['id']}, mended in {mended}"

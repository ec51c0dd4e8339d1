"""The wheel, outside the checkout: schemas and specs travel with it."""

import os
import subprocess
import sys
import zipfile


def test_an_installed_wheel_compiles_a_spec_elsewhere(root, tmp_path):
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", tmp_path / "dist", root], check=True, stderr=subprocess.DEVNULL)
    (wheel,) = (tmp_path / "dist").glob("specgen-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"specgen/schemas/spec.schema.json", "specgen/specs/assistant.yaml", "conversations/chat_templates/chatml.jinja"} <= names
    assert "conversations/chat_templates/index.yaml" in names
    assert "specgen/facts/published/meta-llama--Llama-3.1-8B.json" in names
    assert {"specgen/specs/data/custom_sft.jsonl", "runtime/templates/report.html.j2"} <= names

    subprocess.run([*pip, "install", "--no-deps", "--target", tmp_path / "site", wheel], check=True, stderr=subprocess.DEVNULL)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    script = "import specgen, sys; print(specgen.__file__); from specgen.cli import main; main()"
    spec = tmp_path / "site/specgen/specs/assistant.yaml"
    done = subprocess.run(
        [sys.executable, "-P", "-c", script, "compile", spec],
        cwd=elsewhere, env={**os.environ, "PYTHONPATH": str(tmp_path / "site")}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(tmp_path / "site"))
    built = {file.name: file.read_bytes() for file in (elsewhere / "build/assistant").iterdir()}
    assert built == {file.name: file.read_bytes() for file in (root / "build/assistant").iterdir()}

"""Wheel and sdist, outside the checkout: schemas and specs travel with both, and nothing that is not needed."""

import os
import re
import subprocess
import sys
import tarfile
import zipfile

import pytest

import runtime
import specgen

PACKAGES = {"specgen", "runtime", "conversations"}
BESIDE = {"schemas", "specs", "pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", "PKG-INFO", ".gitignore"}


@pytest.fixture(scope="module")
def dist(root, tmp_path_factory):
    """The sdist, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "build", "--outdir", folder, root], check=True, stdout=subprocess.DEVNULL)
    return folder


@pytest.fixture
def wheel(dist):
    return dist / f"specgen-{specgen.__version__}-py3-none-any.whl"


@pytest.fixture
def sdist(dist):
    return dist / f"specgen-{specgen.__version__}.tar.gz"


def test_an_installed_wheel_compiles_a_spec_elsewhere(root, wheel, tmp_path):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"specgen/schemas/spec.schema.json", "specgen/specs/assistant.yaml", "conversations/chat_templates/chatml.jinja"} <= names
    assert "conversations/chat_templates/index.yaml" in names
    assert "specgen/facts/published/meta-llama--Llama-3.1-8B.json" in names
    assert {"specgen/specs/data/custom_sft.jsonl", "runtime/templates/report.html.j2"} <= names

    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
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


def test_the_wheel_holds_the_packages_and_what_it_says_of_itself(wheel):
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert tops == {*PACKAGES, f"specgen-{specgen.__version__}.dist-info"}


def test_the_sdist_holds_what_the_wheel_is_built_from_and_no_more(sdist):
    with tarfile.open(sdist) as archive:
        files = archive.getmembers()
    assert {file.name.split("/")[1] for file in files} == PACKAGES | BESIDE
    assert all(file.isfile() for file in files)
    assert not [file.name for file in files if "__pycache__" in file.name or file.name.endswith((".pyc", ".lock", ".safetensors"))]


def test_the_version_is_one(root, wheel):
    assert specgen.__version__ == runtime.__version__
    said = zipfile.ZipFile(wheel).read(f"specgen-{specgen.__version__}.dist-info/METADATA").decode()
    assert f"\nVersion: {specgen.__version__}\n" in said


def test_the_changelog_has_an_entry_for_the_version(root):
    changelog = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    released = re.findall(r"^## \[(.+)\] - \d{4}-\d\d-\d\d$", changelog, re.MULTILINE)
    assert released[0] == specgen.__version__
    assert changelog.index("## [Unreleased]") < changelog.index(f"## [{released[0]}]")

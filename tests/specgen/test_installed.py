"""Versions of installed packages are those that the standard library tells."""

from __future__ import annotations

import importlib.metadata

import pytest

from specgen.lock.installed import PackageNotFoundError, version
from specgen.lock.take import LIBRARIES


@pytest.mark.parametrize("package", ["jinja2", "PyYAML", "huggingface_hub", "huggingface-hub", *LIBRARIES])
def test_the_version_is_the_one_that_the_standard_library_tells(package):
    try:
        expected = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        expected = None
    try:
        found = version(package)
    except PackageNotFoundError:
        found = None
    assert found == expected


def test_what_is_not_installed_is_told():
    with pytest.raises(PackageNotFoundError):
        version("no-such-package")

"""The compiler has no PyTorch, and what it shares with the runtime neither: what each loads, seen in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

LIST = """
import importlib, pkgutil, sys
package = importlib.import_module(sys.argv[1])
for module in pkgutil.walk_packages(package.__path__, sys.argv[1] + "."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        ("specgen", {"torch", "transformers", "runtime", "peft", "numpy"}),
        ("conversations", {"specgen", "runtime", "torch", "transformers", "numpy", "pyarrow", "datasets"}),
    ],
)
def test_a_package_does_not_load_what_is_not_its_own(root, package, forbidden):
    done = subprocess.run([sys.executable, "-c", LIST, package], cwd=root, capture_output=True, text=True, check=True)
    assert package in done.stdout.split()
    assert not forbidden & set(done.stdout.split())

"""The compiled folder is the only thing that the two packages share; here their views of it are compared."""

import json
import subprocess
import sys

import jsonschema
import pytest
import yaml

from runtime import config as runtime_config
from specgen import plan


def test_the_schema_of_the_compiled_config_is_fresh(root):
    assert json.loads((root / "schemas/plan.schema.json").read_text()) == plan.json_schema()


def test_both_packages_have_the_same_view_of_a_config():
    assert plan._schema(runtime_config.Config) == plan._schema(plan.Plan)


@pytest.mark.parametrize("name", ["assistant", "assistant-zero2", "assistant-zero3"])
def test_a_compiled_config_satisfies_the_schema_and_loads(root, name):
    folder = root / "tests/golden" / name
    jsonschema.validate(yaml.safe_load((folder / "config.yaml").read_text()), plan.json_schema())
    assert runtime_config.load(folder).name == name


LIST = """
import importlib, pkgutil, sys
package = importlib.import_module(sys.argv[1])
for module in pkgutil.walk_packages(package.__path__, sys.argv[1] + "."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


@pytest.mark.parametrize(
    ("package", "forbidden"), [("specgen", {"torch", "transformers", "runtime", "peft", "numpy"}), ("runtime", {"specgen"})]
)
def test_a_package_does_not_load_what_is_not_its_own(root, package, forbidden):
    done = subprocess.run([sys.executable, "-c", LIST, package], cwd=root, capture_output=True, text=True, check=True)
    assert package in done.stdout.split()
    assert not forbidden & set(done.stdout.split())

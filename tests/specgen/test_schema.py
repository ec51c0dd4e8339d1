"""schemas/: the one source of keys, types, defaults, descriptions and examples."""

from __future__ import annotations

import jsonschema
import pytest

from docsite import plan_schema
from specgen.schema import child, keys, lookup, spec_schema


def parts(schema, path="spec"):
    """Every sub-schema with its path."""
    yield path, schema
    for key, sub in schema.get("properties", {}).items():
        yield from parts(sub, f"{path}.{key}")
    for word in ("items", "additionalProperties"):
        if isinstance(schema.get(word), dict):
            yield from parts(schema[word], f"{path}.*")


PARTS = dict(parts(spec_schema()))
ALL = pytest.mark.parametrize("path", PARTS)


def test_the_schema_is_draft_07():
    jsonschema.Draft7Validator.check_schema(spec_schema())
    assert spec_schema()["$schema"] == "http://json-schema.org/draft-07/schema#"


@ALL
def test_every_key_has_a_description_that_is_a_sentence(path):
    assert PARTS[path]["description"].endswith(".")


@pytest.mark.parametrize("path", [path for path in PARTS if path != "spec"])
def test_every_key_has_examples_that_fit_it(path):
    assert PARTS[path]["examples"]
    for example in PARTS[path]["examples"]:
        jsonschema.validate(example, PARTS[path], jsonschema.Draft7Validator)


@pytest.mark.parametrize("path", [path for path, schema in PARTS.items() if "default" in schema])
def test_every_default_fits_its_key(path):
    jsonschema.validate(PARTS[path]["default"], PARTS[path], jsonschema.Draft7Validator)


@pytest.mark.parametrize("path", [path for path, schema in PARTS.items() if schema.get("default", ...) is None])
def test_text_that_may_be_null_names_null_first(path):
    """yaml-language-server takes the first type for the default's, and offers no key behind one whose default is no text then."""
    kinds = PARTS[path]["type"]
    assert kinds[0] == "null" or "string" not in kinds


# a profile is checked as a whole spec, once it is laid over one, and so is a value of a sweep; DeepSpeed and transformers know
# their own keys; a JSON Schema is the user's
OPEN = (
    "spec.profiles.*", "spec.sweep.parameters.*.*", "spec.distributed.deepspeed", "spec.train.optim_args",
    "spec.train.lr_scheduler_kwargs", "spec.data.sources.*.llm.schema", "spec.data.validation.sources.*.llm.schema",
    "spec.eval.sources.*.llm.schema", "spec.smoke.*.expect.json", "spec.smoke.*.then.*.expect.json",
)  # fmt: skip


@pytest.mark.parametrize("path", [path for path, schema in PARTS.items() if "object" in schema["type"] and path not in OPEN])
def test_every_mapping_is_closed(path):
    assert "additionalProperties" in PARTS[path]
    assert PARTS[path]["additionalProperties"] is not True


@pytest.mark.parametrize("path", [path for path, schema in PARTS.items() if "properties" in schema])
def test_every_key_is_required_or_has_a_default_unless_it_is_a_choice(path):
    schema = PARTS[path]
    if schema.get("maxProperties") != 1:
        assert {key for key, sub in schema["properties"].items() if "default" not in sub} == set(schema.get("required", ()))


def test_keys_are_listed_once_and_can_all_be_looked_up():
    names = [name for name, _ in keys()]
    assert len(names) == len(set(names))
    assert "data.sources.file.path" in names
    assert all(lookup(name) is schema for name, schema in keys())


def test_what_is_no_key_is_not_found():
    assert lookup("train.epoch") is None
    assert lookup("train.epochs.more") is None
    assert child(spec_schema(), 0) is None


def test_the_schema_of_a_plan_is_fresh(root):
    """After a change of specgen/plan.py: make docs"""
    assert (root / "schemas/plan.schema.json").read_text(encoding="utf-8") == plan_schema.text()


def test_the_schema_of_a_plan_has_no_optional_key_and_no_open_mapping():
    jsonschema.Draft7Validator.check_schema(plan_schema.json_schema())
    sections = [schema for _, schema in parts(plan_schema.json_schema()) if "properties" in schema]
    assert len(sections) > 10
    for schema in sections:
        assert schema["required"] == list(schema["properties"])
        assert schema["additionalProperties"] is False

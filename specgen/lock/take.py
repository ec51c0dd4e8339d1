"""What a spec is made from at this moment, part by part, from its complete tree and its facts."""

from __future__ import annotations

import fnmatch
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from specgen.diagnostics import Diagnostic, SpecError
from specgen.facts.gather import Facts, SourceFacts, source_lists
from specgen.facts.gguf import tokenizer_hash
from specgen.facts.model import facts_from_config, locate, read_chat_template, read_object
from specgen.facts.tower import NoTower, tower_in_config
from specgen.lock.contents import (
    Lock,
    LockedBase,
    LockedDataFiles,
    LockedHubData,
    LockedRows,
    LockedSource,
    LockedTemplate,
    LockedTokenizer,
)
from specgen.lock.hashes import hashed
from specgen.lock.hub import ask_data_set, ask_model, is_read
from specgen.lock.installed import PackageNotFoundError, version
from specgen.plan import HubBase, PackageBase
from specgen.source import Node

LIBRARIES = ("accelerate", "bitsandbytes", "datasets", "deepspeed", "peft", "tokenizers", "torch", "transformers")
TOKENIZER = ("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "chat_template.*", "*.model")
# of config.json: what says how large the weights are, and how the model was meant to be used
CONFIG_KEYS = (
    "model_type", "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "max_position_embeddings", "sliding_window", "tie_word_embeddings", "attention_bias",
    "mlp_bias", "bias", "qkv_bias", "torch_dtype", "dtype", "bos_token_id", "eos_token_id", "pad_token_id", "quantization_config",
)  # fmt: skip
TOWER_KEYS = (
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_channels", "image_size", "patch_size",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What comes from the base model's files."""

    base: LockedBase
    tokenizer: LockedTokenizer
    chat_template: str | None


def take(tree: Node, facts: Facts) -> Lock:
    """The whole lock, without figures. Asks the hub where the spec names something there. Raises SpecError."""
    model = take_model(tree, facts)
    data, validation, asked = take_data(tree, facts)
    return Lock(
        lock=1,
        name=tree.text("name"),
        base=model.base,
        tokenizer=model.tokenizer,
        template=take_template(facts, model.chat_template),
        data=data,
        libraries=take_libraries(),
        figures=None,
        tower=take_tower(tree, facts),
        validation=validation,
        eval=asked,
    )


def take_model(tree: Node, facts: Facts) -> Model:
    """Base model and tokenizer, every file hashed. Raises SpecError where a file cannot be read, or says nonsense."""
    try:
        return _model(tree, facts)
    except (OSError, ValueError) as error:
        node = tree.children["model"].children["base"]
        raise SpecError(Diagnostic(code="SG212", message=f"the base model cannot be read: {error}", place=node.place)) from None


def take_tower(tree: Node, facts: Facts) -> LockedBase | None:
    """The vision tower, every file hashed; None where there is none. Raises SpecError."""
    if facts.vision is None:
        return None
    node, tower = tree.at("model", "vision", "tower"), facts.vision.base
    assert node is not None
    try:
        if isinstance(tower, HubBase):
            found = ask_model(tower.repo, tower.revision)
            config = read_object(found.folder / "config.json")
            tower_in_config(config, origin="lock")
            return LockedBase(source=str(node.value), revision=found.commit, files=found.files, config=_sizes_of_tower(config))
        path = locate(tower)
        assert path is not None, tower
        files = tuple(hashed(file, file.name) for file in sorted(path.iterdir()) if _is_read(file))
        revision = _package_version(tower.package) if isinstance(tower, PackageBase) else None
        config = _sizes_of_tower(read_object(path / "config.json"))
        return LockedBase(source=str(node.value), revision=revision, files=files, config=config)
    except (OSError, ValueError, NoTower) as error:
        raise SpecError(Diagnostic(code="SG212", message=f"the vision tower cannot be read: {error}", place=node.place)) from None


def _sizes_of_tower(config: Mapping[str, Any]) -> dict[str, Any]:
    """Of a tower's config.json what says how large it is, of one half of a model, too."""
    half = config.get("vision_config")
    sizes = {key: config[key] for key in ("model_type", *TOWER_KEYS) if key in config}
    return {**sizes, "vision_config": _sizes_of_tower(half)} if isinstance(half, Mapping) else sizes


def _model(tree: Node, facts: Facts) -> Model:
    source = tree.text("model", "base")
    if isinstance(facts.base, HubBase):
        found = ask_model(facts.base.repo, facts.base.revision)
        config = read_object(found.folder / "config.json")
        facts_from_config(config, origin="lock")
        base = LockedBase(source=source, revision=found.commit, files=found.files, config=_architecture(config))
        return _parted(base, read_chat_template(found.folder), None)
    path = locate(facts.base)
    assert path is not None, facts.base
    config = _architecture(facts.model.config if facts.model else {})
    revision = _package_version(facts.base.package) if isinstance(facts.base, PackageBase) else None
    names = [path] if path.is_file() else [file for file in sorted(path.iterdir()) if _is_read(file)]
    files = tuple(hashed(file, file.name) for file in names)
    base = LockedBase(source=source, revision=revision, files=files, config=config)
    return _parted(base, facts.model.chat_template if facts.model else None, tokenizer_hash(path) if path.is_file() else None)


def _parted(base: LockedBase, chat_template: str | None, inside: str | None) -> Model:
    """The tokenizer's files apart from the others. `inside` is the hash of a tokenizer that has no file of its own."""
    own = tuple(file for file in base.files if _matches(file.path, TOKENIZER))
    digest = hashlib.sha256("".join(f"{file.path} {file.sha256}\n" for file in own).encode()).hexdigest() if own else inside
    rest = tuple(file for file in base.files if file not in own)
    return Model(base=replace(base, files=rest), tokenizer=LockedTokenizer(sha256=digest, files=own), chat_template=chat_template)


def _is_read(file: Path) -> bool:
    return file.is_file() and (is_read(file.name) or file.suffix == ".bin")


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for pattern in patterns)


def _architecture(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: config[key] for key in CONFIG_KEYS if key in config}


def _package_version(package: str) -> str | None:
    try:
        return version(package.replace("_", "-"))
    except PackageNotFoundError:
        return None


def take_template(facts: Facts, chat_template: str | None) -> LockedTemplate:
    """The template that is used; `chat_template` is the tokenizer's own."""
    text = chat_template if facts.template.name == "tokenizer" else facts.template.jinja
    digest = None if text is None else hashlib.sha256(text.encode()).hexdigest()
    return LockedTemplate(name=facts.template.name, sha256=digest, jinja=text)


def take_data(tree: Node, facts: Facts) -> tuple[tuple[LockedSource, ...], ...]:
    """All sources: of training, of validation, of the evaluation, each in the order of the spec. Asks the hub for those there."""
    lists = zip(source_lists(tree), facts.source_lists, strict=True)
    return tuple(tuple(map(take_source, nodes, found)) for nodes, found in lists)


def take_source(node: Node, facts: SourceFacts) -> LockedSource:
    """One source of the data."""
    if "file" in node.children:
        return LockedDataFiles(files=facts.files)
    if "hub" in node.children:
        hub = asked_hub_data(node)
        found = ask_data_set(hub.repo, hub.asked, hub.subset, hub.split)
        return replace(hub, revision=found.commit, rows=found.rows)
    if "llm" in node.children:
        asked = json.dumps(node.plain(), sort_keys=True, ensure_ascii=False)
        return LockedRows(rows=facts.requests, sha256=hashlib.sha256(asked.encode()).hexdigest())
    digest = hashlib.sha256()
    for row, count in zip(facts.table.digests if facts.table else (), facts.counts or (), strict=False):
        digest.update(f"{count} {row:016x}\n".encode())
    return LockedRows(rows=facts.rows or 0, sha256=digest.hexdigest())


def asked_hub_data(node: Node) -> LockedHubData:
    """What a spec asks of the hub, before anybody has answered."""
    asked = {key: child.value for key, child in node.children["hub"].children.items()}
    words = {key: None if asked[key] is None else str(asked[key]) for key in ("revision", "subset")}
    return LockedHubData(
        repo=str(asked["repo"]), asked=words["revision"], revision="", subset=words["subset"], split=str(asked["split"]), rows=None
    )


def take_libraries() -> dict[str, str]:
    """The versions of a run's libraries that are installed; without what a build adds, such as +cpu."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name).partition("+")[0]
        except PackageNotFoundError:
            continue
    return found

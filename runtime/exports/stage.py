"""The stage export: what the spec asks for beside the adapter and the merged model. `gguf/` and `quantized/` in its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from runtime import console
from runtime.config import Config, GgufExport
from runtime.exports.licence import licence_of
from runtime.exports.q4 import quantize_q4
from runtime.internlm2.folders import readable
from runtime.models.base import base_name

SHARE = "of the largest value"


def export(config: Config, folder: Path, out: Path) -> dict[str, Any]:
    """Writes what is asked for; returns figures. Raises RunFault."""
    figures: dict[str, Any] = {"gguf": [], "quantized": None}
    if config.export.gguf is not None:
        (out / "gguf").mkdir()
        figures["gguf"] = _write_ggufs(config, config.export.gguf, readable(folder / "merge"), out / "gguf")
    if config.export.quantized is not None:
        from runtime.exports.quantized import write_quantized

        figures["quantized"] = write_quantized(config, readable(folder / "merge"), out / "quantized")
    return figures


def _write_ggufs(config: Config, wanted: GgufExport, merged: Path, out: Path) -> list[dict[str, Any]]:
    from transformers import AutoConfig, AutoTokenizer, GenerationConfig

    from runtime.exports.gguf_file import write_gguf
    from runtime.exports.ollama import modelfile
    from runtime.tokens.text_format import row_format

    settings = AutoConfig.from_pretrained(merged, trust_remote_code=config.model.trust_remote_code)
    tokenizer = AutoTokenizer.from_pretrained(merged, trust_remote_code=config.model.trust_remote_code)
    form = row_format(tokenizer, config, system=None)
    licence = licence_of(config.model.base)
    about = {"description": config.description or f"{config.name}, made from {base_name(config.model.base)}"}
    about |= {"license": licence} if licence else {}
    common: dict[str, Any] = {"name": config.name, "about": about, "settings": settings, "tokenizer": tokenizer, "form": form}
    files = {kind: out / f"{config.name}.{kind}.gguf" for kind in wanted.types}
    found = []
    for kind in sorted(wanted.types, key=["f16", "q8_0", "q4_k_m"].index):
        off = None
        if kind == "q4_k_m":
            source = files.get("f16", out / "whole.partial")
            if "f16" not in files:
                write_gguf(merged, source, kind="f16", **common)
            quantize_q4(source, files[kind])
            if "f16" not in files:
                source.unlink()
        else:
            off = write_gguf(merged, files[kind], kind=kind, **common)
        size = files[kind].stat().st_size
        console.say("export", f"{files[kind].name} · {console.size(size)}" + (f" · within {off:.1g} {SHARE}" if off is not None else ""))
        found.append({"type": kind, "file": files[kind].name, "bytes": size, "off": off})
    eos = GenerationConfig.from_pretrained(merged).eos_token_id
    ends = tokenizer.convert_ids_to_tokens([eos] if isinstance(eos, int) else eos or [])
    text = modelfile(
        files[wanted.types[0]].name,
        chat=config.chat,
        tokenizer=tokenizer,
        form=form,
        ends=ends,
        positions=settings.max_position_embeddings,
    )
    (out / "Modelfile").write_text(text, encoding="utf-8")
    return found

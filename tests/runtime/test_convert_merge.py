"""runtime/convert.py and merge.py: the adapter as peft has it, and one model folder that is proven to be base + adapter."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import parse_safetensors_file_metadata  # noqa: F401
from peft import LoraConfig, PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from runtime import config as configs
from runtime import merge as merging
from runtime.adapter import INDEX, read_adapter, write_adapter
from runtime.config import LocalBase
from runtime.convert import convert
from runtime.merge import merge
from runtime.model import load_model


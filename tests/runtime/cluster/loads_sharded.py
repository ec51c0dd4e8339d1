"""What a process holds of a model right after loading, for test_sharded.py: run by torchrun with compiled folders."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import deepspeed

from runtime import config as configs
from runtime.models.model import load_model
from runtime.starting import leave, quiet
from runtime.training.arguments import training_arguments
from runtime.training.trainable import prepared, weights_dtype

quiet()
found = {}
for build in map(Path, sys.argv[1:]):
    config = configs.load(build)
    arguments = training_arguments(config, build / "out", build, validates=False)
    deepspeed.init_distributed()
    model = load_model(config.model, device=arguments.device, dtype=weights_dtype(config))
    weights = dict(model.named_parameters())
    loaded = {name: [weight.numel(), weight.ds_numel, weight.ds_tensor.numel(), list(weight.ds_shape)] for name, weight in weights.items()}
    after = prepared(config, model).named_parameters()
    trained = {name: weight.numel() for name, weight in after if weight.requires_grad}
    found[build.parent.name] = {"loaded": loaded, "trained": trained}
Path(sys.argv[1]).parent.with_name(f"rank-{os.environ['RANK']}.json").write_text(json.dumps(found))
leave(0)

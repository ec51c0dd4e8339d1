"""runtime/training/arguments.py: what of the config reaches transformers' TrainingArguments."""

from __future__ import annotations

import pytest

from runtime.training.arguments import training_arguments


@pytest.mark.parametrize(("seconds", "reaches"), [(60, 1800), (7200, 7200)])
def test_a_longer_ddp_timeout_is_that_of_the_process_group_too(tmp_path, configured, seconds, reaches):
    config = configured(tmp_path, distributed={"ddp_timeout": seconds})
    arguments = training_arguments(config, tmp_path / "out", tmp_path / "build", validates=False)
    assert arguments.ddp_timeout_delta.total_seconds() == reaches

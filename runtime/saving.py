"""transformers' Trainer with checkpoints that are whole or absent, and with nothing empty in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from peft import PeftModel, get_peft_model_state_dict
from safetensors import safe_open
from transformers import Trainer
from transformers.trainer import TRAINER_STATE_NAME

from runtime import checkpoints
from runtime.faults import RunFault
from runtime.stages import write_json

CONTRACT = "contract.json"


class SavingTrainer(Trainer):
    """Trainer that writes a checkpoint aside, holds its weights against the model, adds `contract`, and puts it in place.

    `keep` checkpoints stay, all where it is None. With `keep_best` that of the lowest validation loss is one of them. What one
    process writes the others `wait` for.
    """

    def __init__(
        self,
        *,
        wait: Callable[[], None] | None = None,
        contract: Mapping[str, Any] | None = None,
        keep: int | None = None,
        keep_best: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.wait = wait or self.accelerator.wait_for_everyone
        self.contract, self.keep, self.keep_best = contract or {}, keep, keep_best
        self._aside: Path | None = None

    def _get_output_dir(self, trial: Any) -> str:
        folder: str = super()._get_output_dir(trial)
        return folder if self._aside is None else str(self._aside)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Every process writes its part; the first one sees to the rest, and the others wait for it."""
        folder = Path(self.args.output_dir)
        name = f"checkpoint-{self.state.global_step}"
        self._aside = folder / checkpoints.ASIDE
        super()._save_checkpoint(model, trial)
        self._aside = None
        # the folder is renamed, and once more when training is done: the best one is known by best_global_step
        self.state.best_model_checkpoint = None
        self.wait()
        if self.args.process_index == 0:
            written = folder / checkpoints.ASIDE / name
            self.state.save_to_json(str(written / TRAINER_STATE_NAME))
            self.require_whole(written)
            write_json(written / CONTRACT, self.contract)
            checkpoints.put_in_place(folder, name)
            if self.keep is not None:
                checkpoints.prune(folder, self.keep, self.state.best_global_step if self.keep_best else None)
        self.wait()

    def require_whole(self, folder: Path) -> None:
        """Raises RunFault where the weights that were saved there are fewer than the model has, or empty: what a model that is
        shared out among processes leaves when it is saved without being gathered."""
        saved = shapes(folder)
        names, tied = _names(self.accelerator.unwrap_model(self.model))
        missing = sorted(names - saved.keys() - tied)
        empty = sorted(name for name, shape in saved.items() if 0 in shape)
        if missing or empty:
            what = f"{len(missing)} of {len(names)} tensors are missing" if missing else f"{len(empty)} of {len(saved)} tensors are empty"
            hint = "leave distributed.deepspeed.zero_optimization as specgen derives it; distributed.zero_stage: 2 saves without gathering"
            raise RunFault("SG444", f"{what} in the weights saved at step {self.state.global_step}, {(missing or empty)[0]} first", hint)


def shapes(folder: Path) -> dict[str, list[int]]:
    """Tensor name → shape, of all weight files of a folder."""
    found: dict[str, list[int]] = {}
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="pt") as stream:
            found |= {name: stream.get_slice(name).get_shape() for name in stream.keys()}  # noqa: SIM118 - a file, no mapping
    return found


def _names(model: Any) -> tuple[set[str], set[str]]:
    """The tensors that a saved model has, and those that may be left out as others hold the same."""
    if isinstance(model, PeftModel):
        return set(get_peft_model_state_dict(model, save_embedding_layers=False)), set()
    return set(model.state_dict()), set(model.all_tied_weights_keys)

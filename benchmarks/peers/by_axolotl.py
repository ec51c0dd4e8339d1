"""A job done by Axolotl."""

import json
from pathlib import Path

import yaml
from job import asked, rows_of, time_trainers


def on_cpu() -> None:
    """Has transformers train on the CPU, for which Axolotl has no key."""
    from transformers import TrainingArguments

    plain = TrainingArguments.__post_init__

    def post_init(self: TrainingArguments) -> None:
        self.use_cpu = True
        plain(self)

    TrainingArguments.__post_init__ = post_init


def main() -> None:
    """Trains the job that was asked for with axolotl's own command."""
    job = asked()
    time_trainers(job["timings"])
    on_cpu()

    from axolotl.cli.train import do_cli  # its trainers derive from transformers' when they are imported

    out = Path(job["out"])
    out.mkdir(parents=True, exist_ok=True)
    (out / "rows.jsonl").write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows_of(job)), encoding="utf-8")
    config = {
        "base_model": job["base"],
        "datasets": [{"path": str(out / "rows.jsonl"), "ds_type": "json", "type": "chat_template", "field_messages": "messages"}],
        "dataset_prepared_path": str(out / "prepared"),
        "val_set_size": 0.0,
        "output_dir": str(out / "adapter"),
        "sequence_len": job["pack"] or 512,
        "sample_packing": bool(job["pack"]),
        "adapter": "lora",
        "lora_r": 16,
        "lora_alpha": 32,
        "lora_dropout": 0.0,
        "lora_target_linear": True,
        "lora_qkv_kernel": False,  # its kernels are Triton's
        "lora_o_kernel": False,
        "lora_mlp_kernel": False,
        "gradient_accumulation_steps": 1,
        "micro_batch_size": job["batch_size"],
        "max_steps": job["steps"],
        "optimizer": "adamw_torch",
        "lr_scheduler": "cosine",
        "learning_rate": job["learning_rate"],
        "warmup_steps": 2,
        "bf16": job["dtype"] == "bfloat16",
        "gradient_checkpointing": False,
        "attn_implementation": "sdpa",
        "save_strategy": "no",
        "use_tensorboard": False,
    }
    (out / "config.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    do_cli(config=str(out / "config.yml"))


if __name__ == "__main__":  # it starts processes that import this
    main()

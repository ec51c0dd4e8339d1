"""A job done by LLaMA-Factory."""

import json
from pathlib import Path

from job import asked, rows_of, time_trainers
from llamafactory.train.tuner import run_exp

job = asked()
time_trainers(job["timings"])
data = Path(job["out"]) / "data"
data.mkdir(parents=True)
(data / "rows.json").write_text(json.dumps([{"messages": row} for row in rows_of(job)]), encoding="utf-8")
tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant", "system_tag": "system"}
about = {"rows": {"file_name": "rows.json", "formatting": "sharegpt", "columns": {"messages": "messages"}, "tags": tags}}
(data / "dataset_info.json").write_text(json.dumps(about), encoding="utf-8")
packing = {"packing": True, "neat_packing": True} if job["pack"] else {}
run_exp(
    {
        "model_name_or_path": job["base"],
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "lora",
        "lora_rank": 16,
        "lora_alpha": 32,
        "lora_target": "all",
        "dataset": "rows",
        "dataset_dir": str(data),
        "template": "smollm2",
        "cutoff_len": job["pack"] or 512,
        "output_dir": f"{job['out']}/adapter",
        "save_strategy": "no",
        "per_device_train_batch_size": job["batch_size"],
        "gradient_accumulation_steps": 1,
        "learning_rate": job["learning_rate"],
        "max_steps": job["steps"],
        "lr_scheduler_type": "cosine",
        "warmup_steps": 2,
        "bf16": job["dtype"] == "bfloat16",
        "use_cpu": True,
        "report_to": "none",
        "disable_gradient_checkpointing": job["checkpointing"] is False,
        **packing,
    }
)

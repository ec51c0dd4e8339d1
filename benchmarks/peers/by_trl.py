"""A job done by TRL's SFTTrainer."""

import torch
from datasets import Dataset
from job import LORA, asked, merged_and_answered, rows_of, time_trainers
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from trl import SFTConfig, SFTTrainer

job = asked()
time_trainers(job["timings"])
quantization = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=job["dtype"]) if job["nf4"] else None
settings = {} if job["checkpointing"] is None else {"gradient_checkpointing": job["checkpointing"]}
if job["pack"]:
    settings |= {"packing": True, "max_length": job["pack"]}
trainer = SFTTrainer(
    model=AutoModelForCausalLM.from_pretrained(job["base"], dtype=job["dtype"], quantization_config=quantization),
    processing_class=AutoTokenizer.from_pretrained(job["base"]),
    train_dataset=Dataset.from_list([{"prompt": row[:-1], "completion": row[-1:]} for row in rows_of(job)]),
    peft_config=LoraConfig(**LORA),
    args=SFTConfig(
        output_dir=job["out"],
        max_steps=job["steps"],
        per_device_train_batch_size=job["batch_size"],
        learning_rate=job["learning_rate"],
        lr_scheduler_type="cosine",
        warmup_steps=2,
        bf16=job["dtype"] == "bfloat16",
        use_cpu=not job["on_gpu"],
        report_to=[],
        save_strategy="no",
        **settings,
    ),
)
trainer.train()
if job["on_gpu"]:
    print("peak bytes:", torch.cuda.max_memory_allocated())
if job["is_whole"]:
    trainer.save_model(job["out"])
    merged_and_answered(trainer.model, trainer.processing_class, job["out"])

#!/usr/bin/env bash
# Compiled by specgen from the spec 'llava_internlm2_chat_1_8b_qlora_clip_vit_large_p14_336_lora_e1_gpu8_finetune'. Do not edit: change the spec and compile again.
# Runs every stage, from the working folder that the spec's paths start at.
set -euo pipefail
build=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
exec "${PYTHON:-python}" -m runtime "$build" "$@"

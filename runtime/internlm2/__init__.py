"""InternLM2, which transformers does not have: loaded as its Llama with no code but ours, and written back."""

"""What a model is exported as, beside the merged folder: GGUF files, quantized folders, a repository on the hub; and its card."""

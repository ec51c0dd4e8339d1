"""Models that see: LLaVA, made of a language model, a CLIP or SigLIP vision tower and a projector between them."""

"""Training: what is trained, on which batches, with which loss, and how it goes on after an interruption."""

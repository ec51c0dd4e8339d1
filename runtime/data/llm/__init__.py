"""Conversations that another model writes: prompts → answers, from an endpoint, a local model or the disk → checked rows."""

"""The data stage: conversations from the sources, as token ids with the trained positions."""

"""Base models: where they lie, in which form, and how they are loaded."""

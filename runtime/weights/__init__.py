"""Tensors in files: adapters and models read, added and written one tensor at a time."""

"""Sweeps: trials of one spec with other values, planned here and carried out one after another by the runtime."""

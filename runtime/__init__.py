"""Carries out a compiled folder: data, training, conversion, merge, smoke test, report. Reads no spec."""

__version__ = "0.1.0"

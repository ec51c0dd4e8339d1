"""Carries out a compiled folder: data, training, conversion, merge, smoke test, report. Reads no spec."""

from conversations import __version__ as __version__

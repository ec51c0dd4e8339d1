"""The compiler: one YAML spec in, a folder of plain files out. Imports nothing heavy."""

__version__ = "0.1.0"

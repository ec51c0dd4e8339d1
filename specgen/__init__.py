"""The compiler: one YAML spec in, a folder of plain files out. Imports nothing heavy."""

from conversations import __version__ as __version__

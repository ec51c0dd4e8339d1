"""Rows before there are tokens: files, formats, rules and their mixing.

The compiler checks rows with it and the runtime reads them with it, so that the two cannot differ. It imports neither of them,
nor anything heavy.
"""

__version__ = "0.1.0"  # of the three packages, which travel together

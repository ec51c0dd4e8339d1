"""Rows before there are tokens: files, formats, rules and their mixing.

The compiler checks rows with it and the runtime reads them with it, so that the two cannot differ. It imports neither of them,
nor anything heavy.
"""

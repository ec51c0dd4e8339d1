"""One module a verb: what the command line does, as plain functions."""

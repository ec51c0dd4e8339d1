"""A run of a compiled folder: which stages there are, which of them are carried out, and by whom."""

"""What came of a sweep: as a table in the terminal and as a page beside it."""

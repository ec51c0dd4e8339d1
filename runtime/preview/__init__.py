"""Rows as the model sees them: which tokens are trained, in the terminal, as JSON and as a page.

What reads rows and turns them into tokens is the run's own code (rows.py), so that what is shown is what is trained.
"""

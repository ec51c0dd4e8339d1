"""What makes the site of docs/: its links, and the drawing of the architecture. Not part of what is installed."""

"""Several processes and nodes: how they are started, meet, keep in step, and end."""

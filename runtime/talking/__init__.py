"""A loaded model that answers conversations, for all who talk to it: terminal, page, server."""

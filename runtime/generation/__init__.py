"""Answers as models make them: tokens, streamed as text, with the chat settings of the config."""

"""An OpenAI-compatible server for one model. See docs/serve.md for why it is not transformers' own."""

"""The columns of specgen runs, by what --sort and the other forms call them. Apart from what fills them: --help needs the names."""

HEADS = {
    "name": "name",
    "state": "state",
    "when": "when",
    "base": "base",
    "method": "method",
    "rows": "rows",
    "steps": "steps",
    "loss": "final loss",
    "validation": "best validation",
    "speed": "tokens/s",
    "memory": "peak memory",
    "smoke": "smoke",
}

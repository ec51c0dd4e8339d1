"""The names of the stages in their order; apart, as the command line needs them before anything heavy is loaded."""

STAGES = ("data", "train", "convert", "merge", "smoke", "eval", "export", "report")

"""How commands end: the exit codes of the compiler, and those of the runtime that it starts."""

GOOD, FAILED, WRONG, FAULT_OF_OURS, INTERRUPTED = 0, 1, 2, 3, 130
PREEMPTED = 75  # sysexits' word for a failure that passes: the same command goes on

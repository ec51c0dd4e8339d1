"""The runtime's faults, read from what it writes to standard error."""

from __future__ import annotations

from specgen.diagnostics import Diagnostic


def told_faults(errors: str) -> list[Diagnostic]:
    """The runtime's own words as diagnostics: `error CODE: message`, more lines of it, and maybe `  hint: …`. What libraries
    say before is left out."""
    _, found, words = f"\n{errors}".partition("\nerror SG")
    if not found:
        raise RuntimeError(f"the runtime failed: {errors.strip()}")
    number, _, rest = words.strip().partition(": ")
    message, _, hint = rest.partition("\n  hint: ")
    return [Diagnostic(code=f"SG{number}", message=message, hint=hint or None)]

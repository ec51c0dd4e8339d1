"""--lagent: refused, with the reason."""

from __future__ import annotations

from typing import NoReturn

from runtime.faults import WRONG, RunFault


def refuse_lagent() -> NoReturn:
    """Raises RunFault. lagent's package (0.2.4) requires jupyter, streamlit, griffe below 1 and a beta of duckduckgo-search by its exact
    version; its extra for local models names transformers up to 4.40."""
    message = "--lagent: agents of lagent are not run here: its package (0.2.4) names transformers up to 4.40 for local models"
    hint = "--with-plugins calculate,solve,search gives the model the same tools; an agent of your own can ask specgen serve"
    raise RunFault("SG670", message, hint, exit_code=WRONG)

"""Arguments and options that several commands have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

spec_argument = click.argument("spec", type=click.Path(path_type=Path))
specs_argument = click.argument("specs", type=click.Path(path_type=Path), nargs=-1, required=True)
profile_option = click.option("--profile", metavar="NAME", help="Lay this profile of the spec over it.")
set_option = click.option("--set", "settings", metavar="KEY=VALUE", multiple=True, help="Set one value; may be repeated.")
output_option = click.option("--output", type=click.Path(path_type=Path), metavar="DIR", help="Compiled folder; default build/NAME.")
RUNS = Path("runs")
runs_option = click.option(
    "--runs-dir", type=click.Path(path_type=Path), default=RUNS, metavar="DIR", show_default=True, help="Where run folders are."
)
format_option = click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "github", "sarif"]),
    default="text",
    show_default=True,
    help="How faults are printed.",
)
short_format_option = click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)


class OfSchema(click.Option):
    """An option whose default is that of a key of the spec. schemas/ is read only where the default is asked for."""

    def __init__(self, names: Sequence[str], *, key: str, **settings: Any) -> None:
        super().__init__(names, show_default=True, **settings)
        self.key = key

    def get_default(self, _context: click.Context, call: bool = True) -> Any:
        """As schemas/ has it."""
        from specgen.schema import default_of

        return default_of(self.key)

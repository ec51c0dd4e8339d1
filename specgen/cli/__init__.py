"""The command line: parse, call, print. main() is the one place that catches what ends a command, and the one that exits."""

from __future__ import annotations

import os
import sys

import click

from specgen import __version__
from specgen.cli import looking, models, running, specs
from specgen.cli.faults import print_end
from specgen.diagnostics import SpecError
from specgen.exits import FAILED, FAULT_OF_OURS, INTERRUPTED, WRONG

COMMANDS = (
    *(specs.validate, specs.compile_command, specs.check, specs.diff, specs.lock, specs.fmt, specs.init),
    *(looking.list_command, looking.explain, looking.schema, looking.plan, looking.data),
    *(running.run, running.sweep, running.status, running.runs),
    *(models.chat, models.serve, models.convert, models.merge),
)


@click.group(commands=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="specgen")
def cli() -> None:
    """One YAML spec in, a fine-tuned chat model out."""


def main() -> None:
    """The entry point: users' mistakes end as diagnostics and exit code 2, ours with a traceback and 3."""
    _in_utf8()
    try:
        code = cli.main(standalone_mode=False)
    except SpecError as error:
        print_end(error.diagnostics)
        code = WRONG
    except click.ClickException as error:
        error.show()
        code = WRONG
    except (click.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = FAILED
    except Exception:
        import traceback

        traceback.print_exc()
        click.echo(f"this is a fault of specgen {__version__}, not of your spec: please report it with the lines above", err=True)
        code = FAULT_OF_OURS
    raise SystemExit(code)


def _in_utf8() -> None:
    """Starts again in UTF-8 mode where the locale is not UTF-8: file names and output hold any character."""
    if sys.getfilesystemencoding().lower() != "utf-8" or (sys.stdout.encoding or "").lower() != "utf-8":
        if sys.flags.utf8_mode:
            return
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, "-X", "utf8", "-m", "specgen", *sys.argv[1:]])

"""Commands that run specs, and tell how their runs stand."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from specgen.calls import call
from specgen.cli.faults import print_checked, print_diagnostics
from specgen.cli.options import RUNS, output_option, profile_option, runs_option, set_option, short_format_option, spec_argument
from specgen.commands.columns import HEADS
from specgen.exits import GOOD
from specgen.stages import STAGES

if TYPE_CHECKING:
    from specgen.lock.use import Mode


@click.command()
@spec_argument
@profile_option
@set_option
@output_option
@runs_option
@click.option("--unlocked", is_flag=True, help="Go on where something is not as the lock file has it, with a warning.")
@click.option("--accept-change", is_flag=True, help="An unfinished run goes on with what has changed in the spec, where that is safe.")
@click.option("--begin-anew", is_flag=True, help="Set an unfinished run aside and train from the start.")
@click.option("--push", is_flag=True, help="Upload what was exported to export.hub, once all is good.")
@click.option(
    "--stage",
    "stages",
    multiple=True,
    metavar="STAGE",
    help=f"Run only this stage: {', '.join(STAGES)}; may be repeated.",
)
def run(
    spec: Path,
    profile: str | None,
    settings: tuple[str, ...],
    output: Path | None,
    runs_dir: Path,
    unlocked: bool,
    accept_change: bool,
    begin_anew: bool,
    push: bool,
    stages: tuple[str, ...],
) -> None:
    """Compile a spec and carry it out; an interrupted run goes on. Takes a compiled folder, too."""
    from specgen import folder
    from specgen.launch import become, stop_when_preempted

    stop_when_preempted()
    if push and stages:
        raise click.UsageError("--push uploads what a whole run has made: leave out --stage")
    if accept_change and begin_anew:
        raise click.UsageError("--accept-change goes on with an unfinished run, --begin-anew does not: give one of them")
    talk = call("chat", spec, profile=profile, settings=settings, runs_dir=None if runs_dir == RUNS else runs_dir)
    if folder.is_compiled(spec):
        if profile or settings or output or unlocked:
            raise click.UsageError("a compiled folder is run as it is: --profile, --set, --output and --unlocked belong to a spec")
        build = spec
    else:
        build = _compile_for_run(spec, profile, settings, output, "unlocked" if unlocked else "run")
    arguments = [str(build), "--runs-dir", str(runs_dir), "--talk", talk]
    arguments += [word for word, given in (("--accept-change", accept_change), ("--begin-anew", begin_anew), ("--push", push)) if given]
    become("runtime", [*arguments, *(word for stage in stages for word in ("--stage", stage))])


def _compile_for_run(spec: Path, profile: str | None, settings: tuple[str, ...], output: Path | None, mode: Mode) -> Path:
    from specgen import folder
    from specgen.compiler import compile_spec
    from specgen.targets import files_for

    compiled = compile_spec(spec, profile, settings, mode=mode)
    target = output or Path("build", compiled.plan.name)
    files, found = files_for(compiled, target)
    folder.write(files, target)
    print_checked(spec, (*compiled.diagnostics, *found), notes=False)
    click.echo(f"{target}  compiled · {len(files)} files · {_steps(compiled.plan.train.total_steps)}")
    return target


def _steps(number: int | None) -> str:
    return "steps known once the rows are tokenized" if number is None else f"{number} steps"


@click.command()
@spec_argument
@profile_option
@set_option
@click.option("--output", type=click.Path(path_type=Path), metavar="DIR", help="Where trials are compiled; default build/NAME-sweep.")
@runs_option
@click.option("--trials", "most", type=click.IntRange(min=1), metavar="N", help="Run at most the first N trials.")
@click.option("--retry", is_flag=True, help="Run trials that have failed before once more.")
@click.option("--plan", "only_plan", is_flag=True, help="Only say which trials there are, with their steps and tokens.")
@click.option("--compile-only", is_flag=True, help="Only compile the trials; run none. Not for those that Optuna chooses.")
def sweep(
    spec: Path,
    profile: str | None,
    settings: tuple[str, ...],
    output: Path | None,
    runs_dir: Path,
    most: int | None,
    retry: bool,
    only_plan: bool,
    compile_only: bool,
) -> int:
    """Run the trials of a spec that has a sweep, one after another, and compare them; an interrupted sweep goes on."""
    from specgen.commands import sweep as verb
    from specgen.sweep.folders import SUFFIX

    if only_plan and (compile_only or retry or output):
        raise click.UsageError("--plan only looks: it goes neither with --compile-only nor with --retry nor with --output")
    if compile_only and retry:
        raise click.UsageError("--compile-only runs no trial, and --retry runs some once more: give one of them")
    sweeping = verb.ready(spec, profile, settings, most)
    print_checked(spec, sweeping.warnings, notes=False)
    if only_plan:
        from specgen.sweep.planning import plan as planned

        click.echo(planned(sweeping.swept, sweeping.trials, sweeping.number))
        return GOOD
    if compile_only and sweeping.trials is None:
        raise click.UsageError("--compile-only: Optuna chooses each trial by how the ones before came out")
    builder = verb.compile_trials(sweeping, output or Path("build", sweeping.swept.name + SUFFIX))
    print_diagnostics(builder.unlocked)
    if compile_only:
        given = {"output": output, "runs_dir": None if runs_dir == RUNS else runs_dir, "trials": most}
        again = call("sweep", spec, profile=profile, settings=settings, **given)
        click.echo(f"wrote {builder.target} ({sweeping.number} trials); next: {again}")
        return GOOD
    return verb.run(sweeping, builder, runs_dir, retry=retry, say=click.echo)


@click.command()
@click.argument("run", metavar="[RUN | SPEC]", required=False)
@profile_option
@runs_option
@click.option("--watch", is_flag=True, help="Go on showing it until it has ended.")
@short_format_option
def status(run: str | None, profile: str | None, runs_dir: Path, watch: bool, form: Literal["text", "json"]) -> None:
    """Show where a run stands, or how it ended; without RUN the one that was active last."""
    from specgen.commands import status as verb

    folder = verb.find(run, runs_dir, profile)
    shown, ended = verb.status(folder, form)
    click.echo(shown)
    while watch and not ended:
        time.sleep(1)
        before = shown
        shown, ended = verb.status(folder, form)
        if sys.stdout.isatty():
            click.echo(f"\x1b[{before.count(chr(10)) + 1}A\x1b[J{shown}")
        elif shown != before:
            click.echo(shown)


@click.command()
@runs_option
@click.option("--sort", type=click.Choice(list(HEADS)), default="when", show_default=True, help="By this column; when: the newest first.")
@click.option("--differences", is_flag=True, help="The settings that are not the same in all runs as columns, too.")
@click.option("--format", "form", type=click.Choice(["text", "json", "csv"]), default="text", show_default=True)
def runs(runs_dir: Path, sort: str, differences: bool, form: str) -> None:
    """Compare runs in a table: data, steps, losses, speed, memory."""
    from specgen.commands import runs as verb

    rows = verb.table_of(runs_dir, sort=sort, differences=differences)
    if form == "json":
        click.echo(verb.as_json(rows))
    elif rows:
        click.echo(verb.as_csv(rows) if form == "csv" else verb.as_table(rows), nl=form != "csv")
    else:
        click.echo(f"there is no run below {runs_dir}", err=True)

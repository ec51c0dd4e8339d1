"""Commands that make, check, compare and compile specs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from specgen.calls import call
from specgen.cli.faults import count, faults_as, has_error, print_as, print_checked, print_diagnostics
from specgen.cli.options import format_option, output_option, profile_option, set_option, spec_argument, specs_argument
from specgen.diagnostics import Diagnostic, SpecError
from specgen.exits import FAILED, GOOD, WRONG
from specgen.folder import TARGETS, Target
from specgen.printers import Format

if TYPE_CHECKING:
    from specgen.lock.contents import Part


@click.command()
@specs_argument
@profile_option
@set_option
@format_option
def validate(specs: tuple[Path, ...], profile: str | None, settings: tuple[str, ...], form: Format) -> int:
    """Check specs and everything they refer to; lock files, too."""
    found: list[Diagnostic] = []
    for spec in specs:
        try:
            diagnostics: Sequence[Diagnostic] = _diagnostics_of(spec, profile, settings)
        except SpecError as error:
            diagnostics = error.diagnostics
        found += diagnostics
        if form == "text":
            print_checked(spec, diagnostics)
    if form != "text":
        print_as(found, form)
    return WRONG if has_error(found) else GOOD


def _diagnostics_of(file: Path, profile: str | None, settings: tuple[str, ...]) -> Sequence[Diagnostic]:
    from specgen.compiler import compile_spec
    from specgen.lock.paths import SUFFIX

    if file.name.endswith(SUFFIX):
        from specgen.lock.file import read

        if read(file):
            return ()
    return compile_spec(file, profile, settings).diagnostics


@click.command("compile")
@spec_argument
@profile_option
@set_option
@output_option
@click.option("--check", is_flag=True, help="Write nothing; exit 1 and show the difference where the folder is stale.")
@click.option("--locked", is_flag=True, help="Refuse what is not as the lock file beside the spec has it.")
@click.option(
    "--target",
    "targets",
    type=click.Choice(list(TARGETS)),
    multiple=True,
    help=f"Write what this scheduler takes, too: {', '.join(TARGETS.values())}; may be repeated.",
)
@format_option
def compile_command(
    spec: Path,
    profile: str | None,
    settings: tuple[str, ...],
    output: Path | None,
    check: bool,
    locked: bool,
    targets: tuple[Target, ...],
    form: Format,
) -> int:
    """Compile a spec into a folder of plain files."""
    from specgen import folder
    from specgen.compiler import compile_spec
    from specgen.targets import files_for

    with faults_as(form):
        compiled = compile_spec(spec, profile, settings, mode="locked" if locked else "look")
        target = output or Path("build", compiled.plan.name)
        files, found = files_for(compiled, target, targets)
        difference = folder.stale(files, target) if check else None
        if not check:
            folder.write(files, target)
    diagnostics = (*compiled.diagnostics, *found)
    aside = form != "text"  # the other forms have the output to themselves
    if aside:
        print_as(diagnostics, form)
    elif not check:
        print_checked(spec, diagnostics, notes=False)
    if difference:
        click.echo(difference, err=aside)
        words = [word for asked in targets for word in ("--target", asked)]
        again = call("compile", spec, *words, profile=profile, settings=settings, output=output)
        click.echo(f"{target} is stale; run: {again}", err=True)
        return FAILED
    done = f"{target} is up to date" if check else f"wrote {target} ({len(files)} files); next: {call('run', target)}"
    click.echo(done, err=aside)
    return GOOD


@click.command()
@specs_argument
@click.option("--builds", type=click.Path(path_type=Path), default=Path("build"), show_default=True, help="Where compiled folders are.")
@format_option
def check(specs: tuple[Path, ...], builds: Path, form: Format) -> int:
    """Check specs with all their profiles, and that the compiled folders that are there are theirs. For CI."""
    from specgen.commands.check import check as check_specs

    checked = check_specs(specs, builds)
    if form != "text":
        print_as(checked.faults, form)
    else:
        print_diagnostics(checked.faults)
    if has_error([fault for fault in checked.faults if fault.code != "SG303"]):
        return WRONG
    if any(fault.code == "SG303" for fault in checked.faults):
        return FAILED
    click.echo(f"{count(len(specs), 'spec')} valid, {count(checked.builds, 'compiled folder')} up to date", err=form != "text")
    return GOOD


@click.command()
@click.argument("specs", type=click.Path(path_type=Path), nargs=-1)
@click.option("--git", "revisions", metavar="REV..REV", help="Compare two revisions of git, or one with the working tree.")
@profile_option
@set_option
@click.option("--format", "form", type=click.Choice(["text", "markdown", "json"]), default="text", help="How the change is printed.")
@click.option("--exit-code", is_flag=True, help="Exit 1 where something differs.")
def diff(specs: tuple[Path, ...], revisions: str | None, profile: str | None, settings: tuple[str, ...], form: str, exit_code: bool) -> int:
    """Say what a change of a spec means: two spec files or compiled folders, or with --git the specs of two revisions."""
    from specgen.commands import diff as verb
    from specgen.folder import is_compiled

    choice = verb.Choice(profile=profile, settings=settings)
    if revisions is not None:
        entries = verb.of_revisions(revisions, specs, choice)
    elif len(specs) == 2:
        if all(map(is_compiled, specs)) and (profile or settings):
            raise click.UsageError("compiled folders are compared as they are: --profile and --set belong to a spec")
        entries = verb.of_files(specs[0], specs[1], choice)
    else:
        raise click.UsageError("give two specs, or --git REV..REV")
    click.echo(verb.printed(entries, form))
    if any(entry.faults for entry in entries):
        return WRONG
    return FAILED if exit_code and any(entry.changed for entry in entries) else GOOD


@click.command()
@spec_argument
@profile_option
@set_option
@click.option(
    "--update",
    "parts",
    type=click.Choice(["base", "tokenizer", "template", "data", "libraries"]),
    multiple=True,
    help="Renew only this part of the lock file; may be repeated.",
)
@click.option("--figures", is_flag=True, help="Measure tokens, lengths and packs, too, so that plan.md has them: runs the data stage.")
@click.option("--check", is_flag=True, help="Write nothing; exit 1 and say what is not as it was locked.")
@format_option
def lock(
    spec: Path, profile: str | None, settings: tuple[str, ...], parts: tuple[Part, ...], figures: bool, check: bool, form: Format
) -> int:
    """Write down beside the spec what exactly it is made from: commits, hashes, rows, versions."""
    from specgen.commands import lock as locking

    if check and (parts or figures):
        raise click.UsageError("--check changes nothing: it goes neither with --update nor with --figures")
    with faults_as(form):
        if check:
            return _say_held(*locking.check(spec, profile, settings), form)
        if parts:
            path, left = locking.update(spec, profile, settings, parts)
            done = f"wrote {path}" + (f"; still not as locked: {', '.join(left)}" if left else "")
        else:
            done = f"wrote {locking.lock(spec, profile, settings)}; next: commit it beside the spec"
        if figures:
            locking.measure(spec, profile, settings)
    if form != "text":
        print_as([], form)
    click.echo(done, err=form != "text")
    return GOOD


def _say_held(path: Path, found: list[Diagnostic], form: Format) -> int:
    """What differs from a lock, and exit code 1 where anything does."""
    if form != "text":
        print_as(found, form)
    elif found:
        print_diagnostics(found)
    if found:
        return FAILED
    click.echo(f"{path} holds", err=form != "text")
    return GOOD


@click.command()
@specs_argument
@click.option("--check", is_flag=True, help="Write nothing; exit 1 where a spec is not in order.")
def fmt(specs: tuple[Path, ...], check: bool) -> int:
    """Put the keys of specs in the order of the schema; comments go with their key."""
    from specgen.commands.fmt import fmt as format_specs

    changed, faults = format_specs(specs, check=check)
    for spec in changed:
        click.echo(f"{spec} is not in order; run: {call('fmt', spec)}" if check else f"{spec} formatted")
    if faults:
        raise SpecError(*faults)
    return FAILED if check and changed else GOOD


@click.command()
@click.argument("name")
@click.option("--from", "source", default="assistant", show_default=True, metavar="SPEC", help="A spec that comes along: specgen list.")
@click.option("--output", type=click.Path(path_type=Path), metavar="FILE", help="Where to; default specs/NAME.yaml.")
def init(name: str, source: str, output: Path | None) -> None:
    """Begin a spec of one's own from one that comes along."""
    from specgen.commands.library import init as begin

    written = begin(name, source, output)
    click.echo(f"wrote {' and '.join(map(str, written))}; next: {call('validate', written[0])}")

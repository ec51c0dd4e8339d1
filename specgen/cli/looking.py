"""Commands that only tell: of specs, keys, codes, rows, and what a run will be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import click

from specgen.cli.faults import count, faults_as, print_diagnostics
from specgen.cli.options import profile_option, runs_option, set_option, short_format_option, spec_argument
from specgen.methods import METHODS


@click.command("list")
@click.argument("patterns", nargs=-1)
@click.option("--model", metavar="TEXT", help="Only specs of a base model that has this in its name.")
@click.option("--method", type=click.Choice([*METHODS, "text"]), help="Only specs of this method; text: continued pretraining.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True, help="How they are printed.")
@click.option("--templates", is_flag=True, help="The chat templates instead, for `template: NAME`.")
def list_command(patterns: tuple[str, ...], model: str | None, method: str | None, form: str, templates: bool) -> None:
    """Show the specs that come along, or the chat templates; of those that have every PATTERN somewhere."""
    from specgen.commands.library import as_json, as_table, matching

    if templates:
        from specgen.commands import templates as library

        if model or method:
            raise click.UsageError("--model and --method choose specs; a pattern finds a template by its name or models")
        chosen = library.matching(patterns)
        click.echo(library.as_json(chosen) if form == "json" else library.as_table(chosen) or "no chat template has all of that")
        return
    found = matching(patterns, model, method)
    if form == "json":
        click.echo(as_json(found))
    elif found:
        click.echo(as_table(found))
        click.echo(f"{count(len(found), 'spec')}; next: specgen init NAME --from {found[0].name}", err=True)
    else:
        click.echo("no spec that comes along has all of that", err=True)


@click.command()
@click.argument("what", nargs=-1, metavar="CODE | KEY | SPEC [KEY]")
@click.option("--all", "every", is_flag=True, help="List every code.")
@profile_option
@set_option
@short_format_option
def explain(what: tuple[str, ...], every: bool, profile: str | None, settings: tuple[str, ...], form: Literal["text", "json"]) -> None:
    """Explain a code (SG101), a key (train.learning_rate), or which value a spec gives to a key, and where it comes from."""
    from specgen.commands import explain as verb

    of_spec = len(what) == 2 or (len(what) == 1 and what[0].endswith((".yaml", ".yml")))
    if every == bool(what) or len(what) > 2:
        raise click.UsageError("give a code, a key, or a spec and a key; or --all")
    if (profile or settings) and not of_spec:
        raise click.UsageError("--profile and --set belong to a spec")
    with faults_as(form):
        if every:
            told = verb.all_codes(form)
        elif of_spec:
            told = verb.values(Path(what[0]), what[1] if len(what) == 2 else None, profile, settings, form)
        else:
            told = verb.subject(what[0], form)
    click.echo(told)


@click.command()
@click.option("--plan", is_flag=True, help="The schema of a compiled config.yaml instead.")
def schema(plan: bool) -> None:
    """Print the JSON Schema of a spec, for editors."""
    from specgen.places import data_folder

    name = "plan.schema.json" if plan else "spec.schema.json"
    click.echo((data_folder("schemas") / name).read_text(encoding="utf-8"), nl=False)


@click.command()
@spec_argument
@profile_option
@set_option
@click.option("--measure", is_flag=True, help="Count the memory on a real training step, with tensors without values.")
@click.option("--format", "form", type=click.Choice(["markdown", "json"]), default="markdown", help="How the plan is printed.")
def plan(spec: Path, profile: str | None, settings: tuple[str, ...], measure: bool, form: str) -> None:
    """Say what a run will be: rows, tokens, steps, memory. Tokenizes the data; trains nothing."""
    from specgen.commands.plan import as_data, planned

    found = planned(spec, profile, settings, measure=measure)
    print_diagnostics([diagnostic for diagnostic in found.diagnostics if diagnostic.severity != "note"])
    if form == "json":
        click.echo(json.dumps(as_data(found), ensure_ascii=False, indent=2))
    else:
        click.echo(found.text, nl=False)


@click.group()
def data() -> None:
    """Look at the data of a spec."""


@data.command()
@spec_argument
@profile_option
@set_option
@click.option("--source", metavar="NAME|NUMBER", help="Only this source; sources are counted from 1.")
@click.option("--row", type=click.IntRange(min=1), metavar="N", help="Begin with row N of a source, counted from 1.")
@click.option("--rows", type=click.IntRange(min=1), metavar="K", help="So many of each source; default 1, --html 5, --lengths 2000.")
@click.option("--ids", is_flag=True, help="A table of the tokens, too: id, weight, text.")
@click.option("--lengths", is_flag=True, help="Instead: how long the rows are, beside max_length.")
@click.option("--pack", type=click.IntRange(min=1), metavar="N", help="Instead: the rows of pack N of a run whose data stage is done.")
@runs_option
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Instead: write a page of its own.")
@short_format_option
def preview(
    spec: Path,
    profile: str | None,
    settings: tuple[str, ...],
    source: str | None,
    row: int | None,
    rows: int | None,
    ids: bool,
    lengths: bool,
    pack: int | None,
    runs_dir: Path,
    html: Path | None,
    form: Literal["text", "json"],
) -> int:
    """Show rows as the model sees them, and which tokens are trained. Takes a compiled folder, too."""
    from specgen.commands.aside import start_with_build

    if lengths and (ids or row or html):
        raise click.UsageError("--lengths is about all rows: it goes neither with --row nor with --ids nor with --html, which has lengths")
    if html and (ids or form == "json"):
        raise click.UsageError("--html shows the ids by itself: it goes neither with --ids nor with --format json")
    if pack and (source or row or rows or ids or lengths or html or form == "json"):
        raise click.UsageError("--pack shows the rows of a pack as text: it goes with no other option but --runs-dir")
    chosen = {"--pack": pack, "--runs-dir": runs_dir, "--source": source, "--row": row, "--rows": rows, "--html": html, "--format": form}
    words = [word for option, value in chosen.items() if value is not None for word in (option, str(value))]
    words += [option for option, given in (("--ids", ids), ("--lengths", lengths)) if given]
    return start_with_build("runtime.preview", spec, profile, settings, words)

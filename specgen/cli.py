"""The command line: parse, call, print. The only module that prints or exits."""

from __future__ import annotations

import json
import math
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from specgen import __version__
from specgen.commands.chat import ANSWERS, LOADING, TERMINAL
from specgen.commands.chat import options as chat_options
from specgen.commands.web import WEB
from specgen.diagnostics import Diagnostic, SpecError
from specgen.printers import Format, as_text, printed, summary

if TYPE_CHECKING:
    from specgen.lock.contents import Part
    from specgen.lock.use import Mode
    from specgen.targets import Target

FAILED, WRONG, FAULT_OF_OURS, INTERRUPTED = 1, 2, 3, 130

spec_argument = click.argument("spec", type=click.Path(path_type=Path))
profile_option = click.option("--profile", metavar="NAME", help="Lay this profile of the spec over it.")
set_option = click.option("--set", "settings", metavar="KEY=VALUE", multiple=True, help="Set one value; may be repeated.")
output_option = click.option("--output", type=click.Path(path_type=Path), metavar="DIR", help="Compiled folder; default build/NAME.")
runs_option = click.option(
    "--runs-dir", type=click.Path(path_type=Path), default=Path("runs"), metavar="DIR", show_default=True, help="Where run folders are."
)
format_option = click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "github", "sarif"]),
    default="text",
    show_default=True,
    help="How faults are printed.",
)
SORTS = ("name", "state", "when", "base", "method", "rows", "steps", "loss", "validation", "speed", "memory", "smoke")  # of runs
short_format_option = click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="specgen")
def cli() -> None:
    """One YAML spec in, a fine-tuned chat model out."""


@cli.command()
@click.argument("specs", type=click.Path(path_type=Path), nargs=-1, required=True)
@profile_option
@set_option
@format_option
def validate(specs: tuple[Path, ...], profile: str | None, settings: tuple[str, ...], form: Format) -> None:
    """Check specs and everything they refer to; lock files, too."""
    found: list[Diagnostic] = []
    for spec in specs:
        try:
            diagnostics: Sequence[Diagnostic] = _diagnostics_of(spec, profile, settings)
        except SpecError as error:
            diagnostics = error.diagnostics
        found += diagnostics
        if form == "text":
            _print_checked(spec, diagnostics)
    if form != "text":
        _print_as(found, form)
    if any(diagnostic.severity == "error" for diagnostic in found):
        raise SystemExit(WRONG)


def _diagnostics_of(file: Path, profile: str | None, settings: tuple[str, ...]) -> Sequence[Diagnostic]:
    from specgen.compiler import compile_spec
    from specgen.lock.paths import SUFFIX

    if file.name.endswith(SUFFIX):
        from specgen.lock.file import read

        if read(file):
            return ()
    return compile_spec(file, profile, settings).diagnostics


@cli.command("compile")
@spec_argument
@profile_option
@set_option
@output_option
@click.option("--check", is_flag=True, help="Write nothing; exit 1 and show the difference where the folder is stale.")
@click.option("--locked", is_flag=True, help="Refuse what is not as the lock file beside the spec has it.")
@click.option(
    "--target",
    "targets",
    type=click.Choice(["slurm", "kubeflow", "skypilot"]),
    multiple=True,
    help="Write what this scheduler takes, too: slurm.sbatch, trainjob.yaml, skypilot.yaml; may be repeated.",
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
) -> None:
    """Compile a spec into a folder of plain files."""
    from specgen import folder
    from specgen.compiler import compile_spec
    from specgen.targets import files_for

    with _faults_as(form):
        compiled = compile_spec(spec, profile, settings, mode="locked" if locked else "look")
        target = output or Path("build", compiled.plan.name)
        files, found = files_for(compiled, target, targets)
        difference = folder.stale(files, target) if check else None
        if not check:
            folder.write(files, target)
    diagnostics = (*compiled.diagnostics, *found)
    aside = form != "text"  # the other forms have the output to themselves
    if aside:
        _print_as(diagnostics, form)
    elif not check:
        _print_checked(spec, diagnostics, notes=False)
    if difference:
        click.echo(difference, err=aside)
        click.echo(f"{target} is stale; run: {folder.compile_call(spec, profile)}", err=True)
        raise SystemExit(FAILED)
    done = f"{target} is up to date" if check else f"wrote {target} ({len(files)} files); next: specgen run {target}"
    click.echo(done, err=aside)


@cli.command()
@click.argument("specs", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--builds", type=click.Path(path_type=Path), default=Path("build"), show_default=True, help="Where compiled folders are.")
@format_option
def check(specs: tuple[Path, ...], builds: Path, form: Format) -> None:
    """Check specs with all their profiles, and that the compiled folders that are there are theirs. For CI."""
    from specgen.commands.check import check as check_specs

    checked = check_specs(specs, builds)
    if form != "text":
        _print_as(checked.faults, form)
    else:
        _print_diagnostics(checked.faults)
    stale = any(fault.code == "SG303" for fault in checked.faults)
    if any(fault.severity == "error" and fault.code != "SG303" for fault in checked.faults):
        raise SystemExit(WRONG)
    if stale:
        raise SystemExit(FAILED)
    click.echo(f"{_count(len(specs), 'spec')} valid, {_count(checked.builds, 'compiled folder')} up to date", err=form != "text")


@cli.command("list")
@click.argument("patterns", nargs=-1)
@click.option("--model", metavar="TEXT", help="Only specs of a base model that has this in its name.")
@click.option(
    "--method", type=click.Choice(["full", "lora", "qlora", "text"]), help="Only specs of this method; text: continued pretraining."
)
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
        click.echo(f"{_count(len(found), 'spec')}; next: specgen init NAME --from {found[0].name}", err=True)
    else:
        click.echo("no spec that comes along has all of that", err=True)


@cli.command()
@click.argument("name")
@click.option("--from", "source", default="assistant", show_default=True, metavar="SPEC", help="A spec that comes along: specgen list.")
@click.option("--output", type=click.Path(path_type=Path), metavar="FILE", help="Where to; default specs/NAME.yaml.")
def init(name: str, source: str, output: Path | None) -> None:
    """Begin a spec of one's own from one that comes along."""
    from specgen.commands.library import init as begin

    written = begin(name, source, output)
    click.echo(f"wrote {' and '.join(map(str, written))}; next: specgen validate {written[0]}")


@cli.command()
@click.argument("specs", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--check", is_flag=True, help="Write nothing; exit 1 where a spec is not in order.")
def fmt(specs: tuple[Path, ...], check: bool) -> None:
    """Put the keys of specs in the order of the schema; comments go with their key."""
    from specgen.commands.fmt import fmt as format_specs

    changed, faults = format_specs(specs, check=check)
    for spec in changed:
        click.echo(f"{spec} {'is not in order; run: specgen fmt ' + str(spec) if check else 'formatted'}")
    if faults:
        raise SpecError(*faults)
    if check and changed:
        raise SystemExit(FAILED)


@cli.command()
@click.argument("specs", type=click.Path(path_type=Path), nargs=-1)
@click.option("--git", "revisions", metavar="REV..REV", help="Compare two revisions of git, or one with the working tree.")
@profile_option
@set_option
@click.option("--format", "form", type=click.Choice(["text", "markdown", "json"]), default="text", help="How the change is printed.")
@click.option("--exit-code", is_flag=True, help="Exit 1 where something differs.")
def diff(
    specs: tuple[Path, ...], revisions: str | None, profile: str | None, settings: tuple[str, ...], form: str, exit_code: bool
) -> None:
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
        raise SystemExit(WRONG)
    if exit_code and any(entry.changed for entry in entries):
        raise SystemExit(FAILED)


@cli.command()
@spec_argument
@profile_option
@set_option
@click.option("--measure", is_flag=True, help="Count the memory on a real training step, with tensors without values.")
@click.option("--format", "form", type=click.Choice(["markdown", "json"]), default="markdown", help="How the plan is printed.")
def plan(spec: Path, profile: str | None, settings: tuple[str, ...], measure: bool, form: str) -> None:
    """Say what a run will be: rows, tokens, steps, memory. Tokenizes the data; trains nothing."""
    from specgen.commands.plan import as_data, planned

    found = planned(spec, profile, settings, measure=measure)
    _print_diagnostics([diagnostic for diagnostic in found.diagnostics if diagnostic.severity != "note"])
    if form == "json":
        click.echo(json.dumps(as_data(found), ensure_ascii=False, indent=2))
    else:
        click.echo(found.text, nl=False)


@cli.command()
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
) -> None:
    """Write down beside the spec what exactly it is made from: commits, hashes, rows, versions."""
    from specgen.commands import lock as locking

    if check and (parts or figures):
        raise click.UsageError("--check changes nothing: it goes neither with --update nor with --figures")
    with _faults_as(form):
        if check:
            _say_held(*locking.check(spec, profile, settings), form)
        elif parts:
            path, left = locking.update(spec, profile, settings, parts)
            if figures:
                locking.measure(spec, profile, settings)
            click.echo(f"wrote {path}" + (f"; still not as locked: {', '.join(left)}" if left else ""))
        else:
            path = locking.lock(spec, profile, settings)
            if figures:
                locking.measure(spec, profile, settings)
            click.echo(f"wrote {path}; next: commit it beside the spec")


def _say_held(path: Path, found: list[Diagnostic], form: Format) -> None:
    """What differs from a lock, and exit code 1 where anything does."""
    if form != "text":
        _print_as(found, form)
    elif found:
        _print_diagnostics(found)
    if found:
        raise SystemExit(FAILED)
    click.echo(f"{path} holds", err=form != "text")


@cli.command()
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
    help="Run only this stage: data, train, convert, merge, smoke, eval, export, report; may be repeated.",
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
    talk = f"specgen chat {spec}" + (f" --profile {profile}" if profile else "")
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
    _print_checked(spec, (*compiled.diagnostics, *found), notes=False)
    click.echo(f"{target}  compiled · {len(files)} files · {_steps(compiled.plan.train.total_steps)}")
    return target


@cli.command()
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
) -> None:
    """Run the trials of a spec that has a sweep, one after another, and compare them; an interrupted sweep goes on."""
    from specgen.commands import sweep as verb

    sweeping = verb.ready(spec, profile, settings, most)
    _print_checked(spec, sweeping.warnings, notes=False)
    if only_plan:
        from specgen.sweep.planning import plan as planned

        click.echo(planned(sweeping.swept, sweeping.trials, sweeping.number))
        return
    if compile_only and sweeping.trials is None:
        raise click.UsageError("--compile-only: Optuna chooses each trial by how the ones before came out")
    builder = verb.compile_trials(sweeping, output or Path("build", sweeping.swept.name + "-sweep"))
    _print_diagnostics(builder.unlocked)
    if compile_only:
        click.echo(f"wrote {builder.target} ({sweeping.number} trials); next: specgen sweep {spec}")
    elif code := verb.run(sweeping, builder, runs_dir, retry=retry, say=click.echo):
        raise SystemExit(code)


@cli.command()
@click.argument("target", type=click.Path(path_type=Path), metavar="SPEC | MODEL_DIR")
@profile_option
@set_option
@runs_option
@chat_options(LOADING, ANSWERS, TERMINAL, WEB)
def chat(target: Path, profile: str | None, settings: tuple[str, ...], runs_dir: Path, web: bool, **flags: Any) -> None:
    """Talk to the model that a spec made, or to any model in Hugging Face's form, in the terminal or in the browser."""
    from specgen.commands.chat import require_fit, words
    from specgen.commands.web import program

    require_fit(target, profile, settings, flags)
    module = program(web=web, flags=flags)
    raise SystemExit(_start_with_model(module, target, profile, settings, ["--runs-dir", str(runs_dir), *words(flags)]))


def _start_with_model(module: str, target: Path, profile: str | None, settings: tuple[str, ...], words: list[str]) -> int:
    """Runs `python -m MODULE` with a model's folder, or with a spec as _start_with_build; returns its exit code."""
    from specgen.commands.chat import is_model
    from specgen.launch import start

    if is_model(target):
        return start(module, [str(target), *words])
    return _start_with_build(module, target, profile, settings, [*words, "--spec", str(target)])


@cli.command()
@click.argument("what", type=click.Path(path_type=Path), metavar="SPEC | MODEL_DIR")
@profile_option
@set_option
@runs_option
@click.option("--adapter", type=click.Path(path_type=Path), metavar="DIR", help="Serve the base model with this adapter.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on; others than the loopback need a key.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="The port; 0 takes any that is free.")
@click.option(
    "--engine", type=click.Choice(["auto", "transformers", "vllm"]), default="auto", show_default=True, help="auto: vLLM if it is there."
)
def serve(
    what: Path, profile: str | None, settings: tuple[str, ...], runs_dir: Path, adapter: Path | None, host: str, port: int, engine: str
) -> None:
    """Serve a model to OpenAI clients: that of a spec, or of a folder."""
    from specgen.commands import serve as verb

    if what.is_dir() and (profile or settings):
        raise click.UsageError("--profile and --set belong to a spec")
    words = ["--runs-dir", str(runs_dir), "--host", host, "--port", str(port), "--engine", engine]
    raise SystemExit(verb.serve(what, profile, settings, words + (["--adapter", str(adapter)] if adapter else [])))


def _start_with_build(module: str, spec: Path, profile: str | None, settings: tuple[str, ...], words: list[str]) -> int:
    """Runs `python -m MODULE BUILD WORDS` with a compiled folder, or with a spec compiled aside; returns its exit code."""
    from specgen import folder
    from specgen.compiler import compile_spec
    from specgen.launch import start

    with tempfile.TemporaryDirectory() as scratch:
        build = spec
        if not folder.is_compiled(spec):
            build = Path(scratch, "build")
            folder.write(compile_spec(spec, profile, settings).files, build)
        return start(module, [str(build), *words])


def _size(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    """As the schema has sizes of weight files."""
    if re.fullmatch(r"[1-9][0-9]*(KB|MB|GB)", value) is None:
        raise click.BadParameter(f"{value} is no size: write a whole number and KB, MB or GB, such as 2GB")
    return value


def _positive(_context: click.Context, _parameter: click.Parameter, value: float | None) -> float | None:
    if value is not None and not 0 < value < math.inf:
        raise click.BadParameter(f"{value:g} is no number above 0")
    return value


shard_option = click.option(
    "--max-shard-size", default="2GB", show_default=True, metavar="SIZE", callback=_size, help="No weight file is larger."
)
weights_option = click.option(
    "--format", "form", type=click.Choice(["safetensors", "bin"]), default="safetensors", show_default=True, help="Of the weights."
)


@cli.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--fp32", is_flag=True, help="Write float32; else float16.")
@shard_option
@weights_option
@click.option("--lora-alpha", type=float, callback=_positive, metavar="ALPHA", help="Of an XTuner adapter whose file does not say it.")
@click.option("--base", metavar="DIR", help="The base model's folder: for XTuner's whole models, and its adapters of InternLM2.")
def convert(checkpoint: Path, out: Path, fp32: bool, **options: str | float | None) -> None:
    """Make a Hugging Face adapter or model of a checkpoint: checkpoint-N of a run, or XTuner's iter_N.pth."""
    from specgen.launch import start

    raise SystemExit(start("runtime.converting", [str(checkpoint), str(out), *_words(options), *(["--fp32"] if fp32 else [])]))


def _words(options: Mapping[str, str | float | None]) -> list[str]:
    """Options as the runtime has them, those that were given."""
    given = {name.replace("form", "format").replace("_", "-"): value for name, value in options.items() if value is not None}
    return [f"--{name}={value}" for name, value in given.items()]


@cli.command()
@click.argument("base")
@click.argument("adapters", nargs=-1, required=True, metavar="ADAPTER[=WEIGHT]...")
@click.argument("out", type=click.Path(path_type=Path))
@shard_option
@weights_option
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True, help="Where it is computed.")
@click.option("--dtype", type=click.Choice(["auto", "float32", "float16", "bfloat16"]), default="auto", help="auto: as the base has it.")
@click.option("--into", type=click.Choice(["dequantized", "full"]), default="dequantized", help="What a QLoRA adapter is added to.")
@click.option("--layout", type=click.Choice(["llama", "original"]), default="llama", help="original: an InternLM2 as InternLM2 again.")
@click.option("--is-clip", is_flag=True, help="BASE is a CLIP model, and the adapter is for its vision tower.")
def merge(base: str, adapters: tuple[str, ...], out: Path, is_clip: bool, **options: str) -> None:
    """Merge adapters into a base model, tensor by tensor: in memory for the largest tensor, not for the model."""
    from specgen.launch import start

    raise SystemExit(start("runtime.merging", [base, *adapters, str(out), *_words(options), *(["--is-clip"] if is_clip else [])]))


@cli.command()
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


@cli.command()
@runs_option
@click.option("--sort", type=click.Choice(SORTS), default="when", show_default=True, help="By this column; when: the newest first.")
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


@cli.group()
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
) -> None:
    """Show rows as the model sees them, and which tokens are trained. Takes a compiled folder, too."""
    if lengths and (ids or row or html):
        raise click.UsageError("--lengths is about all rows: it goes neither with --row nor with --ids nor with --html, which has lengths")
    if html and (ids or form == "json"):
        raise click.UsageError("--html shows the ids by itself: it goes neither with --ids nor with --format json")
    if pack and (source or row or rows or ids or lengths or html or form == "json"):
        raise click.UsageError("--pack shows the rows of a pack as text: it goes with no other option but --runs-dir")
    chosen = {"--pack": pack, "--runs-dir": runs_dir, "--source": source, "--row": row, "--rows": rows, "--html": html, "--format": form}
    words = [word for option, value in chosen.items() if value is not None for word in (option, str(value))]
    words += [option for option, given in (("--ids", ids), ("--lengths", lengths)) if given]
    raise SystemExit(_start_with_build("runtime.preview", spec, profile, settings, words))


@cli.command()
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
    with _faults_as(form):
        if every:
            told = verb.all_codes(form)
        elif of_spec:
            told = verb.values(Path(what[0]), what[1] if len(what) == 2 else None, profile, settings, form)
        else:
            told = verb.subject(what[0], form)
    click.echo(told)


@cli.command()
@click.option("--plan", is_flag=True, help="The schema of a compiled config.yaml instead.")
def schema(plan: bool) -> None:
    """Print the JSON Schema of a spec, for editors."""
    from specgen.places import data_folder

    name = "plan.schema.json" if plan else "spec.schema.json"
    click.echo((data_folder("schemas") / name).read_text(encoding="utf-8"), nl=False)


@contextmanager
def _faults_as(form: Format) -> Iterator[None]:
    """Prints faults that end a command in another form than text, which main() does."""
    try:
        yield
    except SpecError as error:
        if form == "text":
            raise
        _print_as(error.diagnostics, form)
        raise SystemExit(WRONG) from None


def _print_as(diagnostics: Sequence[Diagnostic], form: Format) -> None:
    root = Path(os.environ.get("GITHUB_WORKSPACE") or Path.cwd())
    if text := printed(diagnostics, form, root=root):
        click.echo(text)


def _print_checked(spec: Path, diagnostics: Sequence[Diagnostic], *, notes: bool = True) -> None:
    """The faults of a spec, then a line that counts them. Without `notes` these are only counted."""
    _print_diagnostics([diagnostic for diagnostic in diagnostics if notes or diagnostic.severity != "note"])
    if any(diagnostic.severity == "error" for diagnostic in diagnostics):
        click.echo(summary(diagnostics), err=True)
        return
    counts = [(sum(diagnostic.severity == severity for diagnostic in diagnostics), severity) for severity in ("warning", "note")]
    found = "".join(f", {_count(number, severity)}" for number, severity in counts if number)
    click.echo(f"{spec}  valid · 0 errors{found}" + (f" (specgen explain {diagnostics[0].code})" if diagnostics else ""))


def _steps(number: int | None) -> str:
    return "steps known once the rows are tokenized" if number is None else f"{number} steps"


def _print_diagnostics(diagnostics: Sequence[Diagnostic]) -> None:
    if diagnostics:
        colour = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
        click.echo(as_text(diagnostics, colour=colour), err=True)


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def main() -> None:
    """The entry point: users' mistakes end as diagnostics and exit code 2, ours with a traceback and 3."""
    _in_utf8()
    try:
        code = cli.main(standalone_mode=False)
    except SpecError as error:
        _print_diagnostics(error.diagnostics)
        click.echo(summary(error.diagnostics), err=True)
        code = WRONG
    except click.ClickException as error:
        error.show()
        code = WRONG
    except (click.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = FAILED
    except SystemExit as exit_:
        raise exit_
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

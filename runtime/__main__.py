"""python -m runtime BUILD [--stage STAGE …] [--runs-dir DIR]: carries out a compiled folder."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from runtime.faults import FAILED, INTERRUPTED, PREEMPTED, Interrupted, Preempted, RunFault
from runtime.processes.rank import end_with_launcher, is_supervised, leave_word, lost_others
from runtime.processes.stopping import listen
from runtime.stage_names import STAGES
from runtime.starting import in_utf8, leave, quiet

if TYPE_CHECKING:
    from runtime.training.resume import Change


def main() -> int:
    """Carries out what the command line asks for; faults become a line and an exit code."""
    speaks = os.environ.get("RANK") in (None, "0")
    try:
        listen()
        end_with_launcher()
        arguments = _arguments()
        quiet()
        return carry_out(arguments)
    except RunFault as fault:
        if not leave_word(fault):
            print(fault, file=sys.stderr, flush=True)
        return fault.exit_code
    except Preempted as preempted:
        if speaks and not is_supervised():
            print(f"\npreempted; {preempted}the same command goes on", file=sys.stderr, flush=True)
        return PREEMPTED
    except (Interrupted, KeyboardInterrupt):
        if speaks and not is_supervised():
            print("\ninterrupted; the same command goes on from here", file=sys.stderr, flush=True)
        return INTERRUPTED
    except Exception as error:
        if not (leave_word(error) and lost_others(error)):
            raise
        return FAILED


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m runtime", description="Carries out a compiled folder.")
    parser.add_argument("build", type=Path, metavar="BUILD", help="a folder that specgen compile wrote")
    parser.add_argument("--stage", action="append", choices=STAGES, default=[], help="run only this stage; may be repeated")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"), help="where run folders are; default: runs")
    parser.add_argument(
        "--reuse", action="store_true", help="take stages that another run in the same folder has done, where they are the same"
    )
    changed = parser.add_mutually_exclusive_group()
    changed.add_argument("--accept-change", action="store_true", help="an unfinished run goes on with what has changed, where that is safe")
    changed.add_argument("--begin-anew", action="store_true", help="set an unfinished run aside and train from the start")
    parser.add_argument("--push", action="store_true", help="upload what was exported to the hub, once all is good")
    parser.add_argument("--talk", default=None, help=argparse.SUPPRESS)
    return parser.parse_args()


def carry_out(arguments: argparse.Namespace) -> int:
    """The stages that are asked for, or one training process's part of them; the exit code."""
    from runtime import config as configs
    from runtime.run import pipeline
    from runtime.unused import without_torch, without_unused

    rank = os.environ.get("RANK")
    change: Change = "accept" if arguments.accept_change else "anew" if arguments.begin_anew else "refuse"
    config = configs.load(arguments.build)
    without_unused(config)
    if arguments.stage == ["data"]:
        without_torch(config)
    if rank is None:
        talk = arguments.talk or f"specgen chat {arguments.build}"
        stages = tuple(arguments.stage)
        places = {"build": arguments.build, "runs_dir": arguments.runs_dir}
        return pipeline.run(config, **places, only=stages, talk=talk, reuse=arguments.reuse, change=change, push=arguments.push)
    if rank == "0":
        pipeline.train_first_rank(config, build=arguments.build, runs_dir=arguments.runs_dir, change=change)
    else:
        pipeline.train_rank(config, build=arguments.build, runs_dir=arguments.runs_dir)
    return 0


def end(code: int) -> NoReturn:
    """Ends this process. A training process that fails does so at once: libraries would wait for those that are gone."""
    if "RANK" in os.environ:
        leave(code, orderly=code == 0)
    sys.exit(code)


if __name__ == "__main__":
    in_utf8("runtime")
    end(main())

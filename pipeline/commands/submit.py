"""`headlight submit`: a run sent to a Ray cluster as a job."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.commands.run import OVERRIDES

if TYPE_CHECKING:
    from pipeline.jobs import Jobs

STOPPED = 5

EXAMPLES = """The configuration is checked here first. --config-dir and small files (dataset.path, heads.select,
heads.report, heads.run; 50 MiB together) are sent along; models are not. HEADLIGHT_DATA, HEADLIGHT_MODELS and
MLFLOW_TRACKING_URI mean there what they mean here. A token goes by RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH.

examples:
  headlight submit --address http://head:8265 experiment=sst2 paths.root=/shared/headlight
  headlight submit --no-wait experiment=sst2 paths.root=/shared/headlight       (prints the id of the job)
  headlight submit --follow ID       headlight submit --stop ID

exit codes: those of the run; 1 also if the job is killed, 5 also if it is stopped or no longer followed
"""


def add(commands: Any) -> None:
    """Add the command to the parser."""
    summary = "send a run to a Ray cluster as a job, and follow it"
    parser = commands.add_parser(
        "submit",
        help=summary,
        description=summary.capitalize() + ".",
        epilog=OVERRIDES + "\n" + EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="changes to the configuration, see below")
    parser.add_argument("--config-dir", metavar="FOLDER", help="options of yours, such as FOLDER/experiment/mine.yaml")
    parser.add_argument("-m", "--multirun", action="store_true", help="a sweep, as with `headlight run -m`")
    parser.add_argument("--address", metavar="URL", help="default: RAY_API_SERVER_ADDRESS, else http://127.0.0.1:8265")
    parser.add_argument("--python", default="python", metavar="PATH", help="interpreter there; default: python")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--no-wait", "--detach", action="store_true", help="print the id of the job and do not follow it")
    what.add_argument("--follow", metavar="ID", help="follow a job that was sent before")
    what.add_argument("--stop", metavar="ID", help="have a job save what it has and end")
    parser.set_defaults(command=submit)


def submit(arguments: argparse.Namespace) -> int:
    """Send, follow or stop a job; returns the exit code of the run."""
    from attribution.errors import InputError

    job = arguments.follow or arguments.stop
    if job and (arguments.overrides or arguments.config_dir or arguments.multirun):
        raise InputError(f"conf error: job {job} has its configuration; --follow and --stop take no overrides.")
    return _existing(arguments, job) if job else _new(arguments)


def _new(arguments: argparse.Namespace) -> int:
    from pipeline.bundle import pack

    with tempfile.TemporaryDirectory(prefix="headlight-") as folder:
        bundle = pack(Path(folder), arguments.overrides, arguments.config_dir, arguments.multirun)
        jobs = _jobs(arguments)
        for note in bundle.notes:
            _say(f"note: {note}")
        command = [arguments.python, "-m", "pipeline.cli", *bundle.arguments]
        job = jobs.send(command, bundle.name, None if bundle.is_empty() else bundle.folder, bundle.environment)
    _say(f"sent to {jobs.address} as {job}")
    if arguments.no_wait:
        _say(jobs.advice(job))
        print(job)
        return 0
    return _follow(jobs, job)


def _existing(arguments: argparse.Namespace, job: str) -> int:
    jobs = _jobs(arguments)
    if arguments.follow:
        return _follow(jobs, job)
    print(f"{job}: {jobs.stop(job).lower()}")
    return 0


def _follow(jobs: Jobs, job: str) -> int:
    try:
        return jobs.follow(job, _write)
    except KeyboardInterrupt:
        _say(f"no longer following {job}; {jobs.advice(job)}")
        return STOPPED


def _jobs(arguments: argparse.Namespace) -> Jobs:
    from pipeline.jobs import Jobs, jobs_address

    return Jobs(jobs_address(arguments.address))


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)

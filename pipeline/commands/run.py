"""`headlight run` and `headlight plan`: overrides in, a run folder or a plan out."""

from __future__ import annotations

import argparse
from typing import Any

OVERRIDES = """overrides:
  GROUP=OPTION      an option of a group: model, dataset, heads, attribution, evaluation, cluster, tracking, experiment
  KEY=VALUE         a value: dataset.limit=96, evaluation.metrics=[aopc,log_odds], attribution.random.seed=1
  attribution.LABEL.method=ID    one more method, under a name of yours;  ~attribution.LABEL  takes one away
"""

RUN_EXAMPLES = """examples:
  headlight run experiment=demo
  headlight run model=local model.path=my-model dataset=local dataset.path=reviews.tsv dataset.limit=200
  headlight run model=hub model.id=OWNER/NAME dataset=hub dataset.id=OWNER/DATA dataset.split=test
  headlight run experiment=sst2 attribution=mask_lrp cluster=ray cluster.workers=2
  headlight run --config-dir my_conf experiment=mine

sweeps: -m runs every combination on one driver; what they share is computed once, and a failed one stops no other
  headlight run -m experiment=demo seed=1,2,3 heads=grammar,all
  headlight run -m experiment=demo 'evaluation.operator=mask,delete' 'sweep.exclude=[{evaluation.operator:delete}]'
"""

PLAN_EXAMPLES = """A few microbatches are computed and thrown away to estimate the time; a run says how right that was.

examples:
  headlight plan experiment=sst2
  headlight plan experiment=demo attribution.mine.method=gradcam      (what adding a method costs)
"""


def add(commands: Any) -> None:
    """Add both commands to the parser."""
    parser = _add(commands, "run", "run an experiment and write its report", RUN_EXAMPLES, run)
    parser.add_argument("-m", "--multirun", action="store_true", help="a sweep: every combination of KEY=A,B,C")
    parser.add_argument("--max-parallel", type=int, metavar="N", help="at most so many runs of a sweep at once")
    parser = _add(
        commands, "plan", "count examples, passes and results at hand, and estimate the time", PLAN_EXAMPLES, plan
    )
    parser.add_argument("--no-probe", action="store_true", help="compute nothing: no estimate of time and memory")


def _add(commands: Any, name: str, summary: str, examples: str, command: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=summary.capitalize() + ".",
        epilog=OVERRIDES + "\n" + examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="changes to the configuration, see below")
    parser.add_argument("--config-dir", metavar="FOLDER", help="options of yours, such as FOLDER/experiment/mine.yaml")
    parser.set_defaults(command=command)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Compose, validate, run; several of them with -m."""
    parallel = _parallel(arguments)
    if arguments.multirun:
        from pipeline.sweep.run import run_sweep

        return int(run_sweep(arguments.overrides, arguments.config_dir, parallel).exit_code)
    config = _config(arguments)
    from pipeline.run import run as run_experiment

    return int(run_experiment(config, arguments.overrides).exit_code)


def plan(arguments: argparse.Namespace) -> int:
    """Compose, validate, and say what a run would do."""
    config = _config(arguments)
    from pipeline.plan import describe_plan

    print(describe_plan(config, probe=not arguments.no_probe))
    return 0


def _config(arguments: argparse.Namespace) -> Any:
    from pipeline.validate import load_config

    return load_config(arguments.overrides, arguments.config_dir)


def _parallel(arguments: argparse.Namespace) -> int | None:
    from attribution.errors import InputError

    wanted: int | None = arguments.max_parallel
    if wanted is not None and not arguments.multirun:
        raise InputError(f"error: --max-parallel {wanted} is for the runs of a sweep; add -m.")
    if wanted is not None and wanted < 1:
        raise InputError(f"error: --max-parallel {wanted} must be at least 1.")
    return wanted

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
"""

PLAN_EXAMPLES = """examples:
  headlight plan experiment=sst2
  headlight plan experiment=demo attribution.mine.method=gradcam      (what adding a method costs)
"""


def add(commands: Any) -> None:
    """Add both commands to the parser."""
    _add(commands, "run", "run an experiment and write its report", RUN_EXAMPLES, run)
    _add(commands, "plan", "count examples, passes and results at hand; nothing is run", PLAN_EXAMPLES, plan)


def _add(commands: Any, name: str, summary: str, examples: str, command: Any) -> None:
    parser = commands.add_parser(
        name,
        help=summary,
        description=summary.capitalize() + ".",
        epilog=OVERRIDES + "\n" + examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="changes to the configuration, see below")
    parser.add_argument("--config-dir", metavar="FOLDER", help="options of yours, such as FOLDER/experiment/mine.yaml")
    parser.add_argument("-m", "--multirun", action="store_true", help=argparse.SUPPRESS)
    parser.set_defaults(command=command)


def run(arguments: argparse.Namespace) -> int:
    """Compose, validate, run."""
    config = _config(arguments)
    from pipeline.run import run as run_experiment

    return int(run_experiment(config, arguments.overrides).exit_code)


def plan(arguments: argparse.Namespace) -> int:
    """Compose, validate, and say what a run would do."""
    config = _config(arguments)
    from pipeline.plan import describe_plan

    print(describe_plan(config))
    return 0


def _config(arguments: argparse.Namespace) -> Any:
    from attribution.errors import InputError
    from pipeline.validate import load_config

    if arguments.multirun:
        raise InputError("conf error: -m: sweeps are not supported; call `headlight run` once for each configuration.")
    return load_config(arguments.overrides, arguments.config_dir)

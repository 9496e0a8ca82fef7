"""`headlight compare`: which explanation method to use for a model and its data, or that the data cannot decide."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.recommendation import Recommendation
    from pipeline.runs import Run

EXAMPLES = """examples:
  headlight compare last
  headlight compare outputs/runs/sst2 --metric comprehensiveness
  headlight compare sst2 imdb yelp        each by itself, and mean ranks over all of them
"""


def add(commands: Any) -> None:
    """Add the command to the parser."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "compare",
        help="which method to use for this model and data",
        description="Recommend one method for the model and data of each run, with reasons and doubts.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="path, name or id of a run, or last")
    parser.add_argument("--metric", metavar="ID", help="what decides; default: the leading metric")
    parser.add_argument("--root", type=Path, default="outputs", metavar="FOLDER", help="paths.root; default: outputs")
    parser.set_defaults(command=compare)


def compare(arguments: argparse.Namespace) -> int:
    """Print the verdicts."""
    from pipeline.recommendation import recommendation
    from pipeline.runs import Run, resolve_run

    runs = [Run(resolve_run(ref, arguments.root / "runs")) for ref in arguments.runs]
    found = [recommendation(run, arguments.metric) for run in runs]
    for run, each in zip(runs, found, strict=True):
        print("\n".join(_lines(run, each)), end="\n\n")
    known = [each for each in found if each is not None]
    if len(known) > 1:
        print("\n".join(_across(known)))
    return 0


def _lines(run: Run, found: Recommendation | None) -> Iterator[str]:
    about, data = run.manifest["model"]["name"], run.manifest["dataset"]
    yield f"{run.manifest['name']}: model {about}, data {data['name']}, {data['n']} examples"
    if found is None:
        yield "Nothing to compare: a verdict needs two methods that are no controls, and two examples."
        return
    yield found.sentence
    yield from (f"  because {reason.text}" for reason in found.verdict.reasons)
    yield from (f"  but {doubt.text}" for doubt in found.verdict.doubts)
    width = max(map(len, found.table.methods))
    yield f"  {'method':{width}}  places  forwards"
    for rank in found.places:
        place = str(rank.best) if rank.best == rank.worst else f"{rank.best}-{rank.worst}"
        cost = found.rule.costs.get(rank.method)
        yield f"  {rank.method:{width}}  {place:6}  {'?' if cost is None else f'{cost:.3g}'}"


def _across(found: list[Recommendation]) -> Iterator[str]:
    from evaluation.statistics import critical_difference_across

    metrics = {each.rule.metric for each in found}
    if len(metrics) > 1:
        yield f"no mean ranks: the runs are led by {', '.join(sorted(metrics))}; --metric names one"
        return
    (metric,) = metrics
    ranks = critical_difference_across([each.table for each in found], metric)
    yield f"mean ranks over {ranks.n} runs on {metric} (closer than {ranks.difference:.2f} is not told apart):"
    yield from (f"  {place:5.2f}  {name}" for name, place in zip(ranks.methods, ranks.mean_ranks, strict=True))

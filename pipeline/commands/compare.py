"""`headlight compare`: which explanation method to use for a model and its data, or that the data cannot decide."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evaluation.statistics import CriticalDifference
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
    parser.add_argument("--page", type=Path, metavar="FILE", help="write the verdicts as a page, too")
    parser.add_argument("--root", type=Path, default="outputs", metavar="FOLDER", help="paths.root; default: outputs")
    parser.set_defaults(command=compare)


def compare(arguments: argparse.Namespace) -> int:
    """Print the verdicts, and write their page where one is asked for."""
    from pipeline.recommendation import recommendation
    from pipeline.runs import Run, resolve_run

    runs = [Run(resolve_run(ref, arguments.root / "runs")) for ref in arguments.runs]
    found = [(run, recommendation(run, arguments.metric)) for run in runs]
    for run, each in found:
        print("\n".join(_lines(run, each)), end="\n\n")
    known = [each for _, each in found if each is not None]
    ranks = _across(known)
    if len(known) > 1:
        print("\n".join(_ranks(known, ranks)))
    if arguments.page is not None:
        print(f"page: {_write(arguments.page, found, ranks)}")
    return 0


def _write(path: Path, found: list[tuple[Run, Recommendation | None]], ranks: CriticalDifference | None) -> Path:
    from attribution.errors import InputError
    from pipeline.report.comparison import comparison_page

    page = comparison_page(found, ranks)
    try:
        path.write_text(page, "utf-8")
    except OSError as error:
        raise InputError(f"error: --page {path} cannot be written: {error.strerror}") from None
    return path


def _lines(run: Run, found: Recommendation | None) -> Iterator[str]:
    from pipeline.report.comparison import NOTHING

    about, data = run.manifest["model"]["name"], run.manifest["dataset"]
    yield f"{run.manifest['name']}: model {about}, data {data['name']}, {data['n']} examples"
    if found is None:
        yield NOTHING
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


def _ranks(found: list[Recommendation], ranks: CriticalDifference | None) -> Iterator[str]:
    if ranks is None:
        led = ", ".join(sorted({each.rule.metric for each in found}))
        why = f"are led by {led}; --metric names one" if "," in led else "have fewer than two methods in common"
        yield f"no mean ranks: the runs {why}"
        return
    metric = found[0].rule.metric
    yield f"mean ranks over {ranks.n} runs on {metric} (closer than {ranks.difference:.2f} is not told apart):"
    yield from (f"  {place:5.2f}  {name}" for name, place in zip(ranks.methods, ranks.mean_ranks, strict=True))


def _across(found: list[Recommendation]) -> CriticalDifference | None:
    """Mean ranks over runs of the candidates that all have; None of one run, or where nothing can be ranked."""
    from evaluation.statistics import critical_difference_across

    shared = set.intersection(*(set(each.candidates) for each in found)) if found else set()
    if len(found) < 2 or len(shared) < 2 or len({each.rule.metric for each in found}) > 1:
        return None
    tables = [each.table.only(methods=sorted(shared)) for each in found]
    return critical_difference_across(tables, found[0].rule.metric)

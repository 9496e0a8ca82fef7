"""`headlight compare`: which explanation method to use for a model and its data, or that the data cannot decide."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.across import Across
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
    from pipeline.across import across
    from pipeline.recommendation import recommendation
    from pipeline.runs import Run, resolve_run

    runs = [Run(resolve_run(ref, arguments.root / "runs")) for ref in arguments.runs]
    found = [(run, recommendation(run, arguments.metric)) for run in runs]
    for run, each in found:
        print("\n".join(_lines(run, each)), end="\n\n")
    known = [each for _, each in found if each is not None]
    if (together := across(known)) is not None:
        print("\n".join(_together(together)))
    if arguments.page is not None:
        print(f"page: {_write(arguments.page, found, together)}")
    return 0


def _write(path: Path, found: list[tuple[Run, Recommendation | None]], together: Across | str | None) -> Path:
    from attribution.errors import InputError
    from pipeline.report.comparison import comparison_page

    page = comparison_page(found, together)
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


def _together(found: Across | str) -> Iterator[str]:
    from pipeline.across import left_out

    if isinstance(found, str):
        yield f"no mean ranks: {found}"
        return
    width = max(map(len, found.methods))
    if found.ranks is None:
        yield f"no mean ranks: {found.problem}"
    else:
        ranks, near = found.ranks, f"closer than {found.ranks.difference:.2f} is not told apart"
        yield f"mean ranks over {ranks.n} runs on {found.metric} ({near}):{left_out(ranks, 'runs')}"
        yield from (f"  {place:5.2f}  {name}" for name, place in zip(ranks.methods, ranks.mean_ranks, strict=True))
    yield f"of {found.n} runs, those on which the row is better than the column after Holm:"
    yield f"  {'':{width}}  " + "  ".join(found.methods)
    for name, row in zip(found.methods, found.wins.tolist(), strict=True):
        cells = (
            f"{'' if name == other else wins:>{len(other)}}" for other, wins in zip(found.methods, row, strict=True)
        )
        yield f"  {name:{width}}  {'  '.join(cells)}".rstrip()

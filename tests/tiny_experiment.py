"""A small experiment for tests of whole runs."""

from __future__ import annotations

from pathlib import Path

TEXTS = [
    ("the film was good .", "positive"),
    ("the meal was awful and the hotel was not good .", "negative"),
    ("a very bright book , never dull .", "positive"),
    ("slow , dull and bad .", "negative"),
    ("the phone is great !", "positive"),
    ("never was a film so bad as this one , and never was a meal so slow .", "negative"),
    ("fine .", "positive"),
]


def tiny_overrides(model: Path, folder: Path) -> list[str]:
    """Overrides of an experiment on `model` whose data goes into `folder`."""
    data = folder / "reviews.tsv"
    data.write_text("sentence\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in TEXTS))
    return [
        "model=local", f"model.path={model}", "dataset=local", f"dataset.path={data}", "heads.sentences=150",
        "attribution=none", "evaluation=paper", "errors.method=null", "tracking=none", "cluster.max_batch=2",
        "++model.label_map.positive=1", "++model.label_map.negative=0",
    ]  # fmt: skip

"""What things are called where nobody gave them a name."""

from __future__ import annotations

from pathlib import Path

from pipeline.config import DatasetConfig

SPLITS = ("train", "dev", "val", "valid", "validation", "test")  # file names that do not tell which data set it is


def dataset_name(config: DatasetConfig) -> str:
    """The name of a data set in reports: `dataset.name`, or one made of where the data comes from."""
    if config.name:
        return config.name
    if config.path:
        path = Path(config.path)
        return f"{path.parent.name}-{path.stem}" if path.stem in SPLITS and path.parent.name else path.stem
    return config.subset or (config.id or config.source).rsplit("/", 1)[-1]

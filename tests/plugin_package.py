"""An installed package with one entry point, as pip leaves it."""

from __future__ import annotations

from pathlib import Path


def write_package(folder: Path, name: str, source: str, group: str, entry: str) -> None:
    """The module `name`, version 1.2, whose entry point `entry` of `group` is the module itself."""
    (folder / f"{name}.py").write_text(source)
    about = folder / f"{name}-1.2.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (about / "entry_points.txt").write_text(f"[{group}]\n{entry} = {name}\n")

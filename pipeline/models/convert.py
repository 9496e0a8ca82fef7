"""Weights in pickle form as safetensors, read by a process that can do little else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from attribution.errors import InputError
from pipeline.models.folder import INDEX, TOKENIZER_FILES, Location, ResolvedModel, describe, sha256
from pipeline.models.resolve import download

SINGLE, PICKLE_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
RECORD = "conversion.json"
COPIED = ("config.json", *TOKENIZER_FILES)
ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "LANG")  # all that the reading process gets: no tokens, no credentials
TIMEOUT_S = 2 * 3600


@dataclass(frozen=True)
class Converted:
    """One file of weights before and after."""

    source: str
    source_sha256: str
    target: str
    target_sha256: str
    shared: list[list[str]]  # names that lay in the same memory, and are written out each
    network: str | None  # why the process that read it could reach the network; None: it could not


def convert(model: str, out: Path, revision: str | None = None) -> tuple[ResolvedModel, list[Converted]]:
    """Write a model folder `out` from a folder or Hub id with pytorch_model.bin. It appears whole or not at all."""
    source = _source(model, revision)
    if out.exists():
        raise InputError(f"error: --out {out} exists already; name a folder that does not.")
    files = _pickles(source)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as unfinished:
        made = Path(unfinished) / out.name
        made.mkdir()
        converted = [_convert(source, name, made) for name in files]
        _copy(source, files, made)
        _write_json(made / RECORD, _record(source, converted))
        found = describe(Location(made, source.where, source.name))
        made.rename(out)
    return found, converted


def _source(model: str, revision: str | None) -> Location:
    if Path(model).is_dir():
        return Location(Path(model), model, Path(model).resolve().name)
    folder = download(model, revision, model, (SINGLE, PICKLE_INDEX, "pytorch_model-*.bin", *COPIED, "*.safetensors"))
    return Location(folder, model, model.rsplit("/", 1)[-1], model, folder.name)


def _pickles(source: Location) -> list[str]:
    """Names of the files to convert."""
    if any(source.folder.glob("*.safetensors")):
        raise InputError(f"error: {source.where} has safetensors already; there is nothing to convert.")
    if (source.folder / SINGLE).is_file():
        return [SINGLE]
    if not (source.folder / PICKLE_INDEX).is_file():
        raise InputError(f"error: {source.where} has no {SINGLE} and no {PICKLE_INDEX}; only these are converted.")
    names = sorted(set(_weight_map(source).values()))
    for name in names:
        if Path(name).name != name or not name.endswith(".bin") or not (source.folder / name).is_file():
            raise InputError(
                f"error: {source.where}: {PICKLE_INDEX} names {name}, which is no .bin file of the folder."
            )
    return names


def _weight_map(source: Location) -> dict[str, str]:
    try:
        return dict(json.loads((source.folder / PICKLE_INDEX).read_text("utf-8"))["weight_map"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"error: {source.where}: {PICKLE_INDEX} is not an index of weights: {error}.") from error


def _convert(source: Location, name: str, made: Path) -> Converted:
    pickled, target = source.folder / name, made / _target(name)
    said = _unpickle(source, pickled.resolve(), target)
    return Converted(name, sha256(pickled), target.name, sha256(target), **said)


def _target(name: str) -> str:
    return name.replace("pytorch_model", "model").removesuffix(".bin") + ".safetensors"


def _unpickle(source: Location, pickled: Path, target: Path) -> dict[str, Any]:
    command = [sys.executable, "-I", str(Path(__file__).with_name("unpickle.py")), str(pickled), target.name]
    environment = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    done = subprocess.run(
        command, env=environment, cwd=target.parent, capture_output=True, text=True, timeout=TIMEOUT_S
    )
    if done.returncode:
        cause = (done.stderr.strip().splitlines() or [f"the process that read it ended with {done.returncode}"])[-1]
        raise InputError(f"error: {source.where}: {pickled.name} is not converted, nothing of it was run: {cause}")
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def _copy(source: Location, files: Sequence[str], made: Path) -> None:
    for path in {path for pattern in COPIED for path in source.folder.glob(pattern)}:
        shutil.copyfile(path, made / path.name)
    if files != [SINGLE]:
        weights = {name: _target(file) for name, file in _weight_map(source).items()}
        size = sum((made / _target(name)).stat().st_size for name in files)
        _write_json(made / INDEX, {"metadata": {"total_size": size}, "weight_map": weights})


def _record(source: Location, converted: Sequence[Converted]) -> dict[str, Any]:
    libraries = {name: version(name) for name in ("torch", "safetensors")}
    where = {"source": source.id or str(source.folder.resolve()), "revision": source.revision}
    return {**where, "libraries": libraries, "files": [asdict(each) for each in converted]}


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", "utf-8")

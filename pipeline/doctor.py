"""What Headlight finds on this machine, and what is wrong with it."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires, version
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from pipeline.commands.tables import size

PACKAGES = ("attribution", "evaluation", "pipeline", "conf")
VARIABLES = {  # name -> what it holds, and the folders expected in it
    "HEADLIGHT_DATA": ("data sets and treebanks of experiment=sst2 and its like", ("sst2", "squad", "ud_ewt")),
    "HEADLIGHT_MODELS": ("models of the same experiments", ("minilm-sst2", "minilm-squad")),
}


class Finding(NamedTuple):
    """One line of the doctor's report. `state` is ok, note or problem."""

    section: str
    state: str
    text: str


def examine(root: Path = Path("outputs"), folder: Path | None = None, address: str | None = None) -> list[Finding]:
    """Everything found. Nothing is changed; only an MLflow server and a Ray cluster that are configured are asked."""
    here = folder or Path.cwd()
    sections = (versions(), devices(), packages(here), variables(), caches(root), tracking(root), cluster(address))
    return [finding for section in sections for finding in section]


def versions() -> Iterator[Finding]:
    """Python and the packages the distribution asks for, against the ranges it asks for."""
    yield Finding("versions", "ok", f"Python {platform.python_version()} on {platform.platform()}")
    try:
        requirements = list(_requirements())
    except PackageNotFoundError:
        yield Finding("versions", "note", "headlight-xai is not installed; run `make setup` or `pip install -e .`")
        return
    for name, specifier in requirements:
        try:
            installed = version(name)
        except PackageNotFoundError:
            yield Finding("versions", "problem", f"{name} is missing; pip install 'headlight-xai[pipeline]'")
            continue
        fits = specifier.contains(installed, prereleases=True)
        wanted = "" if fits else f"; Headlight needs {name}{specifier}"
        yield Finding("versions", "ok" if fits else "problem", f"{name} {installed}{wanted}")


def _requirements() -> Iterator[tuple[str, SpecifierSet]]:
    for line in requires("headlight-xai") or ():
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": "pipeline"}):
            yield requirement.name, requirement.specifier


def devices() -> Iterator[Finding]:
    """Processors, memory and GPUs."""
    import psutil
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = psutil.virtual_memory()
    yield Finding("devices", "ok", f"{cores} cores, {torch.get_num_threads()} torch threads")
    yield Finding("devices", "ok", f"{size(memory.available)} of {size(memory.total)} memory free")
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        yield Finding("devices", "ok", f"{torch.cuda.get_device_name(index)}: {size(free)} of {size(total)} free")
    if not torch.cuda.is_available():
        yield Finding("devices", "ok", "no CUDA device; everything runs on the processor")


def packages(here: Path) -> Iterator[Finding]:
    """Where our packages come from; a folder of the same name in `here` hides one of them."""
    home = Path(import_module("pipeline").__path__[0]).parent
    for name in PACKAGES:
        found = Path(import_module(name).__path__[0])
        if found.parent != home:
            yield Finding("packages", "problem", f"{found} is used in place of Headlight's {name}. {_rename(name)}")
        elif here != home and (here / name).is_dir():
            text = f"{here / name} hides Headlight's {name} from scripts and notebooks started here. {_rename(name)}"
            yield Finding("packages", "note", text)
    yield Finding("packages", "ok", f"Headlight is in {home}")


def _rename(name: str) -> str:
    remedy = "pass it as --config-dir my_conf" if name == "conf" else "adapt its imports"
    return f"Rename that folder, say to my_{name}, and {remedy}."


def variables() -> Iterator[Finding]:
    """The environment variables that experiments read."""
    for name, (meaning, contents) in VARIABLES.items():
        value = os.environ.get(name)
        missing = [entry for entry in contents if not (Path(value or "") / entry).is_dir()]
        if not value:
            yield Finding("environment", "note", f"{name} is not set: {meaning}")
        elif not Path(value).is_dir():
            yield Finding("environment", "problem", f"{name}={value} is not a folder: {meaning}")
        else:
            state = f"has no {', '.join(missing)}" if missing else "is complete"
            yield Finding("environment", "note" if missing else "ok", f"{name}={value} {state}")
    for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        if os.environ.get(name):
            yield Finding("environment", "ok", f"{name}={os.environ[name]}")


def caches(root: Path) -> Iterator[Finding]:
    """What is kept between runs, and how large it is."""
    from huggingface_hub.constants import HF_HOME

    for name in ("store", "models", "runs"):
        folder = root / name
        yield Finding("caches", "ok", f"{folder}: {size(_bytes(folder)) if folder.is_dir() else 'empty'}")
    yield Finding("caches", "ok", f"Hugging Face: {HF_HOME}")


def tracking(root: Path) -> Iterator[Finding]:
    """Where runs are recorded, and whether it answers."""
    from attribution.errors import InputError
    from pipeline.config import TrackingConfig
    from pipeline.tracking.destination import check, destination

    try:
        target = destination(TrackingConfig(store="sqlite"), root)
        if target is None:
            return
        if target.is_server:
            check(target)
        yield Finding("tracking", "ok", f"MLflow at {target.shown}, experiment {target.experiment}")
    except InputError as error:
        yield Finding("tracking", "problem", str(error).removeprefix("conf error: "))


def cluster(address: str | None) -> Iterator[Finding]:
    """The nodes of the Ray cluster at `address` or RAY_ADDRESS, and what on them is not as it is here."""
    from attribution.errors import InputError
    from pipeline.config import ClusterConfig
    from pipeline.execution import Needs, joins_cluster

    config = ClusterConfig(executor="ray", address=address)
    if not joins_cluster(config):
        return
    from pipeline.execution.nodes import node_problems
    from pipeline.execution.ray_cluster import address_setting, connect

    try:
        with connect(config) as connection:
            nodes = connection.nodes()
            found = node_problems(connection, nodes, Needs(), address_setting(config))
    except InputError as error:
        yield Finding("cluster", "problem", str(error).removeprefix("conf error: "))
        return
    for node in nodes:
        yield Finding("cluster", "ok", f"{node.name}: {node.cpus:g} CPU, {node.gpus:g} GPU")
    for problem in chain.from_iterable(found.values()):
        yield Finding("cluster", "problem", problem)


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())

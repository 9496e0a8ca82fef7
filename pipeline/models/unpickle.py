"""Run by `convert` as a process of its own: tensors of a pickled checkpoint as safetensors, and nothing else of it.

`python -I unpickle.py SOURCE TARGET`; prints JSON: `shared`, the groups of names that share memory, and `network`, why
the network could be reached (null: it could not). Nothing of Headlight is imported, and nothing of it can be reached.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # imported once there is no network, before the threads that it starts
    import torch

GIB = 2**30
CPU_SECONDS = 3600
NEW_USER, NEW_NET = 0x10000000, 0x40000000  # CLONE_NEWUSER, CLONE_NEWNET of sched.h


def cut_off() -> str | None:
    """Leave the network for one without any interface; the reason where the system does not allow it."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "unshare"):
        return f"{sys.platform} has no network namespaces"
    for namespaces in (NEW_NET, NEW_USER | NEW_NET):  # only root may do without the other
        if libc.unshare(namespaces) == 0:
            return None
    return os.strerror(ctypes.get_errno())


def limit(size: int) -> None:
    """Bound what reading a file of `size` bytes may take of memory, disk and time."""
    for kind, amount in (
        (resource.RLIMIT_AS, _address_space() + 6 * size + GIB),
        (resource.RLIMIT_FSIZE, 3 * size + GIB),
        (resource.RLIMIT_CPU, CPU_SECONDS),
        (resource.RLIMIT_CORE, 0),
    ):
        _, highest = resource.getrlimit(kind)
        bound = amount if highest == resource.RLIM_INFINITY else min(amount, highest)
        resource.setrlimit(kind, (bound, bound))


def _address_space() -> int:
    """What Python and torch take by themselves."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


def tensors_of(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint by name. Anything else in it is an error, and is not made into an object."""
    import torch

    content = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(content, dict) or not content:
        raise ValueError("holds no tensors by name")
    strange = [
        name for name, value in content.items() if not (isinstance(name, str) and isinstance(value, torch.Tensor))
    ]
    if strange:
        raise ValueError(f"holds {strange[0]!r}, which is not a tensor")
    return dict(content)


def shared(tensors: dict[str, torch.Tensor]) -> list[list[str]]:
    """Names of tensors that lie in the same memory."""
    groups: dict[int, list[str]] = defaultdict(list)
    for name, tensor in tensors.items():
        groups[tensor.untyped_storage().data_ptr()].append(name)
    return [sorted(names) for names in groups.values() if len(names) > 1]


def main(source: Path, target: Path) -> None:
    """Convert one file. Tensors that share memory are written out each: the model ties them again when it is loaded."""
    network = cut_off()
    from safetensors.torch import save_file

    limit(source.stat().st_size)
    tensors = tensors_of(source)
    groups = shared(tensors)
    save_file(
        {name: tensor.clone().contiguous() for name, tensor in tensors.items()}, target, metadata={"format": "pt"}
    )
    print(json.dumps({"shared": groups, "network": network}))


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    except Exception as error:
        sys.exit(" ".join(f"{type(error).__name__}: {error}".split())[:500])

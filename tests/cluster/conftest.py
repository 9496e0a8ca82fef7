"""Clusters of real nodes for the tests marked `cluster`; they need root and iproute2, and half a minute to start."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from network_cluster import NetworkCluster, missing_requirement


@pytest.fixture(scope="session")
def network_namespaces() -> None:
    """Skips where this machine allows no network namespaces."""
    if reason := missing_requirement():
        pytest.skip(f"real Ray nodes in network namespaces: {reason}")


@pytest.fixture
def network_cluster(network_namespaces: None) -> Iterator[Callable[..., NetworkCluster]]:
    """`network_cluster(nodes=2, cpus=1)` starts a cluster that ends with the test."""
    with ExitStack() as stack:
        yield lambda *args, **options: stack.enter_context(NetworkCluster(*args, **options))


@pytest.fixture(scope="module")
def two_nodes(network_namespaces: None) -> Iterator[NetworkCluster]:
    """A cluster of two worker nodes for a module's tests, which leave it as it is."""
    with NetworkCluster(nodes=2) as cluster:
        yield cluster

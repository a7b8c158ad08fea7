"""A Ray cluster: one on this machine, or one that answers at an address."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from typing import Any

from pege.errors import InputError

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere

_PATIENCE_S = 10


@contextlib.contextmanager
def reaching(address: str | None) -> Iterator[None]:
    """Connect to a Ray cluster within: one line says what is missing.

    Args:
        address: HOST:PORT, ray://HOST:PORT or auto; None where no cluster is named.

    Raises:
        InputError: Ray is not installed, or nothing answers. Ray itself would wait for minutes.
    """
    try:
        import ray  # noqa: F401
    except ImportError as e:
        raise InputError("Ray is not installed", fix="pip install 'pege[ray]'") from e
    try:
        if address is not None and "://" not in address and address != "auto":
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), timeout=_PATIENCE_S).close()
        yield
    except (OSError, ValueError) as e:
        raise InputError(f"no Ray cluster answers ({e})", where=address, fix="name its address, or none") from e


@contextlib.contextmanager
def ray_cluster(address: str | None) -> Iterator[Any]:
    """Give the module `ray`, connected; disconnect in the end.

    Args:
        address: as `reaching` takes it; None starts a cluster on this machine.

    Raises:
        InputError: Ray is not installed, or no cluster is there.
    """
    with reaching(address):
        import ray

        ray.init(address=address or "local", log_to_driver=False, configure_logging=False)
    try:
        yield ray
    finally:
        ray.shutdown()


def n_gpus(ray: Any) -> int:
    """Give how many GPUs the connected cluster has."""
    return int(ray.cluster_resources().get("GPU", 0))

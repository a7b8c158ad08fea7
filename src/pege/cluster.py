"""A Ray cluster: one on this machine, or one that answers at an address."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

from pege.errors import InputError

_PATIENCE_S = 5.0


def check_ray(address: str | None) -> None:
    """See that Ray is installed and, where an address of a machine is named, that something answers there.

    Raises:
        InputError: either is not so. Ray itself would wait for minutes.
    """
    try:
        import ray  # noqa: F401
    except ImportError as e:
        raise InputError("Ray is not installed", fix="pip install 'pege[ray]'") from e
    if address is None or "://" in address or address == "auto":
        return
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=_PATIENCE_S).close()
    except (OSError, ValueError) as e:
        raise InputError(f"no Ray cluster answers ({e})", where=address, fix="name its address, or none") from e


@contextlib.contextmanager
def ray_cluster(address: str | None) -> Iterator[Any]:
    """Give the module `ray`, connected; disconnect in the end.

    Args:
        address: HOST:PORT, ray://HOST:PORT or auto; None starts a cluster on this machine.

    Raises:
        InputError: Ray is not installed, or no cluster is there.
    """
    check_ray(address)
    import ray

    try:
        ray.init(address=address or "local", log_to_driver=False, configure_logging=False)
    except (ConnectionError, ValueError) as e:
        raise InputError(f"no Ray cluster answers ({e})", where=address, fix="name its address, or none") from e
    try:
        yield ray
    finally:
        ray.shutdown()


def n_gpus(ray: Any) -> int:
    """Give how many GPUs the connected cluster has."""
    return int(ray.cluster_resources().get("GPU", 0))

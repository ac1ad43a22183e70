"""Networks of which each process holds a share (FSDP2, arXiv 2304.11277): share out, put together.

torch's own `fully_shard`; on one process nothing here does anything.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

__all__ = ["gathered_parameters", "like", "shard", "whole"]


def shard(objective: nn.Module, device: str) -> nn.Module:
    """Share out every layer of every tower, then the rest, over all processes."""
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    kind = torch.device(device).type
    mesh = init_device_mesh(kind, (dist.get_world_size(),))
    layers = [
        child
        for module in objective.modules()
        if isinstance(module, nn.ModuleList)
        for child in module
    ]
    for layer in layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(objective, mesh=mesh)
    return objective


@contextlib.contextmanager
def gathered_parameters(objective: Any) -> Iterator[None]:
    """Have all parameters in full in each process, so that parts of a network can be called.

    Processes write captions of different length: nothing may be put together between two tokens.
    """
    if not hasattr(objective, "unshard"):
        yield
        return
    shared = [module for module in objective.modules() if hasattr(module, "unshard")]
    layers = [module for module in shared if module is not objective]  # the root keeps its own
    for module in layers:
        module.set_reshard_after_forward(False, recurse=False)
    for module in shared:
        module.unshard()
    try:
        yield
    finally:
        for module in layers:
            module.set_reshard_after_forward(True, recurse=False)
        for module in shared:
            module.reshard()


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor put together from all shares (every process must call this)."""
    full = getattr(tensor, "full_tensor", None)
    return tensor if full is None else full()


def like(full: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return `full` placed, or shared out, as `target` is."""
    if not hasattr(target, "full_tensor"):
        return full.to(target.device)
    from torch.distributed.tensor import distribute_tensor

    mesh: Any = target.device_mesh  # type: ignore[attr-defined]  # a DTensor
    placements: Any = target.placements  # type: ignore[attr-defined]
    placed: torch.Tensor = distribute_tensor(full.to(mesh.device_type), mesh, placements)
    return placed

"""Steps as CUDA graphs: a GPU is done with a step's 400 kernels before Python has started them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable
from typing import Any

import torch

__all__ = ["Replays"]


class Replays:
    """Runs steps; on a GPU each kind of step is recorded when it comes again.

    A recorded step reads and writes the same tensors as before, so its shapes and numbers must be
    decided by its key alone.

    Args:
        device: Where the steps run; anything but a GPU runs them as they are.
    """

    def __init__(self, device: torch.device) -> None:
        self._records = device.type == "cuda"
        self._graphs: dict[Hashable, torch.cuda.CUDAGraph | None] = {}
        self._pool: Any = None

    def run(self, key: Hashable, step: Callable[[], None]) -> None:
        """Do a step: as it is the first time, from its recording later."""
        if not self._records:
            step()
        elif key not in self._graphs:  # kernels are loaded and libraries choose theirs
            step()
            self._graphs[key] = None
        else:
            graph = self._graphs[key] or self._recorded(key, step)
            if graph is None:
                step()
            else:
                graph.replay()

    def _recorded(self, key: Hashable, step: Callable[[], None]) -> torch.cuda.CUDAGraph | None:
        graph = torch.cuda.CUDAGraph()
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        try:
            with torch.cuda.graph(graph, pool=self._pool):
                step()
        except RuntimeError as error:
            self._records = False
            reason = str(error).partition("\n")[0]
            warnings.warn(f"decoding goes on without CUDA graphs ({reason})", stacklevel=2)
            return None
        self._graphs[key] = graph
        return graph

"""Forward and backward passes as CUDA graphs: a GPU that never waits for Python.

At BLIP's shapes a fast GPU is done with a kernel before Python has started the next one: a cached
decoder-only step of 64 captions was 24 ms of work in 62 ms on an H200 (benchmarks/). A pass is
recorded once per length of the captions, rounded up to a multiple of four, and replayed: its inputs
are copied to where the recording reads them, gradients are added to where they always lie.

Where there is no GPU the same passes run directly, so that tests compare them with plain ones.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import torch

from medblip.config import RunConfig
from medblip.models.captioner import TokenBatch
from medblip.progress import track

if TYPE_CHECKING:
    from collections.abc import Callable

    from medblip.engine import Engine
    from medblip.models.captioner import Captioner
    from medblip.stages.train.feed import Micro
    from medblip.stages.train.parts import Part

__all__ = ["Graphs", "wanted"]

_STEP = 4  # lengths are rounded up to a multiple: 16 recordings for captions of up to 64 tokens


def wanted(cfg: RunConfig, engine: Engine) -> bool:
    """Whether passes are recorded: one process, `train.compile`, nothing that a graph cannot do."""
    return (
        cfg.train.compile
        and engine.world == 1
        and engine.precision != "fp16"
        and not cfg.train.gradient_checkpointing
        and engine.device.startswith("cuda")
    )


@dataclasses.dataclass
class _Pass:
    """One length: the tensors that a pass reads, and how to run it."""

    texts: TokenBatch
    weights: torch.Tensor
    replay: Callable[[], None]


class Graphs:
    """Recorded passes of one training.

    Args:
        cfg: Smoothing.
        captioner: What trains, in training mode.
        engine: Of this process, the only one.
        part: The training split.
        micro: Captions per pass; a batch of any other size is not for here.
        parameters: What takes gradients; their `grad` stays where it is from now on.
    """

    def __init__(
        self, cfg: RunConfig, captioner: Captioner, engine: Engine, part: Part, micro: int,
        parameters: list[torch.nn.Parameter],
    ) -> None:  # fmt: skip
        self._cfg, self._captioner, self._engine, self._part = cfg, captioner, engine, part
        self._micro = micro
        for parameter in parameters:
            parameter.grad = torch.zeros_like(parameter)
        self._parameters = parameters
        first = part.read([0] * micro).to(captioner.device)
        self._images = torch.zeros(
            (micro, *self._image_shape(first)), dtype=first.dtype, device=captioner.device
        )
        self.loss = torch.zeros((), device=captioner.device)
        self._scale = torch.zeros((), device=captioner.device)
        self._passes: dict[int, _Pass] = {}
        longest = max(map(len, part.token_ids))
        lengths = sorted({_rounded(len(ids)) for ids in part.token_ids}, reverse=True)
        pool: Any = torch.cuda.graph_pool_handle() if torch.cuda.is_available() else None
        for length in track(lengths, "record passes", len(lengths), unit="length"):
            self._passes[length] = self._recorded(length, pool)
        assert _rounded(longest) in self._passes
        self._zero()

    def fits(self, micro: Micro) -> bool:
        """Whether a micro-batch can be replayed."""
        return micro.counts and len(micro.indices) == self._micro

    def run(self, micro: Micro, scale: float) -> None:
        """Add a micro-batch's gradients, and its loss times `scale` to `self.loss`."""
        token_ids = [self._part.token_ids[i] for i in micro.indices]
        one = self._passes[_rounded(max(map(len, token_ids)))]
        _fill(one, self._captioner.collate(token_ids))
        self._copy_images(micro.images)
        self._scale.fill_(scale)
        one.replay()

    def _image_shape(self, read: torch.Tensor) -> tuple[int, ...]:
        """Grey images may stand beside one in colour: room for three channels."""
        shape = tuple(read.shape[1:])
        return (3, *shape[1:]) if self._part.features is None else shape

    def _copy_images(self, images: torch.Tensor) -> None:
        """One channel spreads over three, on the GPU."""
        self._images.copy_(images.to(self._images.device, non_blocking=True))

    def _recorded(self, length: int, pool: Any) -> _Pass:
        device = self._captioner.device
        shape = (self._micro, length)
        places = torch.arange(self._micro * length, device=device).view(shape)[:, :-1].flatten()
        ids, mask, labels = (torch.zeros(shape, dtype=torch.int64, device=device) for _ in "123")
        texts = TokenBatch(ids, mask, labels, places, torch.zeros_like(places))
        one = _Pass(texts, torch.zeros(len(places), device=device), lambda: None)
        shown = [self._part.token_ids[0][: length - 1]] * self._micro
        _fill(one, self._captioner.collate(shown))

        def step() -> None:
            with self._engine.autocast():
                images = self._part.images_on(self._captioner, self._images)
                cached = self._part.features is not None
                embeds = images if cached else self._captioner.encode(images)
                loss = self._captioner.token_losses(
                    embeds, one.texts, self._cfg.optim.label_smoothing, one.weights
                )
                loss = loss * self._scale
            loss.backward()  # type: ignore[no-untyped-call]
            self.loss += loss.detach()

        one.replay = step
        if pool is None:
            return one
        side: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # compiles, and lets libraries choose their kernels
            for _ in range(2):
                step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool):
            step()
        one.replay = graph.replay
        return one

    def _zero(self) -> None:
        self.loss.zero_()
        for parameter in self._parameters:
            if parameter.grad is not None:
                parameter.grad.zero_()


def _fill(one: _Pass, batch: TokenBatch) -> None:
    """Copy a batch to where a pass reads it; what is longer there counts nothing."""
    width = batch.input_ids.shape[1]
    for there, new, empty in (
        (one.texts.input_ids, batch.input_ids, 0),
        (one.texts.attention_mask, batch.attention_mask, 0),
        (one.texts.labels, batch.labels, -100),
    ):
        there.fill_(empty)
        there[:, :width].copy_(new)
    ahead = one.texts.labels[:, 1:].flatten()
    counts = ahead != -100
    one.weights.copy_(counts)
    one.texts.targets.copy_(ahead * counts)


def _rounded(length: int) -> int:
    return -(-length // _STEP) * _STEP

"""The fused cross-entropy equals torch's, value and gradients, and never holds all logits."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from medblip.models import loss as module
from medblip.models.loss import linear_cross_entropy


def draw(rows: int, classes: int, seed: int, dtype: torch.dtype) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(rows, 16), (classes, 16), (classes,)]
    made = [torch.randn(s, generator=generator, dtype=dtype).requires_grad_() for s in shapes]
    return [*made, torch.randint(0, classes, (rows,), generator=generator)]


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 600), classes=st.integers(2, 90), seed=st.integers(0, 99),
    smoothing=st.sampled_from([0.0, 0.1, 0.5]), scale=st.floats(0.01, 10),
)  # fmt: skip
def test_value_and_gradients_equal_torchs(
    rows: int, classes: int, seed: int, smoothing: float, scale: float
) -> None:
    hidden, weight, bias, targets = draw(rows, classes, seed, torch.float32)
    stock = functional.cross_entropy(
        functional.linear(hidden, weight, bias), targets, label_smoothing=smoothing, reduction="sum"
    )
    expected = torch.autograd.grad(stock * (scale / rows), [hidden, weight, bias])
    ours = linear_cross_entropy(hidden, weight, bias, targets, smoothing)
    got = torch.autograd.grad(ours * (scale / rows), [hidden, weight, bias])
    torch.testing.assert_close(ours / rows, stock / rows, rtol=1e-6, atol=1e-6)
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6 * scale)


@pytest.mark.parametrize("trains", [(True, False, False), (False, True, True)])
def test_only_gradients_that_are_wanted_are_made(trains: tuple[bool, ...]) -> None:
    hidden, weight, bias, targets = draw(9, 7, 0, torch.float32)
    parts = [t.requires_grad_(want) for t, want in zip((hidden, weight, bias), trains, strict=True)]
    linear_cross_entropy(*parts, targets, 0.1).backward()
    assert tuple(t.grad is not None for t in parts) == trains


def test_autocast_computes_in_bfloat16_and_sums_in_float32() -> None:
    hidden, weight, bias, targets = draw(300, 40, 0, torch.float32)
    exact = linear_cross_entropy(hidden, weight, bias, targets).detach()
    with torch.autocast("cpu", torch.bfloat16):
        loss = linear_cross_entropy(hidden, weight, bias, targets)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.detach(), exact, rtol=1e-2, atol=0)
    loss.backward()
    assert weight.grad is not None
    assert weight.grad.dtype == torch.float32


def test_all_logits_are_never_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors of (rows, classes) reach the chunk at most; nothing wide is saved for backward."""
    widest: list[int] = []
    linear = functional.linear

    def watched(*args: torch.Tensor) -> torch.Tensor:
        out = linear(*args)
        widest.append(len(out))
        return out

    hidden, weight, bias, targets = draw(2000, 64, 0, torch.float32)
    kept: list[torch.Size] = []
    monkeypatch.setattr(module.functional, "linear", watched)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.shape) or t, lambda t: t):
        linear_cross_entropy(hidden, weight, bias, targets).backward()
    assert max(widest) <= 256
    assert torch.Size([2000, 64]) not in kept

"""Floating-point operations of torch code, counted while it runs; a multiply-add is two."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.utils.flop_counter import FlopCounterMode

__all__ = ["flop_counter"]


def flop_counter() -> FlopCounterMode:
    """Return torch's counter, taught what it does not know: fused attention on a CPU.

    The backward pass computes the probabilities again: five products instead of four, as torch
    counts its other fused attentions.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    aten = torch.ops.aten

    def products(query: Any, key: Any) -> int:
        batch, heads, length, width = query
        return int(2 * batch * heads * length * key[2] * width)

    def forward(query: Any, key: Any, *_: Any, **__: Any) -> int:
        return 2 * products(query, key)

    def backward(_: Any, query: Any, key: Any, *__: Any, **___: Any) -> int:
        return 5 * products(query, key)

    return FlopCounterMode(
        display=False,
        custom_mapping={
            aten._scaled_dot_product_flash_attention_for_cpu: forward,
            aten._scaled_dot_product_flash_attention_for_cpu_backward: backward,
        },
    )

"""Whether a network lets tokens see those after them."""

from __future__ import annotations

import types

import pytest
import torch

from medblip.models.vlm_inputs import sees_ahead


class Network(torch.nn.Module):
    """Logits of all tokens before, plus a share of what comes after."""

    def __init__(self, ahead: float) -> None:
        super().__init__()
        self.words = torch.nn.Embedding(100, 8)
        self.ahead = ahead

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, use_cache: bool
    ) -> types.SimpleNamespace:
        words = self.words(input_ids)
        return types.SimpleNamespace(
            logits=words.cumsum(1) + self.ahead * words.sum(1, keepdim=True)
        )


@pytest.mark.parametrize(
    ("ahead", "found"),
    [(0.0, False), (0.02, False), (0.5, True), (5.0, True)],  # .02: what a shared scale moves
)
def test_what_comes_after(ahead: float, found: bool) -> None:
    torch.manual_seed(0)
    network = Network(ahead).train()
    assert sees_ahead(network, torch.tensor([[3, 7, 5], [1, 2, 4]]), {}) is found
    assert network.training, "the mode is given back"

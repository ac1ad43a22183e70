"""Views of hand-made attention, against loops that anybody can read."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medblip.errors import CheckpointError, ConfigError
from medblip.models.maps import Replay
from medblip.models.views import VIEWS, described, require_view, rollout, word_maps

SPANS = ((0, 1), (1, 3))


def made(seed: int = 0, *, bridge: bool = False) -> Replay:
    """Return two words of three pieces; 3 layers, 2 heads, [CLS] and 2 x 3 patches."""
    rng = torch.Generator().manual_seed(seed)
    seen = 4 if bridge else 7
    return Replay(
        pieces=("left", "effu", "##sion"), words=("left", "effusion"), spans=SPANS, grid=(2, 3),
        logprobs=torch.zeros(3), cross=torch.rand(3, 2, 3, seen, generator=rng).softmax(-1),
        gradient=torch.randn(3, 2, 3, seen, generator=rng),
        bridge=torch.rand(2, 2, 4, 7, generator=rng).softmax(-1) if bridge else None,
    )  # fmt: skip


def by_hand(rows: np.ndarray) -> np.ndarray:
    """Return word maps of piece rows over [CLS] and patches (T, 7)."""
    words = []
    for first, last in SPANS:
        patches = sum(rows[t, 1:] for t in range(first, last)) / (last - first)
        words.append((patches / patches.sum()).reshape(2, 3))
    return np.stack(words)


def test_each_view_by_hand() -> None:
    one = made()
    cross, slope = one.cross.numpy(), one.gradient.numpy()  # type: ignore[union-attr]
    expected = {
        ("last-mean", None, None): (cross[2, 0] + cross[2, 1]) / 2,
        ("layer", None, None): (cross[2, 0] + cross[2, 1]) / 2,
        ("layer", 1, 0): cross[1, 0],
        ("layer", -3, None): (cross[0, 0] + cross[0, 1]) / 2,
        ("mean", None, None): sum(cross[i, j] for i in range(3) for j in range(2)) / 6,
        ("gradient", 0, None): sum(np.maximum(cross[0, h] * slope[0, h], 0) for h in range(2)) / 2,
        ("gradient", None, 1): np.maximum(cross[2, 1] * slope[2, 1], 0),
    }
    for (name, layer, head), rows in expected.items():
        got = word_maps(one, name, layer=layer, head=head)
        np.testing.assert_allclose(got.numpy(), by_hand(rows), atol=1e-6)
        torch.testing.assert_close(got.sum((1, 2)), torch.ones(2))


def test_through_a_q_former() -> None:
    one = made(bridge=True)
    bridge = one.bridge.numpy()  # type: ignore[union-attr]
    last = one.cross[2].mean(0).numpy() @ bridge[1].mean(0)
    np.testing.assert_allclose(word_maps(one).numpy(), by_hand(last), atol=1e-6)
    every = one.cross.mean((0, 1)).numpy() @ bridge.mean((0, 1))
    np.testing.assert_allclose(word_maps(one, "mean").numpy(), by_hand(every), atol=1e-6)


def test_rollout_equals_a_loop() -> None:
    vision = torch.rand(3, 2, 7, 7, generator=torch.Generator().manual_seed(3)).softmax(-1)
    got = rollout(vision)
    expected = np.eye(7)
    for layer in range(3):
        step = np.zeros((7, 7))
        for i in range(7):
            for j in range(7):
                step[i, j] = float(vision[layer, 0, i, j] + vision[layer, 1, i, j]) / 2 + (i == j)
            step[i] /= step[i].sum()
        product = np.zeros((7, 7))
        for i in range(7):
            for j in range(7):
                product[i, j] = sum(step[i, k] * expected[k, j] for k in range(7))
        expected = product
    np.testing.assert_allclose(got.numpy(), expected, atol=1e-6)
    torch.testing.assert_close(got.sum(-1), torch.ones(7))
    one = made()
    rows = one.cross[2].mean(0).numpy() @ expected
    np.testing.assert_allclose(
        word_maps(one, "rollout", vision=vision).numpy(), by_hand(rows), atol=1e-6
    )


def test_rollout_of_an_encoder_that_only_copies_changes_nothing() -> None:
    still = torch.eye(7).expand(3, 2, 7, 7)
    torch.testing.assert_close(word_maps(made(), "rollout", vision=still), word_maps(made()))


def test_what_the_first_image_token_got_is_lost_but_for_rollout() -> None:
    """A word that looks at [CLS] alone, which looked at patch 5 alone."""
    cross = torch.zeros(1, 1, 1, 7)
    cross[..., 0] = 1
    one = Replay(
        pieces=("a",), words=("a",), spans=((0, 1),), grid=(2, 3), logprobs=torch.zeros(1),
        cross=cross,
    )  # fmt: skip
    assert word_maps(one).sum() == 0
    vision = torch.eye(7).repeat(1, 1, 1, 1)
    vision[0, 0, 0] = 0
    vision[0, 0, 0, 6] = 1
    assert word_maps(one, "rollout", vision=vision)[0].flatten().tolist() == [0, 0, 0, 0, 0, 1]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"name": "last"}, "did you mean last-mean"),
        ({"name": "mean", "layer": 1}, "layers and heads fixed"),
        ({"name": "layer", "layer": 3}, "no layer 3"),
        ({"name": "layer", "head": -3}, "no head -3"),
    ],
)
def test_wrong_views_are_refused(how: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        word_maps(made(), **how)  # type: ignore[arg-type]


def test_views_that_lack_something_are_no_empty_maps() -> None:
    plain = made()
    bare = Replay(**{**plain.__dict__, "gradient": None})
    with pytest.raises(CheckpointError, match="no gradient"):
        word_maps(bare, "gradient")
    with pytest.raises(CheckpointError, match="image encoder"):
        word_maps(bare, "rollout")
    last = Replay(**{**plain.__dict__, "gradient": plain.gradient[-1:]})  # type: ignore[index]
    assert torch.equal(word_maps(last, "gradient"), word_maps(plain, "gradient"))
    with pytest.raises(CheckpointError, match="no gradient of that layer"):
        word_maps(last, "gradient", layer=1)


def test_every_view_is_told_in_words() -> None:
    for name in VIEWS:
        require_view(name, None, None)
        assert described(name)
    assert described("gradient").endswith("last layer, mean over heads")

"""One image after the other: its maps against masks, baselines, and what the captioner does."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from medblip.data.phantoms.masks import decode_mask
from medblip.metrics.base import Floats
from medblip.metrics.map_words import content_words, named_findings
from medblip.metrics.maps import (
    Mask,
    area_under,
    centre_prior,
    mass_in_mask,
    pointing_game,
    random_map,
    rank_correlation,
    uniform_map,
)
from medblip.schema import Prediction
from medblip.stages.explain.curves import FRACTIONS, WORDS, Reader, blurred, order_of, shown
from medblip.stages.explain.look import Seen, View, look
from medblip.stages.explain.opened import Opened
from medblip.stages.explain.own_words import require_own, says

if TYPE_CHECKING:
    import torch

    from medblip.models.captioner import Captioner

__all__ = ["MAPS", "ImageMeasures", "measure_images"]

MAPS = ("attention", "random", "centre", "randomised-weights")
_BATCH = 16


@dataclasses.dataclass
class ImageMeasures:
    """What one image adds.

    Args:
        sums: (measure, map) -> numerator and denominator.
        curves: (deletion or insertion, map) -> sums over words, (points,).
        falls: What these words lose when all is blurred, summed: the scale of the curves.
        words_read: How many words the curves read.
        passes: Through the image encoder.
        named: Findings that the reference names, with a mask.
        missed: Findings with a mask that the reference does not name in words of the vocabulary.
        own_named: The same of the captioner's own caption.
        own_false: Findings that it names and that are not there.
    """

    sums: dict[tuple[str, str], tuple[float, float]] = dataclasses.field(default_factory=dict)
    curves: dict[tuple[str, str], Floats] = dataclasses.field(default_factory=dict)
    falls: float = 0.0
    words_read: int = 0
    passes: int = 1
    named: int = 0
    missed: int = 0
    own_named: int = 0
    own_false: int = 0

    def add(
        self, measure: str, kind: str, values: Sequence[float], count: int | None = None
    ) -> None:
        """Add values of one measure; `count` of them were due, each that is absent counts 0."""
        due = len(values) if count is None else count
        self.sums[measure, kind] = (float(sum(values)), float(due))


def measure_images(
    opened: Opened, view: View, tolerance: float, seed: int
) -> Iterator[ImageMeasures]:
    """Yield the measures of each image, in order.

    Args:
        opened: Captioner, images and captions.
        view: Which maps.
        tolerance: Of the pointing game, in patches.
        seed: Of random maps and weights.

    Raises:
        RunError: Other weights wrote a caption.
    """
    import torch

    from medblip.data.loader import Pixels
    from medblip.data.store import Resize
    from medblip.models.randomised import randomised

    captioner = opened.captioner
    other = randomised(captioner, seed)
    resize = Resize(*captioner.image_size, captioner.image_resample)
    pixels = Pixels(opened.examples, opened.root, resize, build=False)
    for start in range(0, len(opened.examples), _BATCH):
        indices = list(range(start, min(start + _BATCH, len(opened.examples))))
        batch = pixels.pixel_batch(indices, captioner.image_mean, captioner.image_std)
        batch = batch.to(captioner.device)
        with torch.inference_mode():
            embeds = captioner.encode(batch)  # of the one that forgot, too: it sees the same
        made = [opened.made[index] for index in indices]
        own = _own_captions(captioner, batch, embeds, made, view)
        forgot = look(other, batch, [caption for caption, _ in own], view, embeds)
        blurry = blurred(batch)
        masked = [_masks(opened.examples[index].facts) for index in indices]
        references = [opened.examples[index].captions[0] for index in indices]
        replayed = [
            look(one, batch, references, view, embeds)
            for one in (captioner, other)
            if any(masks is not None for masks in masked)
        ]
        for row, index in enumerate(indices):
            rng = np.random.default_rng([seed, index])
            found = ImageMeasures()
            caption, seen = own[row]
            reader = Reader(captioner, batch[row], blurry[row], caption, seen.replay.spans,
                            seen.replay.grid)  # fmt: skip
            _similarity(found, seen, forgot[row], rng)
            _curves(found, seen, reader, rng)
            if (masks := masked[row]) is not None:
                reference, forgotten = (one[row] for one in replayed)
                _against_masks(found, seen, reference, forgotten, masks, tolerance)
            yield found


def _own_captions(
    captioner: Captioner, batch: torch.Tensor, embeds: torch.Tensor, made: Sequence[Prediction],
    view: View,
) -> list[tuple[str | Sequence[str], Seen]]:  # fmt: skip
    """Return captions, as pieces where these are what was written, and what was seen."""
    found: list[tuple[str | Sequence[str], Seen]] = []
    first = look(captioner, batch, [one.tokens or one.caption for one in made], view, embeds)
    for row, (one, seen) in enumerate(zip(made, first, strict=True)):
        if one.tokens and says(seen, one.caption):
            require_own(seen, one)
            found.append((one.tokens, seen))
        elif one.tokens:  # other pieces than its text
            part = slice(row, row + 1)
            (again,) = look(captioner, batch[part], [one.caption], view, embeds[part])
            found.append((one.caption, again))
        else:
            found.append((one.caption, seen))
    return found


def _masks(facts: Mapping[str, Any] | None) -> dict[str, Mask] | None:
    """Return the mask of each finding of an image; None where no findings are recorded."""
    if facts is None or any("mask" not in one for one in facts.get("findings", [])):
        return None
    return {one["name"]: decode_mask(one["mask"]) for one in facts.get("findings", [])}


def _against_masks(
    found: ImageMeasures, seen: Seen, reference: Seen, forgot: Seen,
    masks: Mapping[str, Mask], tolerance: float,
) -> None:  # fmt: skip
    """Add pointing game and mass in the mask, of the reference and of the own caption.

    A finding's map is the mean over the content words that name it.
    """
    grid = reference.replay.grid
    named = [one for one in named_findings(reference.replay.words, masks) if one.real]
    found.named = len(named)
    found.missed = len(masks.keys() - {one.finding for one in named})
    for kind, heats in {
        "attention": [_mean_map(reference, one.words) for one in named],
        "random": [uniform_map(grid) for _ in named],  # its expected value, exactly
        "centre": [centre_prior(grid) for _ in named],
        "randomised-weights": [_mean_map(forgot, one.words) for one in named],
    }.items():
        own = [masks[one.finding] for one in named]
        pairs = list(zip(heats, own, strict=True))
        found.add("pointing-game", kind, [_points(*pair, tolerance) for pair in pairs])
        found.add("mass-in-mask", kind, [mass_in_mask(*pair) for pair in pairs])
    said = named_findings(seen.replay.words, masks)
    found.own_false = sum(not one.real for one in said)
    pairs = [(_mean_map(seen, one.words), masks[one.finding]) for one in said if one.real]
    found.own_named = len(pairs)
    points = [_points(*pair, tolerance) for pair in pairs]
    found.add("own-pointing-game", "attention", points)
    found.add("own-mass-in-mask", "attention", [mass_in_mask(*pair) for pair in pairs])
    best: dict[str, float] = {}
    for one, value in zip((one for one in said if one.real), points, strict=True):
        best[one.finding] = max(value, best.get(one.finding, 0.0))
    found.add("found-and-pointed", "attention", list(best.values()), len(masks))


def _points(heat: Floats, mask: Mask, tolerance: float) -> float:
    patch = min(side / parts for side, parts in zip(mask.shape, heat.shape, strict=True))
    return pointing_game(heat, mask, tolerance * patch)


def _mean_map(seen: Seen, words: Sequence[int]) -> Floats:
    mean: Floats = seen.maps[list(words)].astype(np.float64).mean(axis=0)
    return mean


def _similarity(found: ImageMeasures, seen: Seen, forgot: Seen, rng: np.random.Generator) -> None:
    """Add how alike a content word's map is to that of random weights, of chance, of the centre."""
    grid = seen.replay.grid
    centre = centre_prior(grid)
    words = content_words(seen.replay.words)
    for kind, others in {
        "random": [random_map(grid, rng) for _ in words],
        "centre": [centre for _ in words],
        "randomised-weights": [forgot.maps[word] for word in words],
    }.items():
        pairs = zip(words, others, strict=True)
        found.add("similarity", kind, [rank_correlation(seen.maps[w], one) for w, one in pairs])


def _curves(found: ImageMeasures, seen: Seen, reader: Reader, rng: np.random.Generator) -> None:
    """Add deletion and insertion of the words that need the image most."""
    words = content_words(seen.replay.words)
    grid = seen.replay.grid
    if not words:
        return
    reader = dataclasses.replace(reader, spans=[seen.replay.spans[word] for word in words])
    found.passes += 2
    sharp, blurry = reader.read(np.array([[True], [False]]).repeat(grid[0] * grid[1], 1))
    losses = sharp - blurry
    needed = [at for at in np.argsort(-losses, kind="stable")[:WORDS] if losses[at] > 0]
    if not needed:
        return
    heats = [seen.maps[words[at]] for at in needed]
    orders = [order_of(heat.astype(np.float64), rng) for heat in heats]
    shared = {"random": order_of(random_map(grid, rng), rng),
              "centre": order_of(centre_prior(grid), rng)}  # fmt: skip
    found.falls = float(losses[needed].sum())
    found.words_read = len(needed)
    reader = dataclasses.replace(reader, spans=[reader.spans[at] for at in needed])
    points = len(FRACTIONS)
    for measure in ("deletion", "insertion"):
        insertion = measure == "insertion"
        sets = [shown(order, insertion=insertion) for order in (*orders, *shared.values())]
        inner = np.concatenate([one[1:-1] for one in sets])
        read = reader.read(inner).reshape(len(sets), points - 2, len(needed)) - blurry[needed]
        found.passes += len(np.unique(inner, axis=0))
        ends = (losses[needed], np.zeros(len(needed)))
        for kind, own in (
            ("attention", np.stack([read[at, :, at] for at in range(len(needed))], 1)),
            *((name, read[len(needed) + at]) for at, name in enumerate(shared)),
        ):
            first, last = ends[::-1] if insertion else ends
            curve = np.vstack([first, own, last]).sum(axis=1)
            found.curves[measure, kind] = curve
            area = float(area_under(curve, np.array(FRACTIONS)))
            found.sums[measure, kind] = (area, found.falls)

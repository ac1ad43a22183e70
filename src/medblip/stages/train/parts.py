"""What the loop learns from: a split's images (or a frozen encoder's features) and captions."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medblip.config import RunConfig
from medblip.errors import DataError
from medblip.files import require_space
from medblip.power import Cost, energy_j
from medblip.progress import console

if TYPE_CHECKING:
    import torch

    from medblip.data.loader import Pixels
    from medblip.engine import Engine
    from medblip.models.captioner import Captioner
    from medblip.models.features import FeatureCache
    from medblip.schema import Example

__all__ = ["Part", "cache_features", "load_part"]


@dataclasses.dataclass
class Part:
    """One split, ready to be batched; lists of samples have the same order.

    Args:
        pixels: Of the images.
        token_ids: Of the caption to learn, per sample.
        references: Raw captions, for scores, per sample.
        images: Number of each sample's image in `pixels`: an image with several captions is one
            sample per caption when it trains.
        ids: Image id per sample.
        prompt_tokens: How many tokens at the start of a caption are not trained on.
        features: What a frozen encoder made of every image, in the order of `pixels`.
        resident: The same on the GPU.
    """

    pixels: Pixels
    token_ids: list[list[int]]
    references: list[list[str]]
    images: list[int]
    ids: list[str]
    prompt_tokens: int = 1
    features: FeatureCache | None = None
    resident: torch.Tensor | None = None

    def tokens(self, indices: Sequence[int]) -> int:
        """Return how many tokens of some samples are trained on."""
        return sum(len(self.token_ids[i]) - self.prompt_tokens for i in indices)

    def read(self, indices: Sequence[int]) -> torch.Tensor:
        """Return what `images_on` takes, on the CPU: row numbers, features or raw pixels."""
        import torch

        rows = [self.images[i] for i in indices]
        if self.resident is not None:
            return torch.tensor(rows)
        if self.features is not None:
            return self.features.read(rows)
        return torch.from_numpy(self.pixels.raw_batch(rows))

    def images_on(self, captioner: Captioner, read: torch.Tensor) -> torch.Tensor:
        """Return features (B, P, D) or normalised pixels (B, 3, H, W), where the network is."""
        if self.resident is not None:
            return self.resident[read.to(captioner.device, non_blocking=True)]
        if self.features is not None:
            return read.to(captioner.device, non_blocking=True)
        from medblip.data.store import normalised_on

        mean, std = captioner.image_mean, captioner.image_std
        return normalised_on(captioner.device, read, mean, std)

    def embeds(self, captioner: Captioner, indices: Sequence[int]) -> torch.Tensor:
        """Return the image tokens (B, P, D) of some samples, from the cache or from the encoder."""
        images = self.images_on(captioner, self.read(indices))
        return images.float() if self.features is not None else captioner.encode(images)


def load_part(cfg: RunConfig, captioner: Captioner, split: str, *, build: bool = True) -> Part:
    """Load one split; `build` makes its pixel store where there is none."""
    from medblip.data.loader import Pixels, load_split
    from medblip.data.store import Resize

    root = Path(cfg.data.root)
    examples: list[Example] = load_split(root, split)
    if split == "validation":
        examples = examples[: cfg.train.validation_images]
    raw = cfg.data.captions == "raw" or split == "validation"
    samples = [
        (image, caption)
        for image, example in enumerate(examples)
        for caption in (raw and example.captions) or example.targets or example.captions
    ]
    if split == "validation":  # the loss takes one caption of each, the scores take all
        samples = [(image, example.captions[0]) for image, example in enumerate(examples)]
    token_ids = captioner.tokenize([caption for _, caption in samples], cfg.data.max_tokens)
    one = captioner.collate(token_ids[:1])
    return Part(
        Pixels(
            examples, root, Resize(*captioner.image_size, captioner.image_resample), build=build
        ),
        token_ids,
        [list(examples[image].captions) for image, _ in samples],
        [image for image, _ in samples],
        [examples[image].id for image, _ in samples],
        prompt_tokens=len(token_ids[0]) - len(one.targets),
    )


def cache_features(
    cfg: RunConfig, captioner: Captioner, engine: Engine, parts: Sequence[Part]
) -> tuple[float, Cost]:
    """Run a frozen encoder once over every image, or find that it was done.

    Returns:
        Seconds that this took here, and what the pass cost whoever made it.

    Full fine-tuning must run the encoder at every step; with a frozen one its output is a constant.
    """
    begun = time.perf_counter()
    setting = cfg.train.feature_cache
    if captioner.encoder_trains or setting == "off":
        return 0.0, Cost()
    folder = Path(cfg.data.root) / "features" if setting == "auto" else Path(setting)
    captioner.network.eval()
    tokens, width = captioner.feature_shape
    keys = [_key(cfg, captioner, engine, part, tokens, width) for part in parts]
    if not engine.from_main(engine.is_main and _has_room(setting, folder, keys)):
        return 0.0, Cost()
    cost = Cost()
    for part, key in zip(parts, keys, strict=True):
        cache = _open_or_compute(cfg, captioner, engine, part, folder, key)
        part.resident = cache.on_device(engine.device)
        part.features = cache
        cost += cache.cost
    return time.perf_counter() - begun, cost


def _key(
    cfg: RunConfig, captioner: Captioner, engine: Engine, part: Part, tokens: int, width: int
) -> dict[str, Any]:
    return {
        "encoder": captioner.encoder_digest(),
        "images": part.pixels.digest(),
        "count": len(part.pixels),
        "mean": list(captioner.image_mean),
        "std": list(captioner.image_std),
        "shape": [tokens, width],
        "computed_in": engine.precision,
        "dtype": cfg.train.feature_dtype,
    }


def _has_room(setting: str, folder: Path, keys: list[dict[str, Any]]) -> bool:
    """Announce the disk need; with `auto`, do without where it cannot be met."""
    from medblip.models.features import cache_bytes, cache_name

    absent = [key for key in keys if not (folder / cache_name(key) / "index.json").is_file()]
    need = sum(cache_bytes(k["count"], k["shape"], k["dtype"]) for k in absent)
    if not need:
        return True
    existing = next(p for p in [folder, *folder.absolute().parents] if p.exists())
    free = shutil.disk_usage(existing).free
    line = f"features of the frozen encoder: {need / 1e6:,.0f} MB in {folder}"
    if setting == "auto" and (free < 1.1 * need or not os.access(existing, os.W_OK)):
        why = f"{free / 1e6:,.0f} MB are free" if free < 1.1 * need else "it cannot be written"
        console().print(f"{line}, but {why}: the encoder runs at every step instead")
        return False
    console().print(f"{line} ({free / 1e6:,.0f} MB are free); kept for later runs")
    require_space(folder, need)
    return True


def _open_or_compute(
    cfg: RunConfig, captioner: Captioner, engine: Engine, part: Part, folder: Path,
    key: dict[str, Any],
) -> FeatureCache:  # fmt: skip
    """Return the cache; all processes share the work of making it, the first one ends it."""
    import torch

    from medblip.models import features

    cache = folder / features.cache_name(key)
    with contextlib.suppress(DataError):
        found = features.FeatureCache(cache)
        if not engine.sums(0.0)[0]:
            return found
    tokens, width = key["shape"]

    def encode(rows: range) -> torch.Tensor:
        from medblip.data.store import normalised_on

        raw = torch.from_numpy(part.pixels.raw_batch(rows))
        mean, std = captioner.image_mean, captioner.image_std
        with torch.no_grad(), engine.autocast():
            return captioner.encode(normalised_on(captioner.device, raw, mean, std))

    with contextlib.ExitStack() as stack:
        opened = None
        if engine.is_main:
            opened = stack.enter_context(features.missing_shards(cache, key["count"]))
        filled, numbers = engine.from_main(opened)
        features.compute(
            encode, key["count"], numbers[engine.rank :: engine.world], filled,
            dtype=key["dtype"], batch_size=cfg.decode.batch_size, processes=engine.world,
            energy=lambda: energy_j(engine.device),
        )  # fmt: skip
        engine.wait()
        if engine.is_main:
            features.write_index(filled, key, tokens, width, key["dtype"])
    engine.wait()
    return features.FeatureCache(cache)

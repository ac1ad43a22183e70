from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps

from medblip.data.duplicates import FINGERPRINT, SIMILAR, fingerprint, near_pairs, pixel_digest


def film(seed: int, size: tuple[int, int] = (300, 260)) -> Image.Image:
    """Draw a field of soft shapes and grain in a bright frame: an outline that all have."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(30, 220, (14, 16), dtype=np.uint8))
    image = coarse.resize(size, Image.Resampling.BICUBIC)
    grain = np.asarray(image, np.float32) + rng.normal(0, 6, size[::-1])
    image = Image.fromarray(np.clip(grain, 0, 255).astype(np.uint8))
    ImageDraw.Draw(image).ellipse((20, 20, size[0] - 20, size[1] - 20), outline=255, width=9)
    return image


def table(*images: Image.Image) -> np.ndarray:
    return np.frombuffer(b"".join(map(fingerprint, images)), FINGERPRINT)


def encoded(image: Image.Image, kind: str, **options: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return Image.open(buffer).copy()


def test_a_row_has_a_fixed_size() -> None:
    assert FINGERPRINT.itemsize == 1040
    for image in (film(0), Image.new("L", (1, 1)), Image.new("RGB", (3000, 7))):
        assert len(fingerprint(image)) == 1040
        assert fingerprint(image) == fingerprint(image.copy())


def test_equal_pixels_have_equal_digests_whatever_the_file() -> None:
    image = film(1)
    same = [encoded(image, "PNG"), encoded(image, "TIFF"), image.convert("RGB")]
    assert {pixel_digest(one) for one in same} == {pixel_digest(image)}
    assert all(fingerprint(one) == fingerprint(image) for one in same)
    changed = image.copy()
    changed.putpixel((5, 5), (image.getpixel((5, 5)) + 1) % 256)
    red = Image.merge("RGB", (changed, image, image))
    turned = Image.fromarray(np.asarray(image).reshape(image.size))
    others = [changed, red, Image.merge("RGB", (image, image, changed)), turned]
    assert len({pixel_digest(one) for one in [image, *others]}) == 5


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("jpeg", lambda image: encoded(image, "JPEG", quality=30)),
        ("smaller", lambda image: image.resize((120, 104), Image.Resampling.NEAREST)),
        ("larger", lambda image: image.resize((600, 520), Image.Resampling.LANCZOS)),
        ("squeezed", lambda image: image.resize((224, 224))),
        ("brighter", lambda image: image.point(lambda v: min(255, v + 40))),
        ("less contrast", lambda image: image.point(lambda v: 50 + v // 2)),
        ("gamma", lambda image: image.point(lambda v: round(255 * (v / 255) ** 0.6))),
        ("colour file", lambda image: image.convert("RGB")),
        ("cropped", lambda image: image.crop((6, 0, 294, 260))),
        ("text", lambda image: _with_text(image)),
    ],
)
def test_a_changed_copy_is_found_among_others(name: str, change: object) -> None:
    images = [film(seed) for seed in range(12)]
    copy = change(images[7])  # type: ignore[operator]
    pairs = near_pairs(table(*images, copy), ["train"] * 12 + ["test"])
    assert pairs.rows.tolist() == [[7, 12]]
    assert SIMILAR <= pairs.similarity[0] <= 1.01
    assert pairs.complete


def _with_text(image: Image.Image) -> Image.Image:
    ImageDraw.Draw(image := image.copy()).text((100, 40), "L  PORTABLE 12:30", fill=255)
    return image


def test_a_mirror_image_is_another_finding() -> None:
    lopsided = film(3)
    even = Image.fromarray(np.maximum(np.asarray(lopsided), np.asarray(ImageOps.mirror(lopsided))))
    nearly = even.copy()
    ImageDraw.Draw(nearly).ellipse((60, 90, 110, 150), fill=230)  # a finding on one side
    for image in (lopsided, nearly):
        assert len(near_pairs(table(image, ImageOps.mirror(image))).rows) == 0
        assert len(near_pairs(table(image, image.copy())).rows) == 1


def test_what_shows_nothing_pairs_with_nothing() -> None:
    rng = np.random.default_rng(0)
    black = Image.new("L", (300, 300))
    noise = Image.fromarray(rng.integers(100, 104, (300, 300), dtype=np.uint8))
    ramp = Image.fromarray(np.tile(np.arange(256, dtype=np.uint8), (256, 1)))
    tiny = Image.fromarray(rng.integers(0, 255, (15, 40), dtype=np.uint8))
    rows = table(black, black, noise, noise, tiny, tiny, Image.new("RGB", (1, 1)))
    assert not rows["detail"].any()
    assert len(near_pairs(rows).rows) == 0
    assert table(ramp)["detail"].any(axis=(1, 2)).tolist() == [True]  # its edge is detail


def test_labels_keep_pairs_of_one_split_out() -> None:
    images = [film(seed) for seed in (1, 2, 3)]
    rows = table(images[0], images[1], images[0], images[1], images[2], images[0])
    assert near_pairs(rows).rows.tolist() == [[0, 2], [0, 5], [1, 3], [2, 5]]
    labels = ["train", "test", "train", "train", "test", "validation"]
    assert near_pairs(rows, labels).rows.tolist() == [[0, 5], [1, 3], [2, 5]]


def test_blocks_find_what_one_look_finds() -> None:
    """Random details in which pairs are planted, over several blocks, against all products."""
    rng = np.random.default_rng(5)
    rows = np.zeros(5000, FINGERPRINT)
    rows["detail"] = np.clip(rng.normal(0, 24, (5000, 32, 32)), -96, 96)
    planted = rng.permutation(5000)[:80].reshape(40, 2)
    for a, b in planted:
        noisy = rows["detail"][a] + rng.normal(0, 6, (32, 32))
        rows["detail"][b] = np.clip(noisy, -96, 96)
    expected = sorted(sorted(pair) for pair in planted.tolist())
    assert near_pairs(rows).rows.tolist() == expected
    labels = ["ab"[k % 2] for k in range(5000)]
    across = [[a, b] for a, b in expected if labels[a] != labels[b]]
    assert near_pairs(rows, labels).rows.tolist() == across


def test_the_search_ends_at_its_limit() -> None:
    rows = np.repeat(table(film(0)), 90)
    pairs = near_pairs(rows, limit=1000)
    assert len(pairs.rows) == 1000
    assert not pairs.complete
    assert near_pairs(rows[:0]).rows.shape == (0, 2)
    assert near_pairs(rows[:1], ["train"]).rows.shape == (0, 2)


def test_a_mapped_file_will_do(tmp_path: Path) -> None:
    np.save(tmp_path / "fingerprints.npy", table(film(0), film(1), film(0)))
    mapped = np.load(tmp_path / "fingerprints.npy", mmap_mode="r")
    assert mapped.dtype == FINGERPRINT
    assert near_pairs(mapped).rows.tolist() == [[0, 2]]


def test_planted_copies_of_real_images_are_found_and_others_are_not(shared_data: Path) -> None:
    """A small part of benchmarks/duplicates_bench.py: chest films, which all look alike."""
    folder = shared_data / "radiology-open" / "images"
    paths = sorted(folder.glob("mhh_*"))[:60]
    images = [Image.open(path).copy() for path in paths]
    rng = np.random.default_rng(0)
    copies = [
        encoded(
            image.resize([round(side * rng.uniform(0.5, 1.5)) for side in image.size]).point(
                [min(255, round(1.1 * value + 10)) for value in range(256)] * len(image.getbands())
            ),
            "JPEG",
            quality=int(rng.integers(30, 91)),
        )
        for image in images
    ]
    rows = near_pairs(table(*images, *copies), ["train"] * 60 + ["test"] * 60).rows.tolist()
    assert sum([k, k + 60] in rows for k in range(60)) >= 59
    assert sum(a + 60 != b for a, b in rows) == 0

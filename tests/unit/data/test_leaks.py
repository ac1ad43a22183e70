from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medblip.data.duplicates import FINGERPRINT, fingerprint
from medblip.data.leaks import Leak, find_leaks
from medblip.errors import DataError
from medblip.schema import Example, Split


def row(name: str, split: Split, caption: str | None = None, **more: str) -> Example:
    return Example(
        id=name, image=f"{name}.png", split=split, captions=(caption or f"Film {name}.",), **more
    )


def picture(seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 255, (20, 20), dtype=np.uint8))
    return coarse.resize((200, 200), Image.Resampling.BICUBIC)


def table(images: list[Image.Image]) -> np.ndarray:
    return np.frombuffer(b"".join(map(fingerprint, images)), FINGERPRINT)


def test_a_clean_data_set_has_none() -> None:
    rows = [row("a", "train", group="p1"), row("b", "train", group="p1"), row("c", "test")]
    leaks = find_leaks(rows, table([picture(k) for k in range(3)]))
    assert leaks.compared == 3
    for field in dataclasses.fields(leaks):
        if isinstance(value := getattr(leaks, field.name), Leak):
            assert value == Leak(), field.name


def test_groups_and_articles() -> None:
    rows = [
        row("a", "train", group="p1", source="PMC123"),
        row("b", "test", group="p1", source="https://www.ncbi.nlm.nih.gov/pmc/PMC999/"),
        row("c", "validation", source="figure 2 of pmc123."),
        row("d", "train", group="p2", source="Our hospital"),
        row("e", "test", source="Our hospital"),
        row("f", "train", source="doi 10.1000/xyz.7"),
        row("g", "train", source="10.1000/XYZ.7"),
    ]
    leaks = find_leaks(rows)
    assert leaks.groups == Leak(cases=1, images=2, held_out=1, first=(("a", "b"),))
    assert leaks.articles == Leak(cases=1, images=2, held_out=1, first=(("a", "c"),))
    assert leaks.compared == 0


def test_pictures() -> None:
    one, two, three = picture(1), picture(2), picture(3)
    dimmed = two.point([value // 2 + 40 for value in range(256)])
    rows = [
        row("a", "train"), row("b", "test"), row("c", "test"),  # equal pixels, b and c in one split
        row("d", "train"), row("e", "validation"),  # the same but for brightness
        row("f", "train"), row("g", "train"),  # equal, in one split
    ]  # fmt: skip
    leaks = find_leaks(rows, table([one, one, one, two, dimmed, three, three]))
    assert leaks.copies == Leak(cases=1, images=3, held_out=2, first=(("a", "b", "c"),))
    assert leaks.near_copies == Leak(cases=1, images=2, held_out=1, first=(("d", "e"),))
    assert leaks.copies_within == Leak(
        cases=2, images=4, held_out=2, first=(("b", "c"), ("f", "g"))
    )
    assert leaks.complete


def test_captions() -> None:
    rows = [
        row("a", "train", "No  effusion.\n"), row("b", "test", "no EFFUSION."),
        row("c", "train", "Gas."), row("d", "train", "Gas."), row("e", "test", "A cyst."),
    ]  # fmt: skip
    twice = dataclasses.replace(rows[4], id="f", captions=("Stone.", "Stone."))
    leaks = find_leaks([*rows, twice])
    assert leaks.captions == Leak(cases=1, images=2, held_out=1, first=(("a", "b"),))
    assert leaks.captions_within == Leak(cases=1, images=2, first=(("c", "d"),))


def test_few_are_named_and_each_split_has_its_turn() -> None:
    rows = [row(f"t{k}", "train", "Film.") for k in range(9)] + [row("x", "test", "Film.")]
    assert find_leaks(rows).captions.first == (("t0", "x", "t1", "t2", "t3", "t4"),)
    many = [row(f"{s}{k}", s, f"Film {k}.") for k in range(30) for s in ("train", "test")]
    found = find_leaks(many).captions
    assert (found.cases, found.images, found.held_out, len(found.first)) == (30, 60, 30, 10)


def test_a_thousand_copies_are_one_case() -> None:
    images = [picture(1)] * 1200
    rows = [row(f"i{k}", "train" if k % 2 else "test") for k in range(1200)]
    leaks = find_leaks(rows, table(images))
    assert leaks.copies.cases == 1
    assert leaks.copies.images == 1200
    assert leaks.near_copies == Leak()


def test_the_record_is_json() -> None:
    leaks = find_leaks([row("a", "train", group="p"), row("b", "test", group="p")], None)
    assert json.loads(json.dumps(dataclasses.asdict(leaks)))["groups"]["cases"] == 1


def test_fingerprints_of_another_manifest_are_refused() -> None:
    with pytest.raises(DataError, match="2, one per row"):
        find_leaks([row("a", "train"), row("b", "test")], np.zeros(3, FINGERPRINT))


def test_published_splits_of_roco_share_articles(shared_data: Path) -> None:
    rows = []
    for split in ("validation", "test"):
        path = shared_data / "roco-v1" / split / "radiology" / "licences.txt"
        with path.open(encoding="utf-8", newline="") as file:
            for name, article, _ in list(csv.reader(file))[1:]:
                rows.append(row(name, split, group=article.split("_")[0]))
    leak = find_leaks(rows).groups
    assert (leak.cases, leak.images) == (1195, 2898)

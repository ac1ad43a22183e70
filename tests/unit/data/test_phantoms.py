"""Phantoms: image, facts, masks and caption agree; the bytes depend on the seed alone."""

from __future__ import annotations

import collections
import hashlib
import json
import re
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from medblip.data.phantoms import decode_mask, encode_mask, vocabulary
from medblip.data.phantoms.captions import write_caption
from medblip.data.phantoms.generate import generate, render
from medblip.data.phantoms.plan import STUDIES, sample
from medblip.errors import DataError
from medblip.lexicon import lexicon
from medblip.schema import SPLITS, read_examples

Phantom = tuple[np.ndarray, dict[str, Any], str]


@pytest.fixture(scope="module")
def phantoms() -> list[Phantom]:
    """Draw 1,200 phantoms of 64 pixels."""
    return [render(3, index, 64) for index in range(1200)]


def digest(folder: Path) -> dict[str, str]:
    """Hash every file of a folder."""
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def test_same_seed_same_bytes_for_any_number_of_workers(tmp_path: Path) -> None:
    one = generate(tmp_path / "one", images=130, seed=5, size=64, workers=1)
    two = generate(tmp_path / "two", images=130, seed=5, size=64, workers=2)
    assert digest(one) == digest(two)
    assert len(digest(one)) == 130 + 4


def test_another_seed_gives_other_images_and_captions(tmp_path: Path) -> None:
    one = digest(generate(tmp_path / "one", images=20, seed=5, size=64))
    two = digest(generate(tmp_path / "two", images=20, seed=6, size=64))
    images = [name for name in one if name.endswith(".png")]
    assert all(one[name] != two[name] for name in images)
    assert one["manifest.jsonl"] != two["manifest.jsonl"]


def test_a_phantom_depends_on_seed_and_index_alone() -> None:
    before = render(3, 8, 64)
    render(4, 8, 64)
    after = render(3, 8, 64)
    assert np.array_equal(before[0], after[0])
    assert before[1:] == after[1:]
    assert not np.array_equal(before[0], render(3, 9, 64)[0])


def test_the_data_set_reads_back(tmp_path: Path) -> None:
    folder = generate(tmp_path / "data", images=50, seed=1, size=96)
    examples = read_examples(folder / "manifest.jsonl")
    assert collections.Counter(e.split for e in examples) == dict(
        zip(SPLITS, (40, 5, 5), strict=True)
    )
    assert len({example.group for example in examples}) == 50
    for index, example in enumerate(examples):
        with Image.open(folder / example.image) as image:
            assert (image.mode, image.size) == ("L", (96, 96))
            pixels, facts, caption = render(1, index, 96)
            assert np.array_equal(np.asarray(image), pixels)
        assert example.facts == json.loads(json.dumps(facts))
        assert example.captions == (caption,)
    assert (folder / "rejects.jsonl").read_text() == ""
    stats = json.loads((folder / "stats.json").read_text())
    assert stats["images"] == sum(stats["modalities"].values()) == 50


def test_all_modalities_regions_and_findings_occur(phantoms: list[Phantom]) -> None:
    facts = [phantom[1] for phantom in phantoms]
    assert {f["modality"] for f in facts} == set(lexicon().names("modality"))
    assert {f["region"] for f in facts} == set(lexicon().names("region"))
    found = collections.Counter(finding["name"] for f in facts for finding in f["findings"])
    assert set(found) == set(lexicon().names("finding"))
    assert len(found) >= 12
    assert min(found.values()) >= 10
    devices = {device["name"] for f in facts for device in f["devices"]}
    assert devices == set(lexicon().names("device"))


def test_shares_of_normal_single_and_double_findings(phantoms: list[Phantom]) -> None:
    shares = np.bincount([len(f["findings"]) for _, f, _ in phantoms], minlength=3) / len(phantoms)
    assert shares == pytest.approx([0.18, 0.78, 0.04], abs=0.035)
    chest = [f for _, f, _ in phantoms if (f["region"], f["modality"]) == ("chest", "X-ray")]
    assert 0.04 < np.mean([len(f["devices"]) for f in chest]) < 0.17


def test_left_and_right_are_balanced(phantoms: list[Phantom]) -> None:
    sides = collections.Counter(x["side"] for _, f, _ in phantoms for x in f["findings"])
    assert 0.45 < sides["left"] / (sides["left"] + sides["right"]) < 0.55
    assert set(sides) == {"left", "right", "bilateral", None}


def test_masks_lie_on_the_side_they_claim(phantoms: list[Phantom]) -> None:
    """The patient's right is the image's left; hands are told apart by the thumb instead."""
    checked = 0
    for _, facts, caption in phantoms:
        for finding in facts["findings"]:
            mask = decode_mask(finding["mask"])
            assert mask.shape == (64, 64)
            assert mask.any(), (finding["name"], caption)
            right = mask[:, :32].sum() / mask.sum()  # the patient's right
            if finding["side"] == "bilateral":
                assert 0.2 < right < 0.8, caption
            elif finding["side"] is not None and facts["region"] != "hand":
                # a shift is small and the pose moves the midline itself
                least = 0.5 if finding["name"] == "midline shift" else 0.9
                share = right if finding["side"] == "right" else 1 - right
                assert share >= least, caption
                checked += 1
    assert checked > 500


def test_findings_are_large_enough_to_see(phantoms: list[Phantom]) -> None:
    """The smallest finding spans 10 of 128 pixels."""
    for _, facts, caption in phantoms:
        for finding in facts["findings"]:
            mask = decode_mask(finding["mask"])
            width = max(
                np.ptp(np.flatnonzero(mask.any(axis=0))), np.ptp(np.flatnonzero(mask.any(axis=1)))
            )
            assert width + 1 >= 5, caption  # at 64 pixels


def test_a_finding_changes_the_pixels_of_its_mask() -> None:
    """Bright and dark findings stand out from the opposite side of the same image."""
    differences: dict[str, list[float]] = {"haemorrhage": [], "infarct": [], "nodule": []}
    for index in range(700):
        image, facts, _ = render(12, index, 64)
        if facts["modality"] != "CT" or len(facts["findings"]) != 1:
            continue
        finding = facts["findings"][0]
        if finding["name"] in differences:
            mask = decode_mask(finding["mask"])
            inside, mirrored = image[mask].mean(), image[mask[:, ::-1]].mean()
            differences[finding["name"]].append(float(inside - mirrored))
    assert min(differences["haemorrhage"]) > 20
    assert max(differences["infarct"]) < 0
    assert min(differences["nodule"]) > 20


def test_no_two_images_look_alike(phantoms: list[Phantom]) -> None:
    """Noise, contrast and pose differ: normal heads do not match each other as templates."""
    heads = [
        p.astype(float).ravel()
        for p, f, _ in phantoms
        if f["region"] == "head" and f["modality"] == "CT" and not f["findings"]
    ]
    correlation = np.corrcoef(np.stack(heads))
    assert np.abs(correlation - np.eye(len(heads))).max() < 0.99


def test_captions_have_the_length_of_legends(phantoms: list[Phantom]) -> None:
    lengths = [len(caption.split()) for *_, caption in phantoms]
    assert 14 <= statistics.median(lengths) <= 18
    assert min(lengths) >= 8
    assert max(lengths) <= 30


def test_one_fact_set_has_many_wordings() -> None:
    for spec in STUDIES:
        study = next(
            study
            for seed in range(400)
            if (study := sample(np.random.default_rng(seed))).spec is spec and study.findings
        )
        wordings = {write_caption(study, np.random.default_rng(seed)) for seed in range(40)}
        assert len(wordings) >= 20, spec.view


def test_captions_are_sentences_without_slots(phantoms: list[Phantom]) -> None:
    for *_, caption in phantoms:
        assert caption[0].isupper() or caption[0].isdigit()
        assert caption.endswith(".")
        assert not re.search(r"[{}]|  | [,.;:]|\ba [aeiou]|\ban [bcdfgjklpqrstvwyz]", caption), (
            caption
        )


def test_negatives_never_name_a_finding_that_is_there(phantoms: list[Phantom]) -> None:
    denied = re.compile(r"(?:\bno|\bNo|\bwithout|evidence of|sign of) ([a-z -]+)")
    seen = 0
    for _, facts, caption in phantoms:
        present = {finding["name"] for finding in facts["findings"]}
        for scope in denied.findall(caption):
            for name in re.split(r" or ", scope.split(" but ")[0]):
                seen += 1
                assert name.strip() not in present, caption
    assert seen > 300


def test_the_vocabulary_is_complete_and_modest(phantoms: list[Phantom]) -> None:
    known = vocabulary()
    assert known == sorted(set(known))
    assert len(known) <= 350
    used = {word for *_, c in phantoms for word in re.findall(r"[^\W_]+", c.lower())}
    assert used <= set(known)
    assert len(set(known) - used) < 25


def test_hands_follow_the_thumb() -> None:
    """Seen from its back, a left hand has more soft tissue on the thumb's side, image right."""
    for index in range(900):
        image, facts, _ = render(2, index, 64)
        if facts["region"] == "hand" and facts["findings"]:
            columns = np.flatnonzero((image[28:40] > 40).mean(axis=0) > 0.25)
            forearm = np.flatnonzero((image[60:] > image.mean()).mean(axis=0) > 0.5).mean()
            thumb_right = columns.max() - forearm > forearm - columns.min()
            assert thumb_right == (facts["findings"][0]["side"] == "left")


@pytest.mark.parametrize(
    ("change", "fragment"),
    [
        ({"images": 9}, "--images 9"),
        ({"size": 32}, "--size 32"),
        ({"size": 4096}, "--size 4096"),
        ({"workers": 0}, "1 or more"),
    ],
)
def test_numbers_out_of_range_are_refused(
    tmp_path: Path, change: dict[str, int], fragment: str
) -> None:
    with pytest.raises(DataError, match=fragment) as error:
        generate(tmp_path / "data", **({"images": 10, "size": 64} | change))
    assert "expected:" in str(error.value)
    assert "do:" in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_kept_unless_forced(tmp_path: Path) -> None:
    folder = generate(tmp_path / "data", images=10, seed=1, size=64)
    before = digest(folder)
    with pytest.raises(DataError, match="exists already"):
        generate(folder, images=10, seed=2, size=64)
    assert digest(folder) == before
    generate(folder, images=12, seed=2, size=64, force=True)
    assert len(read_examples(folder / "manifest.jsonl")) == 12


def test_an_interrupted_run_leaves_the_old_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = generate(tmp_path / "data", images=10, seed=1, size=64)
    before = digest(folder)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("medblip.data.phantoms.generate.render", interrupted)
    with pytest.raises(KeyboardInterrupt):
        generate(folder, images=10, seed=2, size=64, force=True)
    assert digest(folder) == before
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@given(hnp.arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12))))
@settings(max_examples=60, deadline=None)
def test_masks_survive_encoding(mask: np.ndarray) -> None:
    encoded = json.loads(json.dumps(encode_mask(mask)))
    assert sum(encoded["counts"]) == mask.size
    assert np.array_equal(decode_mask(encoded), mask)


def test_masks_follow_coco() -> None:
    """Column-major, zeros first; a mask that begins with a one begins with a zero count."""
    assert encode_mask(np.array([[0, 1, 0], [0, 1, 1]], bool))["counts"] == [2, 2, 1, 1]
    assert encode_mask(np.array([[1, 1], [0, 1]], bool))["counts"] == [0, 1, 1, 2]
    with pytest.raises(DataError, match="damaged mask"):
        decode_mask({"size": [2, 2], "counts": [3]})


def test_neither_torch_nor_transformers_is_imported() -> None:
    code = (
        "import sys, medblip.data.phantoms.generate, medblip.metrics.facts;"
        "print([m for m in ('torch', 'transformers', 'matplotlib') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"

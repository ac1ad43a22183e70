"""Captioners that look and captioners that do not, told apart; and the files of real runs."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from published import published
from torch import nn
from typer.testing import CliRunner

import medblip
from medblip.cli import app
from medblip.config import BUNDLED, ModelConfig
from medblip.data.phantoms.masks import encode_mask
from medblip.errors import ConfigError, MetricError, RunError
from medblip.files import read_json, write_text
from medblip.models.blip import BlipCaptioner
from medblip.models.captioner import load_captioner
from medblip.models.maps import Replay
from medblip.models.views import described
from medblip.rundir import RunDir
from medblip.schema import Example, Prediction, dump_jsonl
from medblip.stages.explain.conclusions import compared_sentences, sentences, verdict
from medblip.stages.explain.curves import (
    FRACTIONS,
    Reader,
    blurred,
    order_of,
    passes,
    shown,
)
from medblip.stages.explain.faithfulness import compare_faithfulness, faithfulness
from medblip.stages.explain.look import View
from medblip.stages.explain.measured import ImageMeasures, measure_images
from medblip.stages.explain.opened import Opened

GRID, SIDE = (4, 4), 32
CAPTION = "a bright nodule"


class Handmade:
    """Says `a bright nodule`; its words are as likely as the brightest patch is bright.

    Args:
        looks: Whether attention goes to the brightest patch; else it is noise.
    """

    image_size, image_resample = (SIDE, SIDE), "bicubic"
    image_mean, image_std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    device = torch.device("cpu")

    def __init__(self, looks: bool) -> None:
        self.looks, self.encoded = looks, 0
        self.network = nn.Module()
        self.network.text = nn.Linear(16, 16, bias=False)
        self.network.text.weight.data = torch.eye(16)

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        self.encoded += len(pixels)
        patches = pixels.mean(1).view(len(pixels), 4, 8, 4, 8).mean((2, 4))
        return patches.flatten(1)[..., None]  # (B, P, 1)

    def caption_logprobs(
        self, embeds: torch.Tensor, captions: Sequence[str | Sequence[str]]
    ) -> list[torch.Tensor]:
        top = embeds[..., 0].amax(1)
        return [torch.stack([-one * 0, -5 + 5 * one, -5 + 5 * one, one * 0]) for one in top]

    def replay(
        self, embeds: torch.Tensor, captions: Sequence[str | Sequence[str]], *,
        gradients: bool = False,
    ) -> list[Replay]:  # fmt: skip
        found = []
        for one, caption in zip(embeds, captions, strict=True):
            words = caption.split() if isinstance(caption, str) else list(caption)
            asks = one[:, 0]
            if not self.looks:
                rng = torch.Generator().manual_seed(int(one.sum() * 1e4))
                asks = torch.rand(16, generator=rng)
            with torch.no_grad():
                row = self.network.text(asks).mul(20).softmax(0)
            found.append(
                Replay(
                    pieces=tuple(words), words=tuple(words), grid=GRID,
                    spans=tuple((at, at + 1) for at in range(len(words))),
                    logprobs=torch.zeros(len(words)),
                    cross=row.expand(1, 1, len(words), 16).clone(),
                )
            )  # fmt: skip
        return found


def opened(captioner: Any, folder: Path, count: int = 30) -> Opened:
    """Draw images with one bright patch each; its mask is the finding's."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(exist_ok=True)
    examples = []
    for index in range(count):
        row, column = (int(one) for one in rng.integers(0, 4, 2))
        mask = np.zeros((SIDE, SIDE), dtype=bool)
        mask[row * 8 : row * 8 + 8, column * 8 : column * 8 + 8] = True
        pixels = rng.integers(0, 40, (SIDE, SIDE)).astype(np.uint8)
        pixels[mask] = 255
        Image.fromarray(pixels).save(folder / "images" / f"{index}.png")
        finding = {"name": "nodule", "mask": encode_mask(mask)}
        examples.append(
            Example(id=f"i{index}", image=f"images/{index}.png", split="test",
                    captions=("a nodule and no fracture",), facts={"findings": [finding]})
        )  # fmt: skip
    write_text(folder / "manifest.jsonl", dump_jsonl(examples))
    made = [Prediction(id=one.id, caption=CAPTION) for one in examples]
    return Opened(
        folder=RunDir(folder / "run"), root=folder, captioner=captioner, examples=examples,
        made=made,
    )  # fmt: skip


def total(found: list[ImageMeasures], measure: str, kind: str) -> float:
    sums = np.array([one.sums[measure, kind] for one in found]).sum(0)
    return float(sums[0] / sums[1])


def test_a_captioner_that_looks_is_seen_to_look(tmp_path: Path) -> None:
    captioner = Handmade(looks=True)
    found = list(measure_images(opened(captioner, tmp_path), View(), 0.0, 0))
    assert total(found, "pointing-game", "attention") == 1.0
    assert total(found, "own-pointing-game", "attention") == 1.0
    assert total(found, "found-and-pointed", "attention") == 1.0
    assert total(found, "mass-in-mask", "attention") > 0.99
    assert total(found, "pointing-game", "random") == pytest.approx(1 / 16)
    assert total(found, "mass-in-mask", "random") == pytest.approx(1 / 16)
    # the first fraction that blurs a patch (0.05 of 16 is one) takes nearly all there is
    assert total(found, "deletion", "attention") < 0.15
    assert total(found, "insertion", "attention") > 0.85
    assert 0.35 < total(found, "deletion", "random") < 0.65
    assert 0.35 < total(found, "insertion", "random") < 0.65
    curve = sum(one.curves["deletion", "attention"] for one in found)
    curve = curve / sum(one.falls for one in found)
    assert curve[[0, -1]] == pytest.approx([1, 0])
    assert curve[1] < 0.2
    assert total(found, "pointing-game", "randomised-weights") < 0.3
    assert abs(total(found, "similarity", "randomised-weights")) < 0.5
    assert abs(total(found, "similarity", "random")) < 0.2
    assert torch.equal(captioner.network.text.weight, torch.eye(16)), "the original was changed"


@pytest.mark.parametrize("name", ["vit-gpt2", "blip2-opt-2.7b", "llava"])
def test_every_kind_of_captioner_is_measured(name: str, tmp_path: Path) -> None:
    captioner = load_captioner(ModelConfig(name=str(published(name, tmp_path / name))))
    made = opened(captioner, tmp_path, 2)
    passed: list[int] = []
    encode = captioner.encode
    captioner.encode = lambda x: (passed.append(len(x)), encode(x))[1]  # type: ignore[method-assign]
    found = list(measure_images(made, View(), 0.5, 0))
    assert sum(passed) == sum(one.passes for one in found) <= 2 * passes(3, 2)
    assert sum(one.words_read for one in found) > 0
    assert [(one.named, one.missed) for one in found] == [(1, 0)] * 2
    for one in (one for one in found if one.words_read):
        for kind in ("attention", "random", "centre"):
            gone, come = (one.curves[measure, kind] for measure in ("deletion", "insertion"))
            np.testing.assert_allclose(gone[[0, -1]], [one.falls, 0])
            np.testing.assert_allclose(come[[0, -1]], [0, one.falls])
            assert np.isfinite([gone, come]).all()


def test_normal_images_have_nothing_to_point_at(tmp_path: Path) -> None:
    made = opened(Handmade(looks=True), tmp_path, 3)
    normal = [dataclasses.replace(one, facts={"findings": []}) for one in made.examples]
    found = list(measure_images(dataclasses.replace(made, examples=normal), View(), 0.0, 0))
    assert [one.sums["pointing-game", "attention"] for one in found] == [(0.0, 0.0)] * 3
    assert [one.sums["found-and-pointed", "attention"] for one in found] == [(0.0, 0.0)] * 3
    assert [one.own_false for one in found] == [1, 1, 1], "the nodule that it names is not there"


def test_a_finding_that_no_word_names_is_counted(tmp_path: Path) -> None:
    made = opened(Handmade(looks=True), tmp_path, 2)
    (finding,) = made.examples[0].facts["findings"]  # type: ignore[index]
    facts = {"findings": [finding, finding | {"name": "gallstone"}]}
    made.examples[0] = dataclasses.replace(made.examples[0], facts=facts)
    first, second = measure_images(made, View(), 0.0, 0)
    assert (first.named, first.missed) == (1, 1)
    assert (second.named, second.missed) == (1, 0)
    # it names and points at one of two
    assert first.sums["found-and-pointed", "attention"] == (1.0, 2.0)


def test_a_captioner_that_looks_nowhere_is_no_better_than_random(tmp_path: Path) -> None:
    run = write_run(Handmade(looks=False), tmp_path)
    record = run[0]
    by = {(t["measure"], t["baseline"]): t for t in record["tests"]}
    assert verdict(by["pointing-game", "random"]) != "better"
    assert verdict(by["deletion", "random"]) != "better"
    assert verdict(by["insertion", "random"]) != "better"
    text = " ".join(record["conclusions"])
    assert "not better than random by more than chance" in text
    assert text.count("no explanation of the word") == 2
    looking = " ".join(write_run(Handmade(looks=True), tmp_path)[0]["conclusions"])
    assert "better than the centre prior by more than chance" in looking
    assert "not better" not in looking
    assert looking.count("the map marks what the word needs") == 2
    assert "they depend on what was learned" in looking


def write_run(captioner: Any, folder: Path, **more: Any) -> tuple[dict[str, Any], Path]:
    """Run the stage on a handmade captioner."""
    made = opened(captioner, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("medblip.stages.explain.faithfulness.open_run", lambda *_, **__: made)
        made.folder.path.mkdir(exist_ok=True)
        result = faithfulness(made.folder.path, **more)
    return read_json(Path(result.faithfulness_file)), Path(result.faithfulness_file)


def test_the_file_holds_what_readers_expect(tmp_path: Path) -> None:
    captioner = Handmade(looks=True)
    record, file = write_run(captioner, tmp_path)
    assert file == tmp_path / "run" / "maps" / "test.faithfulness.json"
    assert record.keys() >= {"split", "view", "n", "words", "seed", "maps", "measures", "tests",
                             "curves", "conclusions"}  # fmt: skip
    assert record["maps"] == ["attention", "random", "centre", "randomised-weights"]
    assert (record["n"], record["words"]) == (30, 60)  # bright, nodule
    for row in record["measures"]:
        assert row.keys() == {"measure", "map", "value", "ci", "n"}
        assert row["ci"][0] - 1e-9 <= row["value"] <= row["ci"][1] + 1e-9
    for row in record["tests"]:
        assert row.keys() == {"measure", "map", "baseline", "difference", "ci", "p", "n",
                              "differ", "p_holm"}  # fmt: skip
    curves = record["curves"]
    assert curves["fractions"] == list(FRACTIONS)
    assert set(curves["deletion"]) == set(curves["insertion"]) == {"attention", "random", "centre"}
    assert all(len(one) == len(FRACTIONS) for one in curves["deletion"].values())
    assert record["reference"] == {"named": 30, "missed": 0}
    assert record["own_caption"]["named"] == 30
    assert record["own_caption"]["false"] == 0
    # what was counted is what the encoder did, and no more than what is announced
    assert captioner.encoded == record["encoder_passes"]
    assert record["encoder_passes"] <= 30 * passes(3, 2)
    assert json.loads(file.read_text())["schema_version"] == 1


def test_before_and_after_are_compared_on_the_same_images(tmp_path: Path) -> None:
    runs = []
    for looks in (False, True):
        folder = tmp_path / str(looks)
        folder.mkdir()
        runs.append(write_run(Handmade(looks), folder)[1].parent.parent)
    found = compare_faithfulness(runs[1], runs[0])
    rows = {row["measure"]: row for row in found.rows}
    assert rows["pointing-game"]["value"] == 1.0
    assert verdict(rows["pointing-game"]) == verdict(rows["deletion"]) == "better"
    assert any(one.startswith("pointing game: run 1.000") for one in found.conclusions)
    assert all(row["difference"] == 0 for row in compare_faithfulness(runs[0], runs[0]).rows)
    with pytest.raises(RunError, match="add --force to replace it"):
        write_run(Handmade(True), tmp_path / "True", tolerance=0.0)
    write_run(Handmade(True), tmp_path / "True", tolerance=0.0, force=True)
    with pytest.raises(MetricError, match="not computed in the same way"):
        compare_faithfulness(runs[1], runs[0])
    with pytest.raises(RunError, match="were not measured"):
        compare_faithfulness(runs[1], tmp_path)


def test_blur_is_a_gaussian_with_mirrored_edges() -> None:
    image = torch.rand(1, 2, 16, 16, generator=torch.Generator().manual_seed(0))
    soft = blurred(image)[0, 1].numpy()
    steps = np.arange(-6, 7)
    weights = np.exp(-0.5 * (steps / 2) ** 2)
    weights /= weights.sum()
    padded = np.pad(image[0, 1].numpy(), 6, mode="reflect")
    slow = np.array(
        [[(padded[y : y + 13, x : x + 13] * np.outer(weights, weights)).sum() for x in range(16)]
         for y in range(16)]
    )  # fmt: skip
    np.testing.assert_allclose(soft, slow, atol=1e-6)
    flat = torch.full((1, 3, 24, 16), 0.7)
    torch.testing.assert_close(blurred(flat), flat)


def test_patches_go_and_come_in_order() -> None:
    heat = np.array([[0.1, 0.4], [0.2, 0.2]])
    order = order_of(heat, np.random.default_rng(0))
    assert order[[0, 3]].tolist() == [1, 0]
    gone, come = shown(order, insertion=False), shown(order, insertion=True)
    assert gone.sum(1)[[0, -1]].tolist() == [4, 0]
    assert come.sum(1)[[0, -1]].tolist() == [0, 4]
    assert np.array_equal(gone, ~come)
    half = FRACTIONS.index(0.5)
    assert gone[half].sum() == 2
    assert not gone[half][1]
    firsts = {tuple(order_of(heat, np.random.default_rng(seed))[1:3]) for seed in range(20)}
    assert firsts == {(2, 3), (3, 2)}, "ties are broken at random"


def test_reading_under_patches_is_reading_each_image_alone(
    captioner: BlipCaptioner, pixels: torch.Tensor
) -> None:
    soft = blurred(pixels[:1])
    text = "left pleural effusion"
    reader = Reader(captioner, pixels[0], soft[0], text, [(1, 2), (2, 4)], (4, 4))
    sets = np.random.default_rng(0).random((9, 16)) < 0.5
    sets[5] = sets[2]
    sets[0], sets[1] = True, False
    calls: list[int] = []
    encode = captioner.encode
    captioner.encode = lambda x: (calls.append(len(x)), encode(x))[1]  # type: ignore[method-assign]
    got = reader.read(sets)
    assert sum(calls) == 8, "equal images are encoded once"
    for row, one in enumerate(sets):
        image = soft.clone()
        for patch in np.flatnonzero(one):
            y, x = divmod(int(patch), 4)
            image[:, :, y * 8 : y * 8 + 8, x * 8 : x * 8 + 8] = pixels[
                :1, :, y * 8 : y * 8 + 8, x * 8 : x * 8 + 8
            ]
        (pieces,) = captioner.caption_logprobs(encode(image), [text])
        expected = [float(pieces[1]), float(pieces[2] + pieces[3])]
        np.testing.assert_allclose(got[row], expected, atol=1e-5)


def record(count: int = 9, **values: tuple[float, float]) -> dict[str, Any]:
    """Return a file: `measure__baseline` or `measure__map__baseline` = (difference, p)."""
    kinds = ("attention", "random", "centre", "randomised-weights")
    rows = [
        {"measure": measure, "map": kind, "value": 0.5, "ci": [0.4, 0.6], "n": 9}
        for measure in ("pointing-game", "mass-in-mask", "deletion", "insertion", "similarity")
        for kind in kinds
    ]
    tests = [
        {"measure": parts[0], "map": "attention" if len(parts) == 2 else parts[1], "p_holm": p,
         "p": p, "baseline": parts[-1], "difference": difference, "n": count, "differ": count}
        for name, (difference, p) in values.items()
        if (parts := name.replace("_", "-").split("--"))
    ]  # fmt: skip
    own = [{"measure": m, "map": "attention", "value": 0.25, "ci": [0.1, 0.4], "n": 4}
           for m in ("pointing-game", "found-and-pointed")]  # fmt: skip
    return {
        "split": "test", "view": "last layer", "n": 9, "measures": rows, "tests": tests,
        "tolerance": "none", "reference": {"named": 12, "missed": 0},
        "own_caption": {"named": 4, "false": 3, "measures": own},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"pointing_game__centre": (0.2, 0.01)}, ", and better than the centre prior by more than"),
        ({"pointing_game__centre": (0.2, 0.06)}, "not better than the centre prior by more than"),
        ({"pointing_game__centre": (-0.2, 0.01)}, ", and worse than the centre prior by more than"),
        ({"pointing_game__centre": (0.2, 0.01)}, "by more than chance (p = 0.01, 9 images)"),
        ({"deletion__random": (-0.2, 0.01), "deletion__centre": (-0.1, 0.01)},
         "faster than from the centre (p = 0.01, 9 images): the map marks"),
        ({"deletion__random": (-0.2, 0.01), "deletion__centre": (0.1, 0.01)},
         "slower than from the centre"),
        ({"deletion__random": (-0.2, 0.01), "deletion__centre": (0.1, 0.3)}, "is not shown"),
        ({"deletion__random": (-0.2, 0.2)}, "Deleting what a word's map marks lowers the word's "
         "log-probability no faster than at random"),
        ({"deletion__random": (0.2, 0.01)}, "slower than at random"),
        ({"insertion__random": (0.2, 0.01), "insertion__centre": (0.1, 0.01)},
         "Inserting what a map marks raises the word's log-probability faster than at random"),
        ({"insertion__random": (-0.2, 0.01)}, "Inserting what a map marks raises the word's "
         "log-probability slower than at random"),
    ],
)  # fmt: skip
def test_sentences_say_what_the_figures_say(
    values: dict[str, tuple[float, float]], expected: str
) -> None:
    text = " ".join(sentences(record(**values)))
    assert expected in text
    opposite = " ".join(sentences(record()))
    assert ("not " in expected or "no faster" in expected) or expected not in opposite


@pytest.mark.parametrize(
    ("learned", "left", "expected"),
    [
        ((0.2, 0.01), (0.2, 0.01), ["more by more than chance (p = 0.01, 9 images), so that part "
         "of the pointing was learned", "still more by more than chance (p = 0.01, 9 images), so "
         "part of the pointing is there without what the decoder learned"]),
        ((0.2, 0.01), (0.1, 0.2), ["was learned", "is there without what the decoder learned is "
         "not shown"]),
        ((0.1, 0.2), (0.2, 0.01), ["that the decoder learned to point is not shown", "still more"]),
        ((-0.1, 0.01), (-0.1, 0.01), ["takes the maps off", "none of the pointing is there"]),
    ],
)  # fmt: skip
def test_shuffled_weights_are_told_in_both_directions(
    learned: tuple[float, float], left: tuple[float, float], expected: list[str]
) -> None:
    made = {"pointing_game__randomised_weights": learned,
            "pointing_game__randomised_weights__random": left}  # fmt: skip
    said = " ".join(one for one in sentences(record(**made)) if "decoder weights" in one)
    for part in expected:
        assert part in said
    assert said.count("0.50 [0.40, 0.60]") == 4, "own and shuffled, shuffled and random"
    few = " ".join(sentences(record(5, **made)))
    assert few.count("too few images to tell (p =") == 2
    assert "learned by the decoder" not in few


@pytest.mark.parametrize("count", [1, 5])
def test_a_few_images_prove_nothing(tmp_path: Path, count: int) -> None:
    """A bootstrap of one image draws that image 10,000 times and is sure of itself."""
    looking = opened(Handmade(looks=True), tmp_path, count)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("medblip.stages.explain.faithfulness.open_run", lambda *_, **__: looking)
        looking.folder.path.mkdir(exist_ok=True)
        made = read_json(Path(faithfulness(looking.folder.path).faithfulness_file))
    assert made["tests"]
    assert all(row["p"] >= min(1, 2 / 2**count) for row in made["tests"])
    text = " ".join(made["conclusions"])
    for verdict_ in ("by more than chance", "marks what the word needs", "no explanation",
                     ": they depend on", "was learned by"):  # fmt: skip
        assert verdict_ not in text
    assert text.count("too few images to tell") >= 6
    assert ("1 image)" if count == 1 else "5 images)") in text
    row = {"measure": "deletion", "value": 0.3, "baseline_value": 0.5, "difference": -0.2,
           "ci": [-0.3, -0.1], "n": count, "differ": count, "p_holm": 0.01, "p": 0.01}  # fmt: skip
    assert compared_sentences([row], "a", "b")[0].endswith("too few images to tell.")


@pytest.mark.parametrize(
    ("n", "differ", "p", "p_holm", "expected"),
    [(8, 8, 2 / 2**8, 0.0859, "few"),  # all 8 say the same, and 11 tests ask for more
     (8, 8, 0.1, 0.9, "unclear"), (30, 5, 1.0, 1.0, "few"), (5, 0, 1.0, 1.0, "few"),
     (30, 0, 1.0, 1.0, "unclear"), (9, 9, 2 / 2**9, 0.043, "better")],
)  # fmt: skip
def test_too_few_images_are_no_verdict(
    n: int, differ: int, p: float, p_holm: float, expected: str
) -> None:
    row = {"measure": "insertion", "difference": 0.1 * bool(differ), "n": n, "differ": differ,
           "p": p, "p_holm": p_holm}  # fmt: skip
    assert verdict(row) == expected


def test_no_sentence_is_cut_in_a_model_card() -> None:
    made = {
        f"{measure}__{kind}": (-0.2 if measure == "deletion" else 0.2, p)
        for measure in ("pointing_game", "mass_in_mask", "deletion", "insertion")
        for kind in ("random", "centre", "randomised_weights", "randomised_weights__random")
        for p in (0.0234,)
    }
    for count in (5, 10_000):
        whole = record(count, **made) | {"n": count, "tolerance": "0.5 of a patch",
                                         "view": described("gradient", 11, 11)}  # fmt: skip
        for row in whole["tests"]:
            row["differ"] = count - 1  # says how many of how many
        assert max(map(len, sentences(whole))) <= 400, "what stages/card lets through"


def test_what_the_captioner_wrote_comes_before_what_it_was_given() -> None:
    said = sentences(record())
    own = next(at for at, one in enumerate(said) if one.startswith("In its own captions"))
    given = next(at for at, one in enumerate(said) if "the references' 12 mentions" in one)
    assert own < given


def test_similarity_has_three_verdicts() -> None:
    for ci, words in (
        ([0.0, 0.2], "they depend on what was learned"),
        ([0.7, 0.9], "more than what was learned"),
        ([0.4, 0.6], "is open"),
    ):
        one = record()
        for row in one["measures"]:
            row |= {"ci": ci} if row["measure"] == "similarity" else {}
        assert words in " ".join(sentences(one))


def test_without_masks_no_word_is_said_of_pointing() -> None:
    one = record()
    masked = ("pointing-game", "mass-in-mask")
    one["measures"] = [row for row in one["measures"] if row["measure"] not in masked]
    text = " ".join(sentences(one))
    assert "was not measured" in text
    assert "point at" not in text
    assert "Phantoms" not in text
    assert "may not be concluded" in text


def test_a_comparison_says_which_way() -> None:
    row = {"measure": "deletion", "value": 0.3, "baseline_value": 0.5, "difference": -0.2,
           "ci": [-0.3, -0.1], "n": 7, "differ": 7, "p_holm": 0.02, "p": 0.02}  # fmt: skip
    said = [
        compared_sentences([row | more], "a", "b")[0]
        for more in ({}, {"difference": 0.2}, {"p_holm": 0.2})
    ]
    for text, end in zip(
        said, ("better by more than chance.", "worse by more than chance.", "beyond chance."),
        strict=True,
    ):  # fmt: skip
        assert text.endswith(end)


@pytest.fixture(scope="module")
def zero_shot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled captioner on 40 phantoms."""
    root = tmp_path_factory.mktemp("faithful")
    medblip.phantoms(root / "data", images=80, size=64)
    medblip.caption(root / "run", root / "data", model=BUNDLED)
    return root / "run"


def test_a_real_run_from_the_command_line(zero_shot: Path) -> None:
    weights = copy.deepcopy(read_json(zero_shot / "config.json"))
    result = CliRunner().invoke(
        app, ["explain", str(zero_shot), "--faithfulness", "--limit", "5", "--seed", "3", "--json"]
    )
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout.splitlines()[-1])
    first = read_json(Path(printed["faithfulness_file"]))
    assert first["n"] == printed["images"] == 5
    assert printed["conclusions"] == first["conclusions"]
    assert first["view"] == "cross-attention of the last decoder layer, mean over heads"
    assert not (zero_shot / "maps" / "test.json").exists(), "maps are not what was asked for"
    again = faithfulness(zero_shot, limit=5, seed=3)
    assert read_json(Path(again.faithfulness_file)) == first, "a function of data, run and seed"
    with pytest.raises(RunError, match=r"images there: 5 .*; asked for: 4 "):
        faithfulness(zero_shot, limit=4, seed=3)
    other = faithfulness(zero_shot, limit=5, seed=3, view="mean", force=True)
    assert read_json(Path(other.faithfulness_file))["measures"] != first["measures"]
    assert read_json(zero_shot / "config.json") == weights


def test_data_without_masks_are_measured_by_deletion_alone(zero_shot: Path) -> None:
    manifest = zero_shot.parent / "data" / "manifest.jsonl"
    before = manifest.read_text()
    rows = [json.loads(line) for line in before.splitlines()]
    write_text(
        manifest, dump_jsonl([{k: v for k, v in row.items() if k != "facts"} for row in rows])
    )
    try:
        made = read_json(Path(faithfulness(zero_shot, limit=4, force=True).faithfulness_file))
    finally:
        write_text(manifest, before)
    assert {row["measure"] for row in made["measures"]} == {"deletion", "insertion", "similarity"}
    assert "was not measured" in " ".join(made["conclusions"])


def test_what_belongs_to_named_images_is_refused(zero_shot: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        app, ["explain", str(zero_shot), "--faithfulness", "--out", str(tmp_path / "x")]
    )
    assert result.exit_code != 0
    assert isinstance(result.exception, ConfigError)
    with pytest.raises(RunError, match="no captions"):
        faithfulness(tmp_path)

"""Maps of what a captioner really wrote: over the right pixels, and no others."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from published import published
from training_runs import make_data

from medblip import config as configuration
from medblip.cli import app
from medblip.config import DecodeConfig
from medblip.errors import CheckpointError, ConfigError, DataError, MedblipError, RunError
from medblip.files import read_json, write_json
from medblip.models.blip import BlipCaptioner
from medblip.models.maps import Looks, Replay
from medblip.models.views import described
from medblip.pictures import cell_box
from medblip.rundir import RunDir
from medblip.stages.caption import caption
from medblip.stages.evaluate import evaluate
from medblip.stages.explain import Explained, explain
from medblip.stages.explain.look import Seen
from medblip.stages.explain.page import card, page
from medblip.stages.report import report
from medblip.stages.report.collect import gallery_ids

QUICK = "decode.max_new_tokens=8"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """A wide grey and a tall coloured image."""
    rng = np.random.default_rng(3)
    wide = Image.fromarray(rng.integers(0, 255, (20, 60), dtype=np.uint8))
    tall = Image.fromarray(rng.integers(0, 255, (90, 30, 3), dtype=np.uint8))
    (tmp_path / "in" / "more").mkdir(parents=True)
    paths = [tmp_path / "in" / "a.png", tmp_path / "in" / "more" / "a.png"]
    wide.save(paths[0])
    tall.save(paths[1])
    return paths


@pytest.fixture
def run(tiny_folder: Path, tmp_path: Path) -> RunDir:
    """A finished run with captions of its test split."""
    data = make_data(tmp_path / "data")
    folder = RunDir(tmp_path / "run")
    shutil.copytree(tiny_folder, folder.checkpoint)
    cfg = configuration.load(None, [f"data.root={data}", "decode.batch_size=4", QUICK])
    write_json(folder.config, configuration.dump(cfg))
    caption(folder.path, device="cpu")
    return folder


def explained(model: Path, files: list[Path], out: Path, **more: Any) -> Explained:
    return explain(model, images=files, out=out, overrides=[QUICK], device="cpu", **more)


def test_named_images_get_figure_arrays_and_page(
    tiny_folder: Path, files: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    result = explained(tiny_folder, files, out)
    assert (result.images, result.rejected) == (2, 0)
    assert sorted(path.name for path in out.iterdir()) == [
        "a-2.npz", "a-2.png", "a.npz", "a.png", "index.html", "maps.json",
    ]  # fmt: skip
    caption(tiny_folder, images=files, decode=DecodeConfig(max_new_tokens=8), device="cpu",
            out=tmp_path / "c.jsonl")  # fmt: skip
    said = [json.loads(line)["caption"] for line in (tmp_path / "c.jsonl").read_text().splitlines()]
    record = read_json(out / "maps.json")
    assert [image["caption"] for image in record["images"]] == said
    assert [image["size"] for image in record["images"]] == [[60, 20], [30, 90]]
    assert [image["id"] for image in record["images"]] == [str(path) for path in files]
    assert record["view"] == result.view
    assert record["decode"]["max_new_tokens"] == 8
    for image in record["images"]:
        with np.load(out / f"{image['file']}.npz", allow_pickle=False) as found:
            assert found["attention"].shape == (2, 4, len(found["pieces"]), 17)
            assert found["attention"].dtype == np.float32
            np.testing.assert_allclose(found["attention"].sum(-1), 1, atol=1e-5)
            assert list(found["words"]) == image["words"]
            assert str(found["caption"]) == image["caption"]
            assert list(found["size"]) == image["size"]
            assert list(found["grid"]) == record["grid"] == [4, 4]
            flat = found["maps"].reshape(len(image["words"]), -1)
            np.testing.assert_allclose(flat, image["maps"], atol=6e-6)
            first, last = found["spans"][-1]
            rows = found["attention"][-1, :, first:last, 1:].astype(float).mean((0, 1))
            np.testing.assert_allclose(flat[-1], rows / rows.sum(), atol=1e-5)
        with Image.open(out / f"{image['file']}.png") as drawn:
            assert drawn.width == 1600


def test_every_view_is_written_and_differs(
    tiny_folder: Path, files: list[Path], tmp_path: Path
) -> None:
    seen = {}
    views: list[dict[str, Any]] = [
        {}, {"view": "mean"}, {"view": "rollout"}, {"view": "gradient"}, {"layer": 0, "head": 2},
    ]  # fmt: skip
    for number, how in enumerate(views):
        explained(tiny_folder, files[:1], tmp_path / str(number), **how)
        record = read_json(tmp_path / str(number) / "maps.json")
        seen[record["view"]] = record["images"][0]["maps"]
    assert len(seen) == len(views)
    maps = [np.array(one) for one in seen.values()]
    for one in range(len(maps)):
        np.testing.assert_allclose(maps[one].sum(1), 1, atol=1e-3)
        for other in range(one):
            assert np.abs(maps[one] - maps[other]).max() > 1e-3
    with np.load(tmp_path / "3" / "a.npz", allow_pickle=False) as found:
        assert found["gradient"].shape == (1, *found["attention"].shape[1:])


@pytest.mark.parametrize("size", [(64, 64), (192, 64), (48, 160)])
def test_attention_to_the_bright_patch_lies_on_the_bright_pixels(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    """Attention made by hand: of every patch, how bright it is as the network is shown it."""

    def bright(self: BlipCaptioner, pixels: torch.Tensor) -> torch.Tensor:
        patches = pixels.mean(1).unfold(1, 8, 8).unfold(2, 8, 8).mean((-1, -2)).flatten(1)
        return torch.cat((torch.zeros(len(pixels), 1), patches), 1)[..., None].repeat(1, 1, 32)

    def looks(self: BlipCaptioner, embeds: torch.Tensor, batch: Any) -> Looks:
        length = batch.input_ids.shape[1]
        row = (20 * embeds[:, None, None, :, 0]).softmax(-1).expand(-1, 4, length, -1)
        return Looks((row,), torch.zeros(len(embeds), length, len(self.tokenizer)))

    monkeypatch.setattr(BlipCaptioner, "encode", bright)
    monkeypatch.setattr(BlipCaptioner, "_looks", looks)
    images = {}
    for cell in (1, 7, 8, 14):
        box = cell_box(cell, (4, 4), size)
        pixels = np.zeros((size[1], size[0]), np.uint8)
        pixels[int(box.top) : int(box.bottom), int(box.left) : int(box.right)] = 255
        images[cell] = tmp_path / f"{cell}.png"
        Image.fromarray(pixels).save(images[cell])
    explained(tiny_folder, list(images.values()), tmp_path / "out", caption="a nodule")
    record = read_json(tmp_path / "out" / "maps.json")
    for cell, image in zip(images, record["images"], strict=True):
        for one in image["maps"]:
            assert int(np.argmax(one)) == cell
        found = cell_box(int(np.argmax(image["maps"][0])), tuple(record["grid"]), image["size"])
        whole = np.asarray(Image.open(images[cell]))
        inside = whole[int(found.top) : int(found.bottom), int(found.left) : int(found.right)]
        assert inside.min() == 255
        assert whole.sum() == inside.sum(dtype=np.uint64)


@pytest.mark.parametrize(
    ("name", "views"),
    [("vit-gpt2", ["last-mean", "rollout", "gradient"]),
     ("blip2-opt-2.7b", ["last-mean", "mean", "rollout", "gradient"]),
     ("instructblip-flan-t5-xl", ["last-mean", "rollout", "gradient"]), ("llava", ["last-mean"])],
)  # fmt: skip
def test_other_families(name: str, views: list[str], files: list[Path], tmp_path: Path) -> None:
    folder = published(name, tmp_path / name)
    for view in views:
        explained(folder, files[:1], tmp_path / view, view=view, caption="normal chest x-ray")
        (image,) = read_json(tmp_path / view / "maps.json")["images"]
        assert image["words"]
        np.testing.assert_allclose(np.sum(image["maps"], 1), 1, atol=2e-3)
        with np.load(tmp_path / view / "a.npz", allow_pickle=False) as found:
            layers, heads, pieces, tokens = found["attention"].shape
            assert (layers, heads, pieces) == (2, found["attention"].shape[1], len(found["pieces"]))
            assert tokens == len(image["maps"][0]) + found["unplaced"]
            assert ("looked" in found) == ("blip" in name and name != "blip-base")
    if name == "llava":
        for view in ("rollout", "gradient"):
            with pytest.raises(CheckpointError, match="no map per word"):
                explained(folder, files[:1], tmp_path / "none", view=view, caption="normal chest")
        assert not (tmp_path / "none").exists()


def test_a_dicom_file_is_explained_under_no_name_of_a_patient(
    tiny_folder: Path, tmp_path: Path
) -> None:
    pydicom = pytest.importorskip("pydicom")
    examples = pytest.importorskip("pydicom.data")
    scan = Path(examples.get_testdata_file("CT_small.dcm"))
    name = str(pydicom.dcmread(scan).PatientID)
    file = tmp_path / f"{name}.dcm"
    shutil.copy(scan, file)
    result = explained(tiny_folder, [file], tmp_path / "out")
    assert result.images == 1
    (image,) = read_json(tmp_path / "out" / "maps.json")["images"]
    assert image["size"] == [128, 128]
    assert name not in (tmp_path / "out" / "index.html").read_text()
    assert name not in (tmp_path / "out" / "maps.json").read_text()
    assert not [path for path in (tmp_path / "out").iterdir() if name in path.name]


@pytest.mark.parametrize("name", ["", "vit-gpt2", "blip2-opt-2.7b", "llava"])
def test_a_caption_longer_than_the_decoder_is_refused(
    name: str, tiny_folder: Path, files: list[Path], tmp_path: Path
) -> None:
    folder = published(name, tmp_path / name) if name else tiny_folder
    with pytest.raises(ConfigError, match=r"too long .*\n.* tokens, with prompt and end"):
        explained(folder, files[:1], tmp_path / "out", caption="nodule " * 5000)
    assert not (tmp_path / "out").exists()


def test_a_file_name_that_is_no_utf8_loses_no_image(
    tiny_folder: Path, files: list[Path], tmp_path: Path
) -> None:
    for number, name in enumerate((b"bad\xff.png", b"bad\xfe.png")):
        shutil.copy(files[number], os.fsencode(tmp_path) + b"/" + name)
    odd = [Path(os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff.png")),
           Path(os.fsdecode(os.fsencode(tmp_path) + b"/bad\xfe.png"))]  # fmt: skip
    result = explained(tiny_folder, [*odd, files[0]], tmp_path / "out")
    assert (result.images, result.rejected) == (3, 0)
    images = read_json(tmp_path / "out" / "maps.json")["images"]
    assert [Path(image["id"]).name for image in images] == ["bad\ufffd.png"] * 2 + ["a.png"]
    assert len({image["file"] for image in images}) == 3


def test_a_given_caption_is_said_to_be_one(
    tiny_folder: Path, files: list[Path], tmp_path: Path
) -> None:
    explained(tiny_folder, files[:1], tmp_path / "given", caption="left pleural effusion")
    (image,) = read_json(tmp_path / "given" / "maps.json")["images"]
    assert image["words"] == ["left", "pleural", "effusion"]
    assert (image["origin"], image["cut"]) == ("given", False)
    text = (tmp_path / "given" / "index.html").read_text()
    assert "which did not write it: left pleural effusion" in text
    assert "when it wrote it" not in text
    explained(tiny_folder, files[:1], tmp_path / "own")
    assert "did not write it" not in (tmp_path / "own" / "index.html").read_text()


def test_the_figure_says_what_it_is(
    tiny_folder: Path, files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In words that are drawn whole, above the tiles."""
    drawn: list[str] = []
    plain = ImageDraw.ImageDraw.text

    def text(self: Any, at: Any, words: str, **how: Any) -> None:
        drawn.append(words)
        plain(self, at, words, **how)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    explained(tiny_folder, files[:1], tmp_path / "given", caption="left nodule", view="gradient")
    said = " ".join(drawn)
    for words in (
        f"{tiny_folder.name}: {described('gradient')}.",
        f"This caption was given to {tiny_folder.name}, which did not write it.",
        "up to that word's own strongest patch",
        "An even map would have 6.2 % in every patch.",  # of 16
        "Research use only. Not a medical device.",
    ):
        assert words in said
    drawn.clear()
    explained(tiny_folder, files[:1], tmp_path / "own")
    said = " ".join(drawn)
    assert "did not write" not in said
    assert f"written by {tiny_folder.name}" in said


def test_control_tokens_and_unknown_words_of_a_given_caption(
    tiny_folder: Path, files: list[Path], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"control tokens[^\n]*\n.*\[SEP\]"):
        explained(tiny_folder, files[:1], tmp_path / "out", caption="left [SEP] nodule")
    explained(tiny_folder, files[:1], tmp_path / "out", caption="left zebra nodule")
    text = (tmp_path / "out" / "index.html").read_text()
    assert "Not in the captioner&#39;s vocabulary: 1 of its words. They were read as [UNK]" in text


def test_the_captioner_in_this_folder_has_a_name(
    tiny_folder: Path, files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_folder)
    explained(Path("."), files[:1], tmp_path / "out")
    assert f"What {tiny_folder.name} looked at" in (tmp_path / "out" / "index.html").read_text()


def test_the_images_are_those_that_the_report_shows(run: RunDir) -> None:
    evaluate(run.path, meteor=False)
    data = configuration.load(run.config).data.root
    shown = gallery_ids(Path(data), "test", [run.path], limit=3)
    explain(run.path, device="cpu", limit=3)
    assert [image["id"] for image in read_json(run.maps("test"))["images"]] == shown
    text = report(run.path, limit=4).read_text()
    assert "1 of these 4 images have no maps" in text
    explain(run.path, device="cpu", limit=4, force=True)
    assert "images have no maps" not in report(run.path, limit=4).read_text()


def test_an_image_named_twice_is_one_image(run: RunDir) -> None:
    explain(run.path, device="cpu", limit=1)
    one = read_json(run.maps("test"))["images"][0]["id"]
    assert explain(run.path, device="cpu", ids=[one, one]).images == 1


def test_a_caption_that_was_cut_is_said_to_be(
    tiny_folder: Path, files: list[Path], tmp_path: Path
) -> None:
    explain(tiny_folder, images=files, out=tmp_path / "cut", device="cpu",
            overrides=["decode.max_new_tokens=1"])  # fmt: skip
    record = read_json(tmp_path / "cut" / "maps.json")
    long = [image["cut"] for image in record["images"] if image["words"]]
    assert long
    assert all(long)
    assert "was cut at the limit" in (tmp_path / "cut" / "index.html").read_text()


def test_a_damaged_image_is_told_and_the_others_go_on(
    tiny_folder: Path, files: list[Path], tmp_path: Path
) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    result = explained(tiny_folder, [bad, *files], tmp_path / "out")
    assert (result.images, result.rejected) == (2, 1)
    assert read_json(tmp_path / "out" / "maps.json")["rejected"][0]["id"] == str(bad)
    with pytest.raises(DataError, match="no image can be read"):
        explained(tiny_folder, [bad], tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_folder_of_images(tiny_folder: Path, files: list[Path], tmp_path: Path) -> None:
    result = explained(tiny_folder, [files[0].parent], tmp_path / "out")
    assert result.images == 2
    names = [image["id"] for image in read_json(tmp_path / "out" / "maps.json")["images"]]
    assert names == ["a.png", "more/a.png"]


def test_nothing_of_somebody_else_is_replaced(
    tiny_folder: Path, files: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    explained(tiny_folder, files[:1], out)
    with pytest.raises(RunError, match="--force"):
        explained(tiny_folder, files[:1], out)
    explained(tiny_folder, files, out, force=True)
    assert (out / "a-2.png").exists()
    (out / "letter.docx").write_text("beside an earlier result")
    with pytest.raises(RunError, match=r"letter\.docx[^\0]*choose another --out"):
        explained(tiny_folder, files, out, force=True)
    assert (out / "letter.docx").exists()
    web = tmp_path / "web"
    web.mkdir()
    for name, text in (("index.html", "<p>home"), ("maps.json", "[]")):
        (web / name).write_text(text)
    with pytest.raises(RunError, match="choose another --out"):
        explained(tiny_folder, files, web, force=True)
    assert (web / "index.html").read_text() == "<p>home"
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    with pytest.raises(RunError, match="choose another --out"):
        explained(tiny_folder, files[:1], mine, force=True)
    assert (mine / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"images": ["-"]}, "no list on standard input"),
        ({"images": ["x.png"], "view": "lasst-mean"}, "did you mean last-mean"),
        ({"images": ["x.png"], "view": "mean", "head": 0}, "fixed"),
        ({"images": ["x.png"], "ids": ["1"]}, "--image cannot go with images that are named"),
        ({"caption": "a nodule"}, "--caption cannot go with a split"),
        ({"out": "x", "overrides": ["decode.num_beams=1"]}, "--out, --set cannot go with"),
    ],
)
def test_what_cannot_be_explained_is_refused(
    tiny_folder: Path, how: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        explain(tiny_folder, device="cpu", **how)


def test_a_layer_that_is_not_there_leaves_nothing(
    tiny_folder: Path, files: list[Path], tmp_path: Path
) -> None:
    with pytest.raises(MedblipError, match="0 to 1"):
        explained(tiny_folder, files, tmp_path / "out", layer=2)
    assert not list(tmp_path.glob("out*"))


def test_a_split_of_a_run(run: RunDir) -> None:
    result = explain(run.path, device="cpu", limit=3)
    record = read_json(run.maps("test"))
    assert result.images == len(record["images"]) == 3
    assert record["view"] == result.view
    for image in record["images"]:
        assert image["size"] == [32, 32]
        assert image["origin"] == "generated"
    explain(run.path, device="cpu", limit=3, view="rollout", force=True)
    other = read_json(run.maps("test"))
    assert "rollout" in other["view"]
    assert [i["maps"] for i in other["images"]] != [i["maps"] for i in record["images"]]


def test_maps_of_a_whole_call_are_not_lost_to_a_look_at_one_image(run: RunDir) -> None:
    explain(run.path, device="cpu", limit=3)
    before = run.maps("test").read_bytes()
    one = read_json(run.maps("test"))["images"][0]["id"]
    asked: list[dict[str, Any]] = [{"ids": [one]}, {"limit": 2}, {"limit": 3, "view": "mean"}]
    for how in asked:
        with pytest.raises(RunError, match="add --force to replace it"):
            explain(run.path, device="cpu", **how)
        assert run.maps("test").read_bytes() == before
    explain(run.path, device="cpu", limit=3)  # the same again
    explain(run.path, device="cpu", limit=4)  # and more: nothing is lost
    assert len(read_json(run.maps("test"))["images"]) == 4
    explain(run.path, device="cpu", ids=[one], force=True)
    assert [image["id"] for image in read_json(run.maps("test"))["images"]] == [one]


def test_the_command_says_what_shows_the_maps_of_a_split(
    run: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    app(["explain", str(run.path), "--limit", "2", "--device", "cpu"], standalone_mode=False)
    told = capsys.readouterr()
    assert "page:" not in told.out
    assert f"maps_file: {run.maps('test')}" in told.out
    assert f"`medblip report {run.path}` shows them" in told.err


def test_images_of_a_run_go_into_the_run(run: RunDir, files: list[Path]) -> None:
    result = explain(run.path, images=files, device="cpu")
    assert Path(result.page) == run.path / "maps" / "images" / "index.html"
    assert read_json(run.path / "maps" / "images" / "maps.json")["decode"]["max_new_tokens"] == 8


def test_the_command(
    tiny_folder: Path, files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["explain", str(tiny_folder), *map(str, files), "--out", str(tmp_path / "out"),
             "--layer", "-2", "--head", "1", "--set", QUICK, "--device", "cpu",
             "--json"]  # fmt: skip
    app(words, standalone_mode=False)
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["images"] == 2
    assert told["view"].endswith("layer -2, head 1")
    record = read_json(Path(told["maps_file"]))
    assert record["settings"] == {"name": "layer", "layer": -2, "head": 1}
    assert Path(told["page"]).exists()


def _edit(run: RunDir, change: Any) -> None:
    path = run.predictions("test")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        change(row)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_captions_from_elsewhere_are_said_or_refused(
    run: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    _edit(run, lambda row: row.update(caption="left nodule"))
    explain(run.path, device="cpu")
    record = read_json(run.maps("test"))
    assert {image["origin"] for image in record["images"]} == {"text"}
    assert record["images"][0]["words"] == ["left", "nodule"]
    told = " ".join(capsys.readouterr().err.split())
    count = len(record["images"])
    assert f"{count} of {count} captions are stored with pieces that spell another text" in told
    _edit(run, lambda row: row.update(tokens=[], token_logprobs=[]))
    explain(run.path, device="cpu")
    told = " ".join(capsys.readouterr().err.split())
    assert f"{count} of {count} captions are stored without the pieces" in told
    assert "another text" not in told


def test_a_generated_pad_is_replayed_and_shows_as_no_word(
    run: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    padded_pieces = ["left", "[PAD]", "nodule", "[SEP]"]
    _edit(
        run,
        lambda row: row.update(caption="left nodule", tokens=padded_pieces, token_logprobs=[]),
    )
    explain(run.path, device="cpu", limit=1)
    padded = read_json(run.maps("test"))["images"][0]
    assert (padded["origin"], padded["words"]) == ("generated", ["left", "nodule"])
    assert "are stored" not in capsys.readouterr().err
    _edit(run, lambda row: row.update(tokens=["left", "nodule", "[SEP]"]))
    explain(run.path, device="cpu", limit=1)
    plain = read_json(run.maps("test"))["images"][0]
    assert padded["maps"][0] == plain["maps"][0]
    assert padded["maps"][1] != plain["maps"][1], "what predicted it was the [PAD]"


def test_captions_of_other_weights_are_refused(run: RunDir) -> None:
    _edit(run, lambda row: row.update(token_logprobs=[x - 1 for x in row["token_logprobs"]]))
    with pytest.raises(RunError, match="not this captioner's"):
        explain(run.path, device="cpu")
    assert not run.maps("test").exists()


def _seen(words: list[str], cells: list[int], grid: tuple[int, int]) -> Seen:
    maps = np.zeros((len(words), *grid), np.float32)
    for word, cell in enumerate(cells):
        maps[word].flat[cell] = 1
    count = len(words)
    replay = Replay(
        pieces=tuple(words), words=tuple(words), spans=tuple((i, i + 1) for i in range(count)),
        grid=grid, logprobs=torch.zeros(count), cross=torch.zeros(1, 1, count, 1),
    )  # fmt: skip
    return Seen(replay, maps)


def _page(cells: list[int], size: tuple[int, int]) -> str:
    words = ["a", "<img", "src=x", "onerror=alert(1)>", "'\"&"]
    one = card("</script><b>", Image.new("RGB", size), " ".join(words), _seen(words, cells, (4, 6)))
    return page([one], system="run <1>", view="a view")


def test_the_page_is_safe_and_complete_in_itself() -> None:
    text = _page([0, 5, 12, 23, 7], (300, 100))
    assert "<img src=x" not in text
    assert "<b>" not in text
    assert text.count("<script") == text.count("</script>") == 2
    assert not re.search(r"https?:|//[a-z]|url\(|@import|\sstyle=|\son[a-z]+=\"", text)
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)
    assert policy
    assert policy[1].startswith("default-src 'none'; img-src data:;")
    for kind in ("style", "script"):
        inner = re.search(rf"<{kind}>(.*?)</{kind}>", text, re.S)
        assert inner
        digest = base64.b64encode(hashlib.sha256(inner[1].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy[1]
    assert len(re.findall('<li><img src="data:image/jpeg;base64,', text)) == 5  # without scripts


PROBE = """
const told = {violations: [], errors: []};
addEventListener("error", (event) => told.errors.push(event.message));
document.addEventListener("securitypolicyviolation",
  (event) => told.violations.push(event.violatedDirective));
addEventListener("load", () => setTimeout(() => {
  const card = document.querySelector(".card"), canvas = card.querySelector("canvas");
  const words = [...card.querySelectorAll(".words button")];
  const brightest = () => {
    if (canvas.hidden) return null;
    const {width, height} = canvas;
    const data = canvas.getContext("2d").getImageData(0, 0, width, height).data;
    let best = 0, sumX = 0, sumY = 0, sum = 0;
    for (let i = 0; i < width * height; i++) {
      const alpha = data[4 * i + 3] ** 4;
      sum += alpha; sumX += alpha * (i % width + 0.5);
      sumY += alpha * (Math.floor(i / width) + 0.5);
    }
    return [sumX / sum / width, sumY / sum / height];
  };
  const event = (name) => new MouseEvent(name, {bubbles: true});
  told.hover = words.map((word) => {
    word.dispatchEvent(event("mouseover")); const at = brightest();
    word.dispatchEvent(event("mouseout")); return at;
  });
  told.away = canvas.hidden;
  words[2].click(); told.tap = brightest(); told.pressed = words[2].getAttribute("aria-pressed");
  words[2].click(); told.off = words[2].getAttribute("aria-pressed");
  words[0].focus(); told.focus = brightest();
  words[0].dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowRight", bubbles: true}));
  told.arrow = document.activeElement === words[1]; told.key = brightest();
  told.stops = words.filter((word) => word.tabIndex === 0).length;
  const picture = card.querySelector(".picture").getBoundingClientRect();
  const over = canvas.getBoundingClientRect();
  told.covers = Math.abs(picture.width - over.width) + Math.abs(picture.height - over.height);
  told.side = card.querySelector(".side").getBoundingClientRect().height / innerHeight;
  told.wide = document.documentElement.scrollWidth - innerWidth;
  document.title = "probe " + JSON.stringify(told);
}, 300));
"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; `make browser` installs it")
@pytest.mark.parametrize(("size", "window"), [((300, 100), "1200,900"), ((90, 240), "500,844")])
def test_pointing_at_a_word_lights_its_region(
    tmp_path: Path, size: tuple[int, int], window: str
) -> None:
    """In a real browser, under the page's own policy: by mouse, tap and keyboard."""
    cells = [1, 22, 9, 16, 7]
    digest = base64.b64encode(hashlib.sha256(PROBE.encode()).digest()).decode()
    text = _page(cells, size).replace("script-src ", f"script-src 'sha256-{digest}' ")
    (tmp_path / "page.html").write_text(
        text.replace("<header>", f"<script>{PROBE}</script><header>")
    )
    done = subprocess.run(
        [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-sync",
         "--no-first-run", "--disable-background-networking", f"--user-data-dir={tmp_path}/profile",
         f"--window-size={window}", "--virtual-time-budget=5000", "--dump-dom",
         (tmp_path / "page.html").as_uri()],
        capture_output=True, text=True,
    )  # fmt: skip
    found = re.search(r"<title>probe (\{.*?\})</title>", done.stdout)
    assert found, done.stderr[-2000:]
    told = json.loads(found[1])
    assert (told["violations"], told["errors"]) == ([], [])

    def lies(at: list[float], cell: int) -> None:
        box = cell_box(cell, (4, 6), (1, 1))
        assert box.left < at[0] < box.right
        assert box.top < at[1] < box.bottom
        if cell in (7, 9, 16):  # not at the rim, where the heat goes on to the edge
            centre = [(box.left + box.right) / 2, (box.top + box.bottom) / 2]
            assert at == pytest.approx(centre, abs=0.01)

    for at, cell in zip(told["hover"], cells, strict=True):
        lies(at, cell)
    lies(told["tap"], cells[2])
    lies(told["focus"], cells[0])
    lies(told["key"], cells[1])
    assert told["away"] is True
    assert (told["pressed"], told["off"]) == ("true", None)
    assert told["arrow"] is True
    assert told["stops"] == 1
    assert told["covers"] < 1
    assert told["wide"] <= 0
    assert told["side"] < 0.75, "a picture that stays in sight must leave room for the words"

"""Captions of a split or of any images: rows, formats, resume, processes, what is refused."""

from __future__ import annotations

import csv
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from training_runs import make_data, run

from medblip.config import DecodeConfig
from medblip.errors import ConfigError, DataError, RunError
from medblip.files import read_json
from medblip.models.blip import BlipCaptioner
from medblip.schema import read_predictions
from medblip.stages.caption import Captioned, caption, share
from medblip.stages.caption.journal import Journal
from medblip.stages.caption.sources import Names

QUICK = DecodeConfig(max_new_tokens=8, batch_size=4)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make_data(tmp_path / "data", test=13)


@pytest.fixture
def folder(data: Path, tmp_path: Path) -> Path:
    """The 13 test images as loose files, in two folders."""
    for place in range(13):
        target = tmp_path / "loose" / ("a" if place % 2 else "b") / f"{place:02d}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(data / "images" / f"{16 + place}.png", target)
    return tmp_path / "loose"


def rows_in(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def to_zero(tiny: Path, data: Path, run_folder: Path, **more: Any) -> Captioned:
    how = {"decode": QUICK, "device": "cpu"} | more
    return caption(run_folder, data, model=str(tiny), **how)


def test_a_split_with_probabilities(tiny_folder: Path, data: Path, tmp_path: Path) -> None:
    result = to_zero(tiny_folder, data, tmp_path / "zero")
    path = tmp_path / "zero" / "predictions" / "test.jsonl"
    assert result.predictions == str(path)
    assert (result.images, result.rejected, result.resumed) == (13, 0, 0)
    rows = rows_in(path)
    assert [row["id"] for row in rows] == [str(i) for i in range(16, 29)]
    for row in rows:
        assert len(row["tokens"]) == len(row["token_logprobs"])
        mean = sum(row["token_logprobs"]) / len(row["tokens"])
        assert row["logprob"] == pytest.approx(mean, abs=2e-6)
        assert max(row["token_logprobs"]) <= 0
    assert len({row["caption"] for row in rows}) > 1
    record = read_json(path.with_suffix(".json"))
    assert record["n"] == 13
    assert record["decode"]["batch_size"] == 4
    assert not list(path.parent.glob("*.unfinished"))
    assert read_predictions(path)[0].tokens == tuple(rows[0]["tokens"])
    with pytest.raises(RunError, match="--force"):
        to_zero(tiny_folder, data, tmp_path / "zero")


def test_captions_depend_on_the_image_alone(
    tiny_folder: Path, folder: Path, tmp_path: Path
) -> None:
    """Not on batch size, neighbours or order."""
    found = {}
    files = [str(path) for path in sorted(folder.rglob("*.png"))]
    for name, images, size in (
        ("1", files, 1), ("5", files, 5), ("16", files, 16), ("back", files[::-1], 5),
    ):  # fmt: skip
        decode = DecodeConfig(max_new_tokens=8, batch_size=size)
        caption(
            tiny_folder, images=images, decode=decode, device="cpu", out=tmp_path / f"{name}.jsonl"
        )
        found[name] = {row["id"]: row for row in rows_in(tmp_path / f"{name}.jsonl")}
    for name in ("5", "16", "back"):
        assert found[name].keys() == found["1"].keys()
        for key, row in found[name].items():
            assert row["tokens"] == found["1"][key]["tokens"]
            assert row["token_logprobs"] == pytest.approx(
                found["1"][key]["token_logprobs"], abs=1e-5
            )


@pytest.mark.parametrize("form", ["jsonl", "csv", "txt"])
def test_a_name_that_is_no_utf8_loses_no_caption(
    tiny_folder: Path, folder: Path, tmp_path: Path, form: str
) -> None:
    odd = folder / "a" / os.fsdecode(b"bad\xff.png")
    shutil.copy(folder / "a" / "01.png", odd)
    found = caption(
        tiny_folder, images=[str(folder)], decode=DecodeConfig(max_new_tokens=8), device="cpu",
        out=tmp_path / f"c.{form}",
    )  # fmt: skip
    assert found.images == 14
    if form == "jsonl":
        assert f"a/{odd.name}" in {row["id"] for row in rows_in(tmp_path / "c.jsonl")}
    assert (tmp_path / f"c.{form}").read_text("utf-8").count("\n") == 14 + (form == "csv")


@pytest.mark.parametrize("form", ["jsonl", "csv", "txt"])
def test_formats(
    tiny_folder: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    decode = DecodeConfig(max_new_tokens=8, num_captions=2, batch_size=4)
    how: dict[str, Any] = {"images": [str(folder)], "decode": decode, "device": "cpu"}
    caption(tiny_folder, out=tmp_path / f"c.{form}", **how)
    text = (tmp_path / f"c.{form}").read_text()
    capsys.readouterr()
    result = caption(tiny_folder, form=form, **how)
    assert (result.predictions, result.images) == ("", 13)
    assert capsys.readouterr().out == text, "standard output holds the same, and nothing else"
    caption(tiny_folder, out=tmp_path / "all.jsonl", **how)
    rows = rows_in(tmp_path / "all.jsonl")
    assert rows[0]["id"] == "a/01.png"
    assert all(len(row["alternatives"]) == 1 for row in rows)
    if form == "csv":
        table = list(csv.reader(text.splitlines()))
        assert table[0] == ["id", "caption", "logprob", "caption_2", "logprob_2"]
        assert [(r[0], r[1], r[3]) for r in table[1:]] == [
            (r["id"], r["caption"], r["alternatives"][0]["caption"]) for r in rows
        ]
    if form == "txt":
        assert text.splitlines() == [row["caption"] for row in rows]


def test_a_list_on_standard_input(
    tiny_folder: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = sorted(folder.rglob("*.png"))[:2]
    lines = [
        str(first),
        "",
        json.dumps({"id": "mine", "image": str(second), "prompt": "a chest"}),
        json.dumps({"id": "same", "image": str(second)}),
    ]
    (tmp_path / "list").write_text("\n".join(lines))
    with (tmp_path / "list").open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        caption(tiny_folder, images=["-"], decode=QUICK, device="cpu", out=tmp_path / "c.jsonl")
    rows = rows_in(tmp_path / "c.jsonl")
    assert [row["id"] for row in rows] == [str(first), "mine", "same"]
    assert rows[1]["token_logprobs"] != rows[2]["token_logprobs"], "the prompt was used"
    (tmp_path / "list").write_text('{"id": "x"}\n')
    with (tmp_path / "list").open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        with pytest.raises(DataError, match="line 1 of the list"):
            caption(tiny_folder, images=["-"], decode=QUICK, device="cpu")


def test_what_cannot_be_read_is_left_out_and_told(
    tiny_folder: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "a" / "00-broken.png").write_bytes(b"<html>")
    (folder / "b" / "05-half.png").write_bytes((folder / "a" / "01.png").read_bytes()[:60])
    out = tmp_path / "c.jsonl"
    result = caption(tiny_folder, images=[str(folder)], decode=QUICK, device="cpu", out=out)
    assert (result.images, result.rejected) == (13, 2)
    bad = rows_in(tmp_path / "c.jsonl.rejects.jsonl")
    assert [row["id"] for row in bad] == ["a/00-broken.png", "b/05-half.png"]
    assert "web page" in bad[0]["reason"]
    assert "2 images cannot be read" in capsys.readouterr().err
    only = [str(folder / "a" / "00-broken.png")]
    with pytest.raises(DataError, match="no image can be read"):
        caption(tiny_folder, images=only, decode=QUICK, device="cpu", out=tmp_path / "d.jsonl")
    assert not (tmp_path / "d.jsonl").exists()


def test_dicom_files_among_others(tiny_folder: Path, folder: Path, tmp_path: Path) -> None:
    pydicom = pytest.importorskip("pydicom")
    examples = pytest.importorskip("pydicom.data")
    shutil.copy(examples.get_testdata_file("CT_small.dcm"), folder / "a" / "scan.dcm")
    name = str(pydicom.dcmread(folder / "a" / "scan.dcm").PatientID)
    shutil.copy(folder / "a" / "scan.dcm", folder / "b" / f"{name}.dcm")
    out = tmp_path / "c.jsonl"
    result = caption(tiny_folder, images=[str(folder)], decode=QUICK, device="cpu", out=out)
    assert (result.images, result.rejected) == (15, 0)
    ids = [row["id"] for row in rows_in(out)]
    assert "a/scan.dcm" in ids
    assert not any(name in one for one in ids), "a name that holds the patient's id is not written"


@pytest.mark.parametrize(
    ("how", "error", "match"),
    [
        ({"images": ["/nowhere.png"]}, DataError, "image not found"),
        ({"images": ["{empty}"]}, DataError, "no image there"),
        ({"images": ["{one}", "{one}"]}, DataError, "two images would have one id"),
        ({"images": ["{one}"], "form": "jsnl"}, ConfigError, "did you mean jsonl"),
        ({"form": "csv"}, RunError, "no trained captioner"),
    ],
)
def test_what_is_refused(
    tiny_folder: Path, folder: Path, tmp_path: Path, how: dict[str, Any],
    error: type[Exception], match: str,
) -> None:  # fmt: skip
    (tmp_path / "empty").mkdir()
    names = {"empty": tmp_path / "empty", "one": folder / "a" / "01.png"}
    images = [text.format(**names) for text in how.pop("images", [])]
    with pytest.raises(error, match=match):
        caption(tiny_folder, images=images, decode=QUICK, device="cpu", **how)


def test_a_table_of_a_split_needs_a_file(tiny_folder: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--out"):
        to_zero(tiny_folder, data, tmp_path / "zero", form="csv")
    to_zero(tiny_folder, data, tmp_path / "zero", out=tmp_path / "c.csv")
    assert len((tmp_path / "c.csv").read_text().splitlines()) == 14
    assert not (tmp_path / "zero").exists()


class Killed(BaseException):
    """Stands for SIGKILL."""


def die_after(monkeypatch: pytest.MonkeyPatch, batches: int) -> None:
    healthy, left = Journal.append, [batches]

    def dies(self: Journal, *args: Any) -> None:
        if not left[0]:
            with self._own.open("ab") as file:
                file.write(b'{"batch": 99, "rows": [{"id"')  # torn
            raise Killed
        left[0] -= 1
        healthy(self, *args)

    monkeypatch.setattr(Journal, "append", dies)


def test_a_killed_call_goes_on(
    tiny_folder: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    to_zero(tiny_folder, data, tmp_path / "whole")
    zero = tmp_path / "zero"
    for batches in (0, 1, 2):
        with monkeypatch.context() as patch:
            die_after(patch, batches)
            with pytest.raises(Killed):
                to_zero(tiny_folder, data, zero)
    assert "the same command goes on" in capsys.readouterr().err
    assert not (zero / "predictions" / "test.jsonl").exists()
    other = DecodeConfig(max_new_tokens=9, batch_size=4)
    with pytest.raises(RunError, match="unfinished call with other settings"):
        to_zero(tiny_folder, data, zero, decode=other)
    result = to_zero(tiny_folder, data, zero)
    assert (result.images, result.resumed) == (13, 12)
    whole, resumed = (
        (tmp_path / name / "predictions" / "test.jsonl").read_bytes() for name in ("whole", "zero")
    )
    assert resumed == whole


def test_force_begins_anew_with_other_settings(
    tiny_folder: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zero = tmp_path / "zero"
    with monkeypatch.context() as patch:
        die_after(patch, 2)
        with pytest.raises(Killed):
            to_zero(tiny_folder, data, zero)
    other = DecodeConfig(max_new_tokens=3, batch_size=4)
    result = to_zero(tiny_folder, data, zero, decode=other, force=True)
    assert (result.images, result.resumed) == (13, 0)
    assert all(len(r["tokens"]) <= 3 for r in rows_in(zero / "predictions" / "test.jsonl"))


def test_killed_while_rows_are_put_together(
    tiny_folder: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    to_zero(tiny_folder, data, tmp_path / "whole")
    healthy = Journal.batches

    def dies(self: Journal) -> Iterator[dict[str, Any]]:
        yield next(healthy(self))
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "batches", dies)
        with pytest.raises(Killed):
            to_zero(tiny_folder, data, tmp_path / "zero")
    result = to_zero(tiny_folder, data, tmp_path / "zero")
    assert result.resumed == 13
    for name in ("whole", "zero"):
        path = tmp_path / name / "predictions" / "test.jsonl"
        assert path.read_bytes() == (tmp_path / "whole" / "predictions" / "test.jsonl").read_bytes()


def test_memory_that_runs_out_halves_the_batch(
    tiny_folder: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes, healthy = [], BlipCaptioner.encode

    def small(self: BlipCaptioner, pixels: torch.Tensor) -> torch.Tensor:
        sizes.append(len(pixels))
        if len(pixels) > 2:
            raise torch.OutOfMemoryError
        return healthy(self, pixels)

    to_zero(tiny_folder, data, tmp_path / "whole")
    monkeypatch.setattr(BlipCaptioner, "encode", small)
    to_zero(tiny_folder, data, tmp_path / "zero")
    assert sizes == [4, 2, 2, 2, 2, 2, 2, 1]
    whole, halved = (
        rows_in(tmp_path / name / "predictions" / "test.jsonl") for name in ("whole", "zero")
    )
    assert [row["tokens"] for row in halved] == [row["tokens"] for row in whole]


def torchrun(ranks: int, *arguments: str) -> list[str]:
    launch = [sys.executable, "-m"]
    if ranks > 1:
        launch += ["torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}", "-m"]
    return [*launch, "medblip", "caption", *arguments]


def test_several_processes_write_the_same_file(
    tiny_folder: Path, data: Path, tmp_path: Path
) -> None:
    found = {}
    for ranks in (1, 3):
        out = tmp_path / str(ranks)
        arguments = (
            str(out), "--data", str(data), "--model", str(tiny_folder), "--device", "cpu",
            "--set", "decode.batch_size=2", "--set", "decode.max_new_tokens=8",
        )  # fmt: skip
        done = run(torchrun(ranks, *arguments))
        assert done.returncode == 0, done.stderr[-2000:]
        assert done.stdout.count("predictions:") == 1, "only the first process tells"
        found[ranks] = (out / "predictions" / "test.jsonl").read_bytes()
        assert read_json(out / "predictions" / "test.json")["processes"] == ranks
    assert found[1] == found[3]


def test_batches_of_other_processes_are_taken_over(
    tiny_folder: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What two processes have begun, one ends."""
    to_zero(tiny_folder, data, tmp_path / "whole")
    monkeypatch.setattr(share, "PATIENCE_S", 0.5)
    with monkeypatch.context() as patch:
        patch.setenv("WORLD_SIZE", "2")
        with pytest.raises(RunError, match="no batch of process 1"):
            to_zero(tiny_folder, data, tmp_path / "zero")
    journal = tmp_path / "zero" / "predictions" / "test.jsonl.unfinished"
    (journal / "rows-0.jsonl").rename(journal / "rows-5.jsonl")
    result = to_zero(tiny_folder, data, tmp_path / "zero")
    assert (result.images, result.resumed) == (13, 8)
    one, other = (
        (tmp_path / name / "predictions" / "test.jsonl").read_bytes() for name in ("whole", "zero")
    )
    assert one == other


def test_several_processes_need_a_file(
    tiny_folder: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="--out FILE"):
        caption(tiny_folder, images=[str(folder)], decode=QUICK, device="cpu")
    with pytest.raises(ConfigError, match="a list on standard input"):
        caption(tiny_folder, images=["-"], decode=QUICK, device="cpu", out=tmp_path / "c.jsonl")


def test_a_process_that_comes_when_all_is_done_does_nothing(
    tiny_folder: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one has put the file together and removed the journal in the meantime."""
    healthy = Journal.joined

    def joined_then_gone(self: Journal, settings: dict[str, Any]) -> bool:
        self.begin(settings, force=False)
        assert healthy(self, settings)
        self.remove()
        return True

    monkeypatch.setattr(Journal, "joined", joined_then_gone)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    result = to_zero(tiny_folder, data, tmp_path / "zero")
    assert (result.predictions, result.images) == ("", 0)
    assert not (tmp_path / "zero" / "predictions" / "test.jsonl.unfinished").exists()


def test_other_pixels_are_other_images(
    tiny_folder: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        die_after(patch, 2)
        with pytest.raises(Killed):
            to_zero(tiny_folder, data, tmp_path / "zero")
    Image.new("L", (32, 32), 7).save(data / "images" / "16.png")
    shutil.rmtree(data / "pixels", ignore_errors=True)
    with pytest.raises(RunError, match="images ="):
        to_zero(tiny_folder, data, tmp_path / "zero")


def test_draws_repeat_and_differ_by_image(tiny_folder: Path, folder: Path, tmp_path: Path) -> None:
    decode = DecodeConfig(
        num_beams=1, sample=True, num_captions=3, max_new_tokens=8, batch_size=4, top_p=0.95
    )
    texts = []
    for name in ("a", "b"):
        out = tmp_path / f"{name}.jsonl"
        caption(tiny_folder, images=[str(folder)], decode=decode, device="cpu", out=out)
        texts.append(out.read_bytes())
    assert texts[0] == texts[1]
    rows = rows_in(tmp_path / "a.jsonl")
    assert any(row["caption"] != row["alternatives"][0]["caption"] for row in rows)
    for row in rows:
        likely = [row["logprob"], *(one["logprob"] for one in row["alternatives"])]
        assert likely == sorted(likely, reverse=True)


def test_names_take_little_room() -> None:
    texts = [f"folder/{i:07d}.png" for i in range(1000)] + ["é", "", "\udcff"]
    names = Names(texts)
    assert [names[i] for i in range(len(names))] == texts
    assert Names(texts).digest() == names.digest()
    assert Names([*texts[1:], texts[0]]).digest() != names.digest()


def test_memory_stays_flat(tmp_path: Path) -> None:
    """From 1,000 images to 11,000, a call grows by less than 2 kB per image."""
    script = """
import resource, sys
from pathlib import Path
from medblip.models.captioner import Generated
from medblip.models.blip import BlipCaptioner
from medblip.config import DecodeConfig
from medblip.stages.caption import caption
one = Generated("a chest x-ray with a long caption " * 5, -1.0, ("chest",) * 40, (-0.5,) * 40)
BlipCaptioner.generate = lambda self, embeds, decode, **_: [[one]] * len(embeds)
BlipCaptioner.encode = lambda self, pixels: pixels[:, 0, :1]
caption(sys.argv[1], images=["-"], decode=DecodeConfig(batch_size=64), device="cpu",
        out=Path(sys.argv[2]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "one.png")
    from medblip.models.captioner import bundled_folder

    peaks = []
    for count in (1_000, 11_000):
        lines = "".join(
            json.dumps({"id": f"image {i}", "image": str(tmp_path / "one.png")}) + "\n"
            for i in range(count)
        )
        done = run(
            [sys.executable, "-c", script, str(bundled_folder()), str(tmp_path / f"{count}.jsonl")],
            input=lines,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        assert len((tmp_path / f"{count}.jsonl").read_text().splitlines()) == count
        peaks.append(int(done.stdout.split()[-1]))
    grown = (peaks[1] - peaks[0]) * 1024 / 10_000
    assert grown < 2000, f"{grown:.0f} bytes per image"

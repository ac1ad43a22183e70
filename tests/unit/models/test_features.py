"""The feature cache holds what the encoder says; any change is another key; damage is found."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training_runs import make_data, rows_of, set_to, settings

from medblip.config import RunConfig
from medblip.errors import DataError, RunError
from medblip.files import read_json
from medblip.models import features
from medblip.models.features import FeatureCache
from medblip.stages.train import parts, train


@pytest.fixture
def cfg(tiny_folder: Path, tmp_path: Path) -> RunConfig:
    """More images than one shard has."""
    data = make_data(tmp_path / "data", train=150, watch=20)
    return set_to(settings(tiny_folder, data), "freeze.preset=decoder", "train.batch_size=32")


def caches(cfg: RunConfig) -> list[Path]:
    return sorted((Path(cfg.data.root) / "features").iterdir())


def count_encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows by the number of images whenever features are computed."""
    seen: list[int] = []
    healthy = features.compute

    def counted(encode: object, images: int, numbers: list[int], *args: object, **kw: Any) -> None:
        rows = (range(n * 64, min((n + 1) * 64, images)) for n in numbers)
        seen.append(sum(map(len, rows)))
        healthy(encode, images, numbers, *args, **kw)  # type: ignore[arg-type]

    monkeypatch.setattr(features, "compute", counted)
    return seen


def test_features_are_computed_once_and_used_by_every_later_run(
    cfg: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = count_encoded(monkeypatch)
    train(cfg, out=tmp_path / "a")
    assert seen == [150, 20]
    train(cfg, out=tmp_path / "b", seed=1)
    train(set_to(cfg, "freeze.preset=cross-attention"), out=tmp_path / "c")
    train(set_to(cfg, "freeze.preset=lora", 'lora.towers=["text"]'), out=tmp_path / "d")
    assert seen == [150, 20]
    assert len(caches(cfg)) == 2
    encoded: list[int] = []
    monkeypatch.setattr(
        "medblip.models.blip.BlipCaptioner.encode", lambda self, pixels: encoded.append(1)
    )
    train(cfg, out=tmp_path / "e")  # validation captions come from the cache, too
    assert not encoded


def test_any_change_is_another_cache(cfg: RunConfig, tmp_path: Path) -> None:
    train(cfg, out=tmp_path / "a")
    first = set(caches(cfg))
    train(set_to(cfg, "train.feature_dtype=fp32"), out=tmp_path / "b")
    second = set(caches(cfg)) - first
    assert len(second) == 2
    train(set_to(cfg, f"model.name={tmp_path / 'b'}"), out=tmp_path / "same encoder")
    assert set(caches(cfg)) == first | second, "a decoder-only run keeps its encoder"
    train(set_to(cfg, "freeze.preset=encoder"), out=tmp_path / "encoder")
    train(set_to(cfg, f"model.name={tmp_path / 'encoder'}"), out=tmp_path / "c")
    third = set(caches(cfg)) - first - second
    assert len(third) == 2
    keys = [read_json(path / "index.json")["key"] for path in caches(cfg)]
    assert len({key["encoder"] for key in keys}) == 2


@pytest.mark.parametrize("damage", ["flip", "cut", "gone", "index", "folder of notes"])
def test_a_damaged_shard_is_found_and_alone_computed_again(
    cfg: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    train(cfg, out=tmp_path / "a")
    folder = next(p for p in caches(cfg) if (p / "00002.f16").exists())
    shard = folder / "00001.f16"
    good = shard.read_bytes()
    if damage == "flip":
        shard.write_bytes(good[:1000] + bytes([good[1000] ^ 1]) + good[1001:])
    elif damage == "cut":
        shard.write_bytes(good[:-2])
    elif damage == "gone":
        shard.unlink()
    elif damage == "index":
        (folder / "index.json").write_text("{")
    else:
        (folder / "00001.json").unlink()
        (folder / "index.json").unlink()
    with pytest.raises(DataError, match="feature cache"):
        FeatureCache(folder)
    seen = count_encoded(monkeypatch)
    train(cfg, out=tmp_path / "b")
    assert seen == [0 if damage == "index" else 64]
    assert "damaged feature cache" in capsys.readouterr().err
    assert shard.read_bytes() == good
    one, other = ([r["loss"] for r in rows_of(tmp_path / n, "train")] for n in ("a", "b"))
    assert one == other


def test_a_killed_pass_goes_on_where_it_stopped(
    cfg: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    healthy = features.staged_file

    def dies(path: Path) -> object:
        if path.name == "00001.json":
            raise Killed
        return healthy(path)

    with monkeypatch.context() as patch:
        patch.setattr(features, "staged_file", dies)
        with pytest.raises(Killed):
            train(cfg, out=tmp_path / "a")
    seen = count_encoded(monkeypatch)
    train(cfg, out=tmp_path / "a")
    assert seen == [64 + 22, 20], "the first shard was there"


def test_fp16_changes_the_loss_by_less_than_a_thousandth(cfg: RunConfig, tmp_path: Path) -> None:
    """The stated bound; in fp32 the loss is that of the live encoder to 1e-5."""
    for dtype, cache in (("fp16", "auto"), ("fp32", "auto"), ("fp32", "off")):
        train(
            set_to(cfg, f"train.feature_dtype={dtype}", f"train.feature_cache={cache}"),
            out=tmp_path / f"{dtype}-{cache}",
        )
    live = [r["loss"] for r in rows_of(tmp_path / "fp32-off", "train")]
    exact = [r["loss"] for r in rows_of(tmp_path / "fp32-auto", "train")]
    half = [r["loss"] for r in rows_of(tmp_path / "fp16-auto", "train")]
    assert exact == pytest.approx(live, abs=1e-5)
    assert half == pytest.approx(live, abs=1e-3)
    assert half != live


def test_values_beyond_fp16_are_an_error_not_infinity(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="do not fit into fp16"):
        features.compute(
            lambda rows: torch.full((len(rows), 2, 2), 7e4), 3, [0], tmp_path,
            dtype="fp16", batch_size=2,
        )  # fmt: skip


def test_a_full_disk_is_announced_and_done_without(
    cfg: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    usage = parts.shutil.disk_usage(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(parts.shutil, "disk_usage", lambda _: usage._replace(free=1000))
        patch.setattr("medblip.stages.train.opening.require_space", lambda *_: None)
        train(cfg, out=tmp_path / "a")
        said = capsys.readouterr().err.replace("\n", " ")
        assert "the encoder runs at every step instead" in said
        assert not (Path(cfg.data.root) / "features").exists()
        with pytest.raises(RunError, match="not enough disk space"):
            train(set_to(cfg, f"train.feature_cache={tmp_path / 'mine'}"), out=tmp_path / "b")
    train(set_to(cfg, f"train.feature_cache={tmp_path / 'mine'}"), out=tmp_path / "b")
    assert len(list((tmp_path / "mine").iterdir())) == 2


def test_reading_gives_the_rows_asked_for(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(150, 3, 2)).astype(np.float32)
    with features.missing_shards(tmp_path / "cache", 150) as (filled, numbers):
        assert numbers == [0, 1, 2]
        features.compute(
            lambda rows: torch.from_numpy(values[list(rows)]), 150, numbers, filled,
            dtype="fp16", batch_size=50,
        )  # fmt: skip
        features.write_index(filled, {"k": 1}, 3, 2, "fp16")
    cache = FeatureCache(tmp_path / "cache")
    rows = [149, 0, 64, 63, 127]
    np.testing.assert_allclose(cache.read(rows).numpy(), values[rows], atol=2e-3)
    assert len(cache) == 150
    assert (
        cache.nbytes
        == 150 * 3 * 2 * 2
        == sum(p.stat().st_size for p in (tmp_path / "cache").glob("*.f16"))
    )
    assert os.listdir(tmp_path) == ["cache"]

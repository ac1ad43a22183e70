"""Finding and loading encoders: presets, folders, the hub's cache; what is refused."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from medblip.errors import CheckpointError, MetricError
from medblip.metrics.embedding import files as encoder_files
from medblip.metrics.embedding.bertscore import bertscore_statistics
from medblip.metrics.embedding.cosine import cosine_statistics
from medblip.metrics.embedding.encoders import forget_encoders, open_encoder

HYPOTHESES = ["ct of the liver", "chest x-ray with left nodule"]
REFERENCES = [["mri of the liver"], ["left lung nodule"]]


@pytest.fixture(autouse=True)
def _nothing_open() -> None:
    forget_encoders()


def test_presets_from_a_folder(save_encoder: Callable[..., Path], tmp_path: Path) -> None:
    folder = save_encoder(tmp_path / "copy", "bert", layers=12)
    found = bertscore_statistics(["ct"], [["mri"]], model=f"bioclinicalbert={folder}")
    assert found.metric.signature.startswith("model:bioclinicalbert#")
    assert "|layer:9|" in found.metric.signature
    assert open_encoder(str(folder)).layer == 9
    assert open_encoder(str(folder), layer=12).layer == 12
    cosine = cosine_statistics(["ct"], [["mri"]], model=f"medcpt={folder}")
    assert "|pool:cls|" in cosine.metric.signature
    assert "|pool:mean|" in cosine_statistics(["ct"], [["mri"]], model=str(folder)).metric.signature
    with pytest.raises(MetricError, match=r"1 \.\. 12"):
        open_encoder(f"deberta-xlarge-mnli={folder}")  # layer 40
    for preset in encoder_files.PRESETS.values():
        assert preset.pooling in ("mean", "cls")
        assert preset.note


@pytest.mark.parametrize("model", ["bioclinicalbrt", "./nowhere", "/nowhere/at/all", "a/b/c", ""])
def test_unknown_names(model: str) -> None:
    with pytest.raises(CheckpointError, match="encoder not found"):
        open_encoder(model)


def test_wrong_folders(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such folder"):
        open_encoder(f"medcpt={tmp_path / 'nowhere'}")
    with pytest.raises(CheckpointError, match="nothing"):
        open_encoder(str(tmp_path))
    folder = tmp_path / "copy"
    shutil.copytree(tiny("bert"), folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        open_encoder(str(folder))
    (folder / "config.json").write_text(json.dumps(transformers.CLIPConfig().to_dict()))
    with pytest.raises(CheckpointError, match="not a text encoder"):
        open_encoder(str(folder))


@pytest.mark.parametrize("layer", [0, 5, -1])
def test_layers_that_are_not_there(tiny: Callable[[str], Path], layer: int) -> None:
    with pytest.raises(MetricError, match=r"1 \.\. 4"):
        open_encoder(str(tiny("bert")), layer=layer)


def test_devices(tiny: Callable[[str], Path]) -> None:
    with pytest.raises(MetricError, match="device not available"):
        open_encoder(str(tiny("bert")), device="abacus")


@pytest.mark.parametrize(
    ("said", "true"), [([], []), (["ct"], []), (["ct"], [[]]), (["ct", "mri"], [["ct"], []])]
)
def test_lists_that_do_not_belong_together(said: list[str], true: list[list[str]]) -> None:
    for statistics in (bertscore_statistics, cosine_statistics):
        with pytest.raises(MetricError, match=r"do not belong together|without a reference"):
            statistics(said, true, model="medcpt")


def test_absent_weights_are_refused(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(tiny("bert"), folder)
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if "layer.0.attention.self.query.weight" in name)
    del weights[name]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"1 absent, first .*query\.weight"):
        open_encoder(str(folder))


def test_pickled_weights(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    """Repositories that hold only pytorch_model.bin give the same values."""
    folder = tmp_path / "tiny-bert"
    shutil.copytree(tiny("bert"), folder)
    expected = bertscore_statistics(HYPOTHESES, REFERENCES, model=str(folder)).values
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    found = bertscore_statistics(HYPOTHESES, REFERENCES, model=str(folder))
    np.testing.assert_array_equal(found.values, expected)


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def test_code_in_weights_is_not_run(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    folder, trace = tmp_path / "copy", tmp_path / "trace"
    shutil.copytree(tiny("bert"), folder)
    (folder / "model.safetensors").unlink()
    torch.save({"weights": Trap(trace)}, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        open_encoder(str(folder))
    assert not trace.exists()
    torch.load(folder / "pytorch_model.bin", weights_only=False)  # the trap works
    assert trace.is_dir()


def test_code_in_a_repository_is_not_run(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    folder, trace = tmp_path / "copy", tmp_path / "trace"
    shutil.copytree(tiny("bert"), folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.C", "AutoModel": "own.M"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text(f"import os\nos.mkdir({str(trace)!r})\nclass C: ...\n")
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        open_encoder(str(folder))
    assert not trace.exists()


def test_changed_weights_are_read_again(save_encoder: Callable[..., Path], tmp_path: Path) -> None:
    folder = save_encoder(tmp_path / "copy", "bert")
    before = open_encoder(str(folder))
    assert open_encoder(str(folder)) is before
    weights = load_file(folder / "model.safetensors")
    weights = {name: tensor * 2 for name, tensor in weights.items()}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    after = open_encoder(str(folder))
    assert after.label != before.label


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty cache of the hub."""
    cache = tmp_path / "hub"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    return cache


def test_the_cache_is_asked_first(save_encoder: Callable[..., Path], hub: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = hub / "models--emilyalsentzer--Bio_ClinicalBERT"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    save_encoder(repository / "snapshots" / commit, "bert", layers=12)
    found = bertscore_statistics(["ct"], [["mri"]], model="bioclinicalbert")
    assert found.metric.signature.startswith("model:bioclinicalbert@0123456789ab|layer:9|")
    for name in ("emilyalsentzer/Bio_ClinicalBERT", f"emilyalsentzer/Bio_ClinicalBERT@{commit}"):
        found = bertscore_statistics(["ct"], [["mri"]], model=name)
        assert "model:emilyalsentzer/Bio_ClinicalBERT@0123456789ab|" in found.metric.signature
    (repository / "snapshots" / commit / "model.safetensors").unlink()  # a download cut short
    with pytest.raises(CheckpointError, match="not on this machine"):
        open_encoder("bioclinicalbert")


def test_offline_it_fails_at_once_and_says_what_to_do(hub: Path) -> None:
    start = time.perf_counter()
    with pytest.raises(CheckpointError) as raised:
        open_encoder("bioclinicalbert")
    assert time.perf_counter() - start < 1
    assert "hf download emilyalsentzer/Bio_ClinicalBERT --local-dir FOLDER" in str(raised.value)
    assert '"bioclinicalbert=FOLDER"' in str(raised.value)
    assert "HF_HUB_OFFLINE" in str(raised.value)
    with pytest.raises(CheckpointError, match="--revision v2"):
        open_encoder("someone/encoder@v2")


def test_a_hub_that_does_not_answer_is_asked_once(
    hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub, "is_offline_mode", lambda: False)
    asked = []

    def fails(self: Any, repository: str, **options: Any) -> None:
        asked.append((repository, options["timeout"]))
        raise ConnectionError("no route")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", fails)
    start = time.perf_counter()
    with pytest.raises(CheckpointError, match="ConnectionError: no route"):
        open_encoder("medcpt")
    assert asked == [("ncbi/MedCPT-Query-Encoder", 5)]
    assert time.perf_counter() - start < 1


@pytest.mark.parametrize("pickled", [False, True])
def test_only_what_is_needed_is_downloaded(
    tiny: Callable[[str], Path], hub: Path, monkeypatch: pytest.MonkeyPatch, pickled: bool
) -> None:
    """Safetensors where a repository has them; nothing for other frameworks."""
    texts = ["config.json", "tokenizer.json", "vocab.txt", "spiece.model", "1_Pooling/config.json"]
    weights = ["pytorch_model.bin"] + ["model.safetensors"] * (not pickled)
    others = ["tf_model.h5", "onnx/model.onnx", "onnx/config.json", "own.py", "training_args.bin"]
    files = [type("File", (), {"rfilename": name}) for name in texts + weights + others]
    info = type("Info", (), {"siblings": files})
    monkeypatch.setattr(huggingface_hub, "is_offline_mode", lambda: False)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *_, **__: info)
    patterns = []

    def download(repository: str, *, local_files_only: bool = False, **options: Any) -> str:
        if local_files_only:
            raise FileNotFoundError("nothing cached")
        patterns.append(options["allow_patterns"])
        return str(tiny("bert"))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    open_encoder("someone/encoder")
    assert set(patterns[0]) == {*texts, weights[-1]}

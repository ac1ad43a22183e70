"""Where the files of a text encoder are: a preset, a local folder, or a model of the hub.

Looks in the local cache first, and says at once what to fetch where nothing can be downloaded.
Does not load anything (`encoders.py`) and imports neither torch nor transformers.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import re
from pathlib import Path
from typing import Any

from medblip.errors import CheckpointError, explain, nearest

__all__ = ["PRESETS", "Preset", "SourceFolder", "find_encoder", "pooling_of"]


@dataclasses.dataclass(frozen=True)
class Preset:
    """An encoder with a name.

    Args:
        repository: Of the hub.
        layer: Whose vectors BERTScore matches.
        pooling: Of the sentence vector, `mean` or `cls`.
        note: Licence (by its card), size, and what it is for.
    """

    repository: str
    layer: int
    pooling: str
    note: str


PRESETS = {
    "deberta-xlarge-mnli": Preset(
        "microsoft/deberta-xlarge-mnli",
        layer=40,  # of 48; bert-score's table, and so ImageCLEFmedical's value
        pooling="mean",
        note="MIT; 750 M parameters; the BERTScore of ImageCLEFmedical Caption (general English)",
    ),
    "bioclinicalbert": Preset(
        "emilyalsentzer/Bio_ClinicalBERT",
        layer=9,  # of 12; in nobody's table: what bert-score's has for BERT base
        pooling="mean",
        note="MIT; 108 M parameters; BERT base trained on PubMed and hospital notes",
    ),
    "medcpt": Preset(
        "ncbi/MedCPT-Query-Encoder",
        layer=9,  # as above: BERT base
        pooling="cls",
        note="public domain; 109 M parameters; short biomedical texts, trained for similarity",
    ),
}

_WEIGHTS = ("model*.safetensors", "pytorch_model*.bin")
_HUB_NAME = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")
#: Modules of a sentence-transformers folder that pooling and unit length stand for.
_MODULES = {"Transformer", "Pooling", "Normalize"}


@dataclasses.dataclass(frozen=True)
class SourceFolder:
    """A folder with config, tokenizer and weights.

    Args:
        folder: Where.
        label: Name with the revision of the hub or the hash of the weights.
        preset: Which it is, if any.
    """

    folder: str
    label: str
    preset: Preset | None = None

    @property
    def longest(self) -> int | None:
        """Tokens after which a sentence-transformers folder says that texts are cut."""
        found = _json(Path(self.folder) / "sentence_bert_config.json").get("max_seq_length")
        return found if isinstance(found, int) else None


def find_encoder(model: str) -> SourceFolder:
    """Return the folder of `model`: `preset`, `preset=FOLDER`, FOLDER, `owner/name[@revision]`.

    A folder is signed with the SHA-256 of its weights, a model of the hub with its commit.

    Raises:
        CheckpointError: There is no such encoder here and it cannot be downloaded.
    """
    name, given, folder = model.partition("=")
    preset = PRESETS.get(name)
    if preset and given:
        return _local(Path(folder), name, preset)
    if preset:
        return _hub(preset.repository, None, name, preset)
    path = Path(model)
    if model and path.is_dir():
        return _local(path, path.resolve().name, None)
    hub = _HUB_NAME.fullmatch(model)
    if hub is None or path.is_absolute() or model.startswith("."):
        raise CheckpointError(
            explain(
                "encoder not found",
                got=model,
                expected=f"a folder, owner/name of the hub, or {nearest(name, PRESETS)}",
                do="check the path, or name a preset (PRESET=FOLDER for a local copy of it)",
            )
        )
    return _hub(hub["repository"], hub["revision"], model, None)


def pooling_of(source: SourceFolder) -> str:
    """Return `mean` or `cls`: the preset's, else what a sentence-transformers folder says.

    Raises:
        CheckpointError: The folder makes its sentence vectors in another way.
    """
    if source.preset:
        return source.preset.pooling
    folder = Path(source.folder)
    modules = _json(folder / "modules.json", [])
    extra = {str(module.get("type")).rpartition(".")[2] for module in modules} - _MODULES
    told = _json(folder / "1_Pooling" / "config.json")
    ways = {key.removeprefix("pooling_mode_") for key, value in told.items() if value is True}
    ways = {way.removesuffix("_tokens").removesuffix("_token") for way in ways} - {"include_prompt"}
    if "pooling_mode" in told:
        ways = {str(told["pooling_mode"])}
    if not extra and (not ways or ways in ({"mean"}, {"cls"})):
        return ways.pop() if ways else "mean"
    raise CheckpointError(
        explain(
            f"{source.label}: unknown way to make a sentence vector",
            got=", ".join(sorted(extra | ways)),
            expected="mean or cls pooling of the last layer, then unit length",
            do="choose another encoder for the cosine",
        )
    )


def _local(folder: Path, name: str, preset: Preset | None) -> SourceFolder:
    weights = _weights(folder)
    if not (folder / "config.json").is_file() or not weights:
        inside = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else None
        raise CheckpointError(
            explain(
                f"{folder} holds no encoder",
                got="no such folder" if inside is None else ", ".join(inside[:8]) or "nothing",
                expected="config.json, a tokenizer, and model.safetensors or pytorch_model.bin",
                do="name the folder that these files are in",
            )
        )
    stats = [path.stat() for path in weights]
    stamp = tuple((stat.st_size, stat.st_mtime_ns) for stat in stats)
    return SourceFolder(str(folder), f"{name}#{_sha256(tuple(weights), stamp)[:12]}", preset)


def _hub(repository: str, revision: str | None, name: str, preset: Preset | None) -> SourceFolder:
    folder = _cached(repository, revision) or _download(repository, revision, name, preset)
    label = repository if preset is None else name
    return SourceFolder(str(folder), f"{label}@{folder.name[:12]}", preset)


def _cached(repository: str, revision: str | None) -> Path | None:
    """Return the snapshot in the local cache if it has weights; asks nobody."""
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(repository, revision=revision, local_files_only=True))
    except (OSError, ValueError):
        return None
    return folder if (folder / "config.json").is_file() and _weights(folder) else None


def _download(repository: str, revision: str | None, name: str, preset: Preset | None) -> Path:
    """Fetch config, tokenizer and one set of weights; asks once, briefly, whether the hub is there.

    Without that question the downloads of a machine without internet retry for most of a minute.
    """
    from huggingface_hub import HfApi, is_offline_mode, snapshot_download

    reason: str
    cause: Exception | None = None
    if is_offline_mode():
        reason = "not in the local cache, and downloads are off (HF_HUB_OFFLINE)"
    else:
        try:
            told = HfApi().model_info(repository, revision=revision, timeout=5)
            files = _wanted([file.rfilename for file in told.siblings or []])
            return Path(snapshot_download(repository, revision=revision, allow_patterns=files))
        except Exception as error:  # of the hub, of the connection, of the disk: all mean "no file"
            first = str(error).strip().partition("\n")[0]
            reason, cause = f"not in the local cache; {type(error).__name__}: {first}", error
    pinned = f" --revision {revision}" if revision else ""
    local = f"{name}=FOLDER" if preset else "FOLDER"
    raise CheckpointError(
        explain(
            f"{repository}: the encoder is not on this machine",
            got=reason,
            expected="its files, downloaded once",
            do=f"on a connected machine: hf download {repository}{pinned} --local-dir FOLDER; "
            f'copy the folder here and give "{local}" as the model',
        )
    ) from cause


def _wanted(files: list[str]) -> list[str]:
    """Return the files of a repository that an encoder needs: safetensors rather than pickles."""
    texts = [f for f in files if "/" not in f and Path(f).suffix in (".json", ".txt", ".model")]
    sets = [[f for f in files if "/" not in f and Path(f).match(way)] for way in _WEIGHTS]
    pooling = [f for f in files if f == "1_Pooling/config.json"]
    return [*texts, *pooling, *(sets[0] or sets[1])]


def _weights(folder: Path) -> list[Path]:
    """Return the files of the weights; safetensors are preferred, as transformers does."""
    sets = [sorted(folder.glob(way)) for way in _WEIGHTS]
    return sets[0] or sets[1]


@functools.lru_cache(maxsize=8)
def _sha256(files: tuple[Path, ...], stamp: tuple[tuple[int, int], ...]) -> str:
    """Return the hash of all files; `stamp` (size, time) makes a changed file a new question."""
    del stamp
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _json(path: Path, default: Any = None) -> Any:
    """Return what a small JSON file holds, or an empty dict (or `default`) without one."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {} if default is None else default

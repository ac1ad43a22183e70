"""Stage `models convert`: checkpoints of the original BLIP and LAVIS to transformers, and back."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

from medblip.config import ModelConfig
from medblip.errors import CheckpointError, RunError, explain
from medblip.files import explain_os_errors, require_space, staged_directory, staged_file

__all__ = ["Converted", "convert_checkpoint"]

_ENDINGS = (".pth", ".pt")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Converted:
    """What was written.

    Args:
        source: What was read.
        target: The new folder or file.
        layout: "transformers" or "original".
        parameters: Scalars in the network, each tied one once.
        image_size: Side in pixels.
        tensors: In `target`, by name.
        left_out: Names of tensors of `source` that are no part of a captioner.
    """

    source: str
    target: str
    layout: str
    parameters: int
    image_size: int
    tensors: int
    left_out: tuple[str, ...]


def convert_checkpoint(
    source: Path | str,
    target: Path | str,
    *,
    tokenizer: str | None = None,
    force: bool = False,
) -> Converted:
    """Convert an original BLIP captioner (.pth) to a folder of transformers, or the other way.

    Args:
        source: `.pth` or `.pt` of BLIP or LAVIS; or folder, run, short name or hub id of a BLIP.
        target: New folder; or new `.pth`.
        tokenizer: Folder or hub id with the vocabulary, which a `.pth` lacks; None: what
            `convert_checkpoint` wrote into it, else Salesforce/blip-image-captioning-base's.
        force: Replace `target`.

    Raises:
        CheckpointError: `source` is no BLIP captioner, or the tokenizer is not its own.
        RunError: `target` is taken or cannot be written.
    """
    goal = Path(target)
    if str(source).endswith(_ENDINGS) and not Path(source).is_dir():
        _require_free(goal, Path(source), force, folder=True)
        return _to_folder(Path(source), goal, tokenizer)
    if goal.suffix not in _ENDINGS:
        raise CheckpointError(
            explain(
                "one of both must be a checkpoint of the original",
                got=f"{source} and {target}",
                expected="a source or a target that ends with .pth",
                do="name the file: `medblip models convert runs/a a.pth`, or the other way round",
            )
        )
    if tokenizer is not None:
        raise CheckpointError(
            explain(
                "--tokenizer is for a .pth source",
                got=f"{tokenizer} for {source}",
                expected="nothing: the captioner's own tokenizer goes along",
                do="leave it out",
            )
        )
    _require_free(goal, Path(source), force, folder=False)
    return _to_original(str(source), goal)


def _to_folder(source: Path, target: Path, tokenizer: str | None) -> Converted:
    from medblip.models.bert_words import DEFAULT_TOKENIZER, processor_of
    from medblip.models.lavis import config_of, empty_network, from_original
    from medblip.models.loading import quiet_bars
    from medblip.models.pth import read

    stored = read(source)
    with tempfile.TemporaryDirectory() as name:
        texts = Path(name)
        for file, text in stored.texts.items():
            (texts / file).write_text(text, encoding="utf-8")
        if stored.texts:
            network = _as_stored(source, stored.texts, name)
        else:
            network = empty_network(config_of(stored.tensors, str(source)))
        tensors, left = from_original(stored.tensors, network, str(source))
        processor = processor_of(
            network.config,
            tokenizer or (name if stored.texts else DEFAULT_TOKENIZER),
            texts if stored.texts else None,
        )
    network.load_state_dict(tensors, assign=True)
    network.tie_weights()
    network.to(next(iter(tensors.values())).dtype)  # no copy: it tells the configuration
    require_space(target.parent, _bytes(network))
    with staged_directory(target) as folder, quiet_bars():
        network.save_pretrained(folder)
        if tokenizer is not None or not stored.texts:
            processor.save_pretrained(folder)
        for file, text in stored.texts.items():  # byte for byte as they were
            if tokenizer is None or file in ("config.json", "generation_config.json"):
                (folder / file).write_text(text, encoding="utf-8")
    return _converted(source, target, "transformers", network, len(tensors), left)


def _as_stored(source: Path, texts: dict[str, str], folder: str) -> Any:
    """Return the empty network that a .pth of ours describes."""
    from transformers import BlipConfig, GenerationConfig

    from medblip.models.lavis import empty_network

    try:
        network = empty_network(BlipConfig(**json.loads(texts["config.json"])))
        if "generation_config.json" in texts:
            network.generation_config = GenerationConfig.from_pretrained(folder)
    except Exception as error:  # a text may be damaged in any way; transformers raises its own
        raise CheckpointError(
            explain(
                f"{source}: what medblip stored beside the weights cannot be read",
                got=f"{type(error).__name__}: {str(error).partition(chr(10))[0]}",
                expected="configuration and processor as `medblip models convert` writes them",
                do="convert it again, or keep the entry `model` alone and name --tokenizer",
            )
        ) from error
    return network


def _to_original(source: str, target: Path) -> Converted:
    from medblip.models.blip import BlipCaptioner
    from medblip.models.captioner import load_captioner, resolve
    from medblip.models.lavis import from_original, to_original
    from medblip.models.pth import TEXTS, Stored, write

    shape: Any = load_captioner(ModelConfig(name=source), weights=False)
    if not isinstance(shape, BlipCaptioner):
        raise CheckpointError(
            explain(
                f"{source}: no BLIP",
                got=shape.network.config.model_type,
                expected="blip: the original's file has no place for others",
                do="name a BLIP captioner",
            )
        )
    network = _with_weights(resolve(source))
    tensors = to_original(network)
    from_original(tensors, network, source)  # what cannot come back is not written
    with tempfile.TemporaryDirectory() as name:
        folder = Path(resolve(source))
        if not folder.is_dir():  # of the hub
            folder = Path(name)
            shape.network.config.save_pretrained(folder)
            network.generation_config.save_pretrained(folder)
            shape.processor.save_pretrained(folder)
        texts = {
            file: (folder / file).read_text(encoding="utf-8")
            for file in TEXTS
            if (folder / file).is_file()
        }
    require_space(target.parent, _bytes(network))
    with staged_file(target) as file, explain_os_errors(target):
        write(file, Stored(tensors, texts))
    return _converted(source, target, "original", network, len(tensors), [])


def _with_weights(source: str) -> Any:
    """Return the network in the type that it is stored in; load_captioner makes it float32."""
    from transformers import BlipForConditionalGeneration

    from medblip.models.hub import not_loadable
    from medblip.models.loading import quiet_bars

    try:
        with quiet_bars() if Path(source).is_dir() else contextlib.nullcontext():
            loaded: Any = BlipForConditionalGeneration.from_pretrained(
                source, dtype="auto", use_safetensors=True, output_loading_info=True
            )
        network, report = loaded
    except Exception as error:  # transformers, safetensors and OSError: all mean "not loadable"
        raise not_loadable(source, error, "a BLIP") from error
    absent = sorted(report["missing_keys"]) + sorted(str(k) for k in report["mismatched_keys"])
    if absent:
        raise CheckpointError(
            explain(
                f"{source}: weights are missing",
                got=f"{len(absent)} absent, first {absent[0]}",
                expected="every weight of BlipForConditionalGeneration",
                do="copy the folder again, or name a captioner (not a retrieval or VQA model)",
            )
        )
    return network


def _require_free(target: Path, source: Path, force: bool, *, folder: bool) -> None:
    """Refuse to replace what is there, unless told to and it is what would be written."""
    if not target.exists():
        return
    kind = (
        "a folder with config.json, without the source in it" if folder else "a file, not a folder"
    )
    if folder:
        files = {one.name for one in target.iterdir()} if target.is_dir() else {""}
        within = target.resolve() in source.resolve().parents
        may = (not files or "config.json" in files) and not within
    else:
        may = target.is_file()
    if force and may:
        return
    raise RunError(
        explain(
            f"{target} is taken",
            got=("a folder" if target.is_dir() else "a file") + " that is there",
            expected=f"a new name; with --force {kind}",
            do="choose another target" + (", or add --force to replace it" if may else ""),
        )
    )


def _bytes(network: Any) -> int:
    return sum(p.numel() * p.element_size() for p in network.parameters())


def _converted(
    source: Path | str, target: Path, layout: str, network: Any, tensors: int, left: list[str]
) -> Converted:
    return Converted(
        source=str(source), target=str(target), layout=layout, tensors=tensors,
        parameters=sum(p.numel() for p in network.parameters()),
        image_size=network.config.vision_config.image_size, left_out=tuple(left),
    )  # fmt: skip

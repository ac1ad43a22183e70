"""Checkpoints of the original BLIP on the disk: read without running what is in them, written.

`{"model": tensors by name}`, as BLIP and LAVIS read it. What we write has one entry more,
`medblip`: configuration and processor as texts, so that nothing is lost on the way back.
"""

from __future__ import annotations

import argparse
import dataclasses
import pickle
from pathlib import Path
from typing import Any

import torch

from medblip.errors import CheckpointError, explain

__all__ = ["Stored", "read", "write"]

_OURS = "medblip"
#: What of a folder is kept in a .pth besides the weights; no other name is ever written back.
TEXTS = (
    "config.json", "generation_config.json", "preprocessor_config.json", "processor_config.json",
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.txt", "medblip.json",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Stored:
    """What a checkpoint holds: tensors by original name, and texts by file name (of ours only)."""

    tensors: dict[str, torch.Tensor]
    texts: dict[str, str]


def read(path: Path) -> Stored:
    """Read a checkpoint; no code in it is run, whatever it asks for.

    Raises:
        CheckpointError: It is absent or damaged, holds what is not allowed, or no tensors by name.
    """
    if not path.is_file():
        raise CheckpointError(
            explain(
                "checkpoint not found", got=path, expected="a file", do="check how it is spelled"
            )
        )
    record = _load(path)
    state = record.get("model", record) if isinstance(record, dict) else None
    if not isinstance(state, dict) or not state or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in state.items()
    ):  # fmt: skip
        keys = ", ".join(map(str, list(record)[:8])) if isinstance(record, dict) else ""
        raise CheckpointError(
            explain(
                f"{path}: no checkpoint of BLIP or LAVIS",
                got=f"{type(record).__name__} with {keys or 'nothing by name'}",
                expected='{"model": tensors by name}, or tensors by name',
                do='save it again: torch.save({"model": network.state_dict()}, path)',
            )
        )
    ours = record.get(_OURS, {}) if state is not record else {}
    texts = ours if isinstance(ours, dict) else {}
    return Stored(
        {name: _own(value) for name, value in state.items()},
        {name: texts[name] for name in TEXTS if isinstance(texts.get(name), str)},
    )


def _own(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor that shares its storage with no other: safetensors has no views."""
    alone = tensor.is_contiguous() and tensor.untyped_storage().nbytes() == tensor.nbytes
    return tensor if alone else tensor.contiguous().clone()


def write(path: Path, stored: Stored) -> None:
    """Write a checkpoint that BLIP's and LAVIS's own code loads."""
    with path.open("wb") as file:
        torch.save({"model": stored.tensors, _OURS: stored.texts}, file)


def _load(path: Path) -> Any:
    """Return what is stored, tensors mapped from the file where its format allows that."""
    # a Namespace holds settings of a training and can do nothing; other classes stay refused
    with torch.serialization.safe_globals([argparse.Namespace]):
        try:
            try:
                return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            except RuntimeError as error:
                if "mmap" not in str(error):
                    raise
                return torch.load(path, map_location="cpu", weights_only=True)  # before torch 1.6
        except pickle.UnpicklingError as error:
            raise _refused(path, error) from None
        except Exception as error:  # a file may be damaged in any way; torch names none of them
            raise CheckpointError(
                explain(
                    f"{path} cannot be read",
                    got=f"{type(error).__name__}: {str(error).partition(chr(10))[0]}",
                    expected="a file that torch.save wrote",
                    do="copy or download it again; compare sizes",
                )
            ) from error


def _refused(path: Path, error: Exception) -> CheckpointError:
    """Say which object is refused, and how to get a file without it."""
    lines = [line.strip() for line in str(error).splitlines() if "Unsupported" in line]
    reason = next((line for line in str(error).splitlines() if "GLOBAL" in line), "")
    return CheckpointError(
        explain(
            f"{path} holds more than tensors and settings; it was not opened",
            got=(reason or " ".join(lines) or str(error).partition("\n")[0]).strip()[:300],
            expected="tensors, numbers, texts, lists, dicts, and argparse.Namespace",
            do="if you trust where it is from, open it in the program that wrote it and save the "
            'weights alone: torch.save({"model": checkpoint["model"]}, "weights.pth")',
        )
    )

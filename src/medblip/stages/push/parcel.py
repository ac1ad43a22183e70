"""Which files of a run may leave this machine: its captioner, whole and as written.

Nothing that runs code when it is loaded (pickles, Python files), and no path, image or caption.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from pathlib import Path

from medblip.checkpoint import verify
from medblip.errors import CheckpointError, RunError, explain
from medblip.rundir import RunDir

__all__ = ["Item", "captioner_files", "read_item", "text_item"]

#: Settings, vocabularies, chat templates, weights: what transformers saves. All are data.
_ENDINGS = (".json", ".safetensors", ".txt", ".model", ".jinja")
#: Their names, for a run without checksums: whatever else lies there may be notes on patients.
_SAVED = re.compile(
    r"(config|generation_config|(pre|image_|video_pre)?processor_config|medblip)\.json"
    r"|(qformer_tokenizer/)?(tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab)\.json"
    r"|(qformer_tokenizer/)?(vocab|merges)\.txt"
    r"|(qformer_tokenizer/)?(tokenizer|spiece|sentencepiece(\.bpe)?)\.model"
    r"|chat_template\.(json|jinja)|(additional_)?chat_templates/\w+\.jinja"
    r"|model(-\d+-of-\d+)?\.safetensors|model\.safetensors\.index\.json|bottlenecks\.safetensors"
)


@dataclasses.dataclass(frozen=True)
class Item:
    """One file to push.

    Args:
        path: In the repository.
        content: A file of this machine, or its bytes.
        size: In bytes.
    """

    path: str
    content: Path | bytes
    size: int

    def digests(self) -> tuple[str, str]:
        """Return SHA-256, and the SHA-1 that git gives to a file of these bytes."""
        large, small = hashlib.sha256(), hashlib.sha1(f"blob {self.size}\0".encode())
        if isinstance(self.content, bytes):
            large.update(self.content)
            small.update(self.content)
        else:
            with self.content.open("rb") as file:
                while piece := file.read(1 << 20):
                    large.update(piece)
                    small.update(piece)
        return large.hexdigest(), small.hexdigest()


def read_item(path: str, file: Path) -> Item:
    """Return a file as it lies on the disk."""
    return Item(path, file, file.stat().st_size)


def text_item(path: str, text: str) -> Item:
    """Return a text as a file of the repository."""
    content = text.encode()
    return Item(path, content, len(content))


def captioner_files(run: RunDir) -> list[Item]:
    """Return the files of `checkpoints/best`, after a look at each.

    Raises:
        RunError: The run has not finished, or keeps no captioner of its own.
        CheckpointError: A file is damaged, absent, not one that training wrote, or may run code.
    """
    if not run.completion.exists() or not run.checkpoint.is_dir():
        raise RunError(
            explain(
                f"{run.path} holds no finished captioner",
                got="no train.json" if not run.completion.exists() else "no checkpoints/best",
                expected="a run that `medblip train` has ended",
                do="go on with the same `medblip train`; a captioner used as it is has a home",
            )
        )
    best = run.checkpoint
    files = {
        path.relative_to(best).as_posix(): path
        for path in sorted(best.rglob("*"))
        if not path.is_dir() and path.relative_to(best).as_posix() != "COMPLETE"
    }
    sealed = (best / "COMPLETE").exists()  # its list of files is checked below
    foreign = [name for name, path in files.items()
               if path.suffix not in _ENDINGS or path.is_symlink()
               or not (sealed or _SAVED.fullmatch(name))]  # fmt: skip
    if foreign:
        raise CheckpointError(
            explain(
                f"{best} holds files that are not published",
                got=", ".join(foreign[:5]),
                expected=f"regular files that end with {', '.join(_ENDINGS)}: no pickle, no code; "
                "without training's list of checksums, names that a captioner is saved under",
                do="take them away, or save the captioner again as safetensors",
            )
        )
    fault = _fault(best, set(files))
    if fault is not None:
        raise CheckpointError(
            explain(
                f"{best} is not whole",
                got=fault,
                expected="every file as training wrote it",
                do="copy the run again, or train again",
            )
        )
    return [read_item(name, path) for name, path in files.items()]


def _fault(best: Path, names: set[str]) -> str | None:
    """Return what is wrong with a checkpoint, or None."""
    if (best / "COMPLETE").exists():
        written = json.loads((best / "COMPLETE").read_text(encoding="utf-8"))["files"]
        extra = sorted(names - set(written))
        return verify(best) or (f"{extra[0]} is not training's" if extra else None)
    return _structure(best, names)


def _structure(best: Path, names: set[str]) -> str | None:
    """Return what is wrong as far as the files tell themselves: of a run without checksums."""
    from safetensors import SafetensorError, safe_open

    if "config.json" not in names or not any(name.endswith(".safetensors") for name in names):
        return "no config.json, or no weights"
    for name in sorted(names):
        try:
            if name.endswith(".json"):
                json.loads((best / name).read_text(encoding="utf-8"))
            elif name.endswith(".safetensors"):
                with safe_open(best / name, "numpy"):  # its header says how long it is
                    pass
        except (SafetensorError, ValueError, OSError) as error:
            return f"{name}: {str(error).partition(chr(10))[0]}"
    index = best / "model.safetensors.index.json"
    wanted = set(json.loads(index.read_text())["weight_map"].values()) if index.exists() else set()
    absent = sorted(wanted - names)
    return f"{absent[0]} is missing" if absent else None

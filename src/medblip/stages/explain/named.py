"""Images that are named: captioned, that caption replayed, and both written for a reader."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from medblip import config as configuration
from medblip.config import DecodeConfig, ModelConfig, RunConfig
from medblip.errors import ConfigError, DataError, ImageError, MedblipError, RunError
from medblip.errors import explain as message
from medblip.files import read_json, staged_directory, write_bytes, write_json, write_text
from medblip.progress import console, track
from medblip.rundir import RunDir
from medblip.stages.caption.sources import FileSource, stacked
from medblip.stages.explain.figure import arrays, figure
from medblip.stages.explain.look import Seen, View, look
from medblip.stages.explain.own_words import is_cut
from medblip.stages.explain.page import Card, card, page
from medblip.stages.explain.result import Explained

if TYPE_CHECKING:
    from medblip.models.captioner import Captioner

__all__ = ["explain_named"]

_BATCH = 4
#: What BERT's and SentencePiece's vocabularies call a word that they lack.
_UNKNOWN = ("[UNK]", "<unk>")


@dataclasses.dataclass(frozen=True)
class _Told:
    """An image and what was said of it; `problem` where it cannot be read."""

    name: str
    image: Image.Image | None = None
    caption: str = ""
    seen: Seen | None = None
    cut: bool = False
    problem: str = ""


def explain_named(
    name: str, inputs: tuple[str, ...], *, view: View, out: Path | str | None, caption: str | None,
    overrides: list[str] | tuple[str, ...], device: str, force: bool,
) -> Explained:  # fmt: skip
    """Write figures, NPZ files, `maps.json` and `index.html` of images; see `explain`."""
    from medblip.data.store import Resize
    from medblip.engine import pick_device, pick_precision
    from medblip.models.captioner import load_captioner, settled

    if "-" in inputs:
        raise ConfigError(
            message(
                "explain takes no list on standard input",
                got="-",
                expected="image files, DICOM files or folders",
                do="name them",
            )
        )
    cfg, model, own = _settings(name, overrides)
    folder = Path(out) if out is not None else own / "maps" / "images" if own else Path("explained")
    _require_free(folder, force=force)
    model = settled(model)
    device = pick_device(device)
    bf16 = pick_precision(cfg.decode.precision, device) == "bf16"
    captioner = load_captioner(
        model, device=device, numbers=("bf16",) if bf16 else ("fp32",), spills=True
    )
    source = FileSource(inputs, Resize(*captioner.image_size, captioner.image_resample), sys.stdin)
    if caption is not None:
        _require_plain(caption, captioner)
    told = _told(captioner, source, cfg.decode, view, caption)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with staged_directory(folder) as room:
        record = _written(room, told, _known_as(name), view, given=caption is not None)
        record |= {
            "model": model.name, "revision": model.revision, "prompt": captioner.prompt,
            "decode": None if caption is not None else configuration.dump(cfg)["decode"],
        }  # fmt: skip
        write_json(room / "maps.json", record)
    return Explained(
        maps_file=str(folder / "maps.json"), images=len(record["images"]), view=view.words,
        page=str(folder / "index.html"), rejected=len(record["rejected"]),
    )  # fmt: skip


def _settings(
    name: str, overrides: list[str] | tuple[str, ...]
) -> tuple[RunConfig, ModelConfig, Path | None]:
    """Return settings, captioner, and the run directory if it is one, trained or not."""
    run = RunDir(name)
    if run.config.exists() and run.checkpoint.is_dir():
        cfg = configuration.load(run.config, overrides)
        return cfg, dataclasses.replace(cfg.model, name=name), run.path
    if run.config.exists() and run.predictions("test").parent.is_dir():  # a captioner as it is
        cfg = configuration.load(run.config, overrides)
        return cfg, cfg.model, run.path
    cfg = configuration.load(None, overrides)
    return cfg, dataclasses.replace(cfg.model, name=name), None


def _known_as(name: str) -> str:
    """Return what a reader calls a captioner: the last part of its name, of `.` the folder's."""
    return _readable(Path(name).name or Path(name).resolve().name)


def _require_plain(caption: str, captioner: Any) -> None:
    """Refuse a text that holds the tokenizer's control tokens: they would be obeyed, not read.

    Raises:
        ConfigError: It is one.
    """
    if found := [token for token in captioner.tokenizer.all_special_tokens if token in caption]:
        raise ConfigError(
            message(
                "--caption holds control tokens of this captioner",
                got=", ".join(found),
                expected="words as a reader writes them",
                do="leave that out",
            )
        )


def _require_free(folder: Path, *, force: bool) -> None:
    """Refuse a folder that is taken, and one of other things whatever is asked.

    Raises:
        RunError: It is one.
    """
    there = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    ours = _written_before(folder / "maps.json")
    others = [name for name in there if name not in ours]  # of the user, beside an earlier result
    if folder.is_file() or others or (there and not force):
        raise RunError(
            message(
                f"{folder} is taken",
                got=", ".join(others[:4]) or ("maps of an earlier call" if there else "a file"),
                expected="a new or empty folder",
                do="choose another --out" if others or not there else "add --force to replace it",
            )
        )


def _written_before(record: Path) -> set[str]:
    """Return the names of the files that an earlier call wrote; nothing where it was not ours."""
    try:
        found = read_json(record) if record.is_file() else {}
        files = [str(image["file"]) for image in found.get("images", []) if "origin" in image]
    except (MedblipError, AttributeError, KeyError, TypeError, ValueError):
        return set()
    pairs = {f"{file}.{kind}" for file in files for kind in ("png", "npz")}
    return pairs | {"index.html", "maps.json"} if files else set()


def _told(
    captioner: Captioner, source: FileSource, decode: DecodeConfig, view: View, given: str | None
) -> Iterator[_Told]:
    """Yield each image with its caption and maps."""
    import torch

    from medblip.data.store import Resize, normalised

    resize = Resize(*captioner.image_size, captioner.image_resample)
    starts = range(0, len(source.ids), _BATCH)
    for start in track(starts, "explain", len(starts), unit="batch"):
        pictures: dict[str, Image.Image] = {}
        for index in range(start, min(start + _BATCH, len(source.ids))):
            try:
                pictures[source.ids[index]] = source.picture(index)
            except ImageError as error:
                yield _Told(_readable(source.ids[index]), problem=_readable(str(error)))
        if not pictures:
            continue
        squares = stacked([resize.apply(one) for one in pictures.values()], resize)
        batch = normalised(squares, captioner.image_mean, captioner.image_std)
        with torch.inference_mode():
            embeds = captioner.encode(batch)
            said = _said(captioner, embeds, list(pictures), decode, given)
        shown = look(captioner, batch, [tokens or text for text, tokens in said], view, embeds)
        for (name, image), (text, tokens), seen in zip(pictures.items(), said, shown, strict=True):
            yield _Told(_readable(name), image, text, seen, is_cut(seen, tokens))


def _said(
    captioner: Captioner, embeds: Any, names: list[str], decode: DecodeConfig, given: str | None
) -> list[tuple[str, tuple[str, ...]]]:
    """Return each caption and the pieces that it was generated in."""
    if given is not None:
        return [(given, ())] * len(names)
    found = captioner.generate(embeds, decode, keys=names)
    return [(best.text, best.tokens) for best, *_ in found]


def _written(
    room: Path, told: Iterator[_Told], system: str, view: View, *, given: bool
) -> dict[str, Any]:
    """Write figures, arrays and the page; return what `maps.json` says."""
    images: list[dict[str, Any]] = []
    rejected: list[dict[str, str]] = []
    cards: list[Card] = []
    names: set[str] = set()
    grid = (0, 0)
    for one in told:
        if one.image is None or one.seen is None:
            rejected.append({"id": one.name, "reason": one.problem})
            console().print(f"{one.name}: {one.problem}", markup=False, soft_wrap=True)
            continue
        file, grid = _file_name(one.name, names), one.seen.replay.grid
        drawn = figure(one.image, one.caption, one.seen, system=system, view=view.words,
                       given=given)  # fmt: skip
        write_bytes(room / f"{file}.png", drawn)
        write_bytes(room / f"{file}.npz", arrays(one.image, one.caption, one.seen))
        cards.append(card(file, one.image, one.caption, one.seen, _notes(one, given=given)))
        record = one.seen.record(one.name, one.caption, one.image.size)
        images.append(
            record | {"file": file, "origin": "given" if given else "generated", "cut": one.cut}
        )
    if not cards:
        raise DataError(
            message(
                "no image can be read",
                got="; ".join(f"{one['id']}: {one['reason']}" for one in rejected[:3]),
                expected="images or DICOM files",
                do="check the files",
            )
        )
    write_text(room / "index.html", page(cards, system=system, view=view.words, given=given))
    return view.record() | {"grid": list(grid), "images": images, "rejected": rejected}


def _notes(one: _Told, *, given: bool) -> list[str]:
    """Return what a reader must know about a caption or its maps."""
    assert one.seen is not None
    notes = []
    if given:
        notes.append(
            "This caption was given to the captioner, which did not write it: " + one.caption
        )
        if unknown := sum(word in _UNKNOWN for word in one.seen.replay.words):
            notes.append(f"Not in the captioner's vocabulary: {unknown} of its words. They were "
                         f"read as {_UNKNOWN[0]}.")  # fmt: skip
    if one.cut:
        notes.append("This caption was cut at the limit of tokens: the sentence would go on.")
    totals = one.seen.maps.sum((1, 2))
    if empty := [
        word for word, sum_ in zip(one.seen.replay.words, totals, strict=True) if not sum_
    ]:
        notes.append(f"No patch has any part in this view for: {', '.join(empty)}.")
    return notes


def _readable(name: str) -> str:
    """Return a name as a file in UTF-8 can hold it; file systems take any bytes for a name."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _file_name(name: str, taken: set[str]) -> str:
    """Return a file name that no other image of the call has, whatever the disk makes of case."""
    kept = (letter if letter.isalnum() or letter in "-_." else "_" for letter in Path(name).stem)
    stem = "".join(kept).strip("._")[:80] or "image"
    found, number = stem, 1
    while found.casefold() in taken:
        number += 1
        found = f"{stem}-{number}"
    taken.add(found.casefold())
    return found

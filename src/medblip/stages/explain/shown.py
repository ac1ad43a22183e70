"""Which images of a split are explained where none are named: those that the report will show."""

from __future__ import annotations

from pathlib import Path

from medblip import config as configuration
from medblip.rundir import RunDir
from medblip.schema import read_jsonl

__all__ = ["shown_ids"]


def shown_ids(
    run: Path | str, data: Path | str | None, *, split: str, limit: int, seed: int
) -> list[str] | None:
    """Return the ids of the report's gallery; None where captions are not scored image by image.

    Maps of other images would not be seen: of 1,000 images a gallery shows 24.

    Args:
        run: Run directory.
        data: Prepared data set; None: the one that was captioned.
        split: Of both.
        limit: How many.
        seed: Of those that are drawn.
    """
    from medblip.stages.report.collect import gallery_ids, read_split

    folder = RunDir(run)
    scored = folder.scores(split)
    if limit < 1 or not (scored.exists() and folder.config.exists()):
        return None
    per_image = scored.with_name(f"{split}.per_image.jsonl")
    if not per_image.exists():
        return None
    root = Path(data) if data is not None else Path(configuration.load(folder.config).data.root)
    there = {example.id for example in read_split(root, split)}
    if not there.issuperset(str(row["id"]) for row in read_jsonl(per_image)):
        return None  # another data set: what is drawn then is refused, and says why
    return gallery_ids(root, split, [folder.path], limit=limit, seed=seed) or None

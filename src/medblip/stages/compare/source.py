"""The systems of a comparison: run directories, scores files, or tables of captions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from medblip.errors import RunError, explain
from medblip.rundir import RunDir

if TYPE_CHECKING:
    from medblip.metrics import StoredStatistics

__all__ = ["load"]


def load(path: Path, split: str, references: Path | str | None) -> StoredStatistics:
    """Return the statistics of one system, scored here when it is a table of captions."""
    from medblip.data.captions import align, read_captions, read_references
    from medblip.metrics import load_statistics
    from medblip.metrics.suite import Material, Suite, compute
    from medblip.metrics.table import score_families

    if path.is_dir():
        scores = RunDir(path).scores(split)
        if not scores.exists():
            raise RunError(
                explain(
                    f"{path}: no scores of the {split} split",
                    got=f"{scores} is not there",
                    expected="a run that was captioned and evaluated",
                    do=f"run `medblip evaluate {path} --split {split}` first",
                )
            )
        return load_statistics(scores.with_suffix(".npz"))
    if not path.exists():
        raise RunError(
            explain(
                "file not found",
                got=path,
                expected="a run, a scores file of `medblip evaluate --out`, or a table of captions",
                do="check the path",
            )
        )
    if path.suffix == ".json" and path.with_suffix(".npz").exists():  # a table may have changed
        return load_statistics(path.with_suffix(".npz"))
    if references is None:
        raise RunError(
            explain(
                f"{path}: nothing to compare",
                got="no statistics beside it, and no references",
                expected="scores that `medblip evaluate --out` wrote, or captions and references",
                do="evaluate it with --out, or name the references with --references",
            )
        )
    known = read_references(Path(references), split)
    captions = align(read_captions(path), known.ids)
    material = Material(known.ids, captions, known.captions, known.facts)
    computed = compute(Suite(meteor=False), material)
    table = score_families(computed.families, resamples=0, groups=known.groups)
    return table.stored(known.ids, known.captions)

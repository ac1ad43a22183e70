"""The one public function: images of a split, or images that are named."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medblip.errors import ConfigError
from medblip.errors import explain as message
from medblip.stages.explain.look import settled_view
from medblip.stages.explain.result import Explained
from medblip.stages.explain.split import explain_split

__all__ = ["explain"]


def explain(
    run: Path | str,
    data: Path | str | None = None,
    *,
    images: Sequence[Path | str] = (),
    split: str = "test",
    ids: list[str] | None = None,
    limit: int = 24,
    seed: int = 0,
    view: str | None = None,
    layer: int | None = None,
    head: int | None = None,
    out: Path | str | None = None,
    caption: str | None = None,
    overrides: list[str] | tuple[str, ...] = (),
    device: str = "auto",
    force: bool = False,
) -> Explained:
    """Show what a captioner looked at for each word.

    Of a split: `run/maps/<split>.json`, of captions that the run wrote. Of named images: each is
    captioned with the run's settings and that caption replayed; `out` gets a figure (PNG) and all
    attention (NPZ) of each, `maps.json`, and `index.html`, where pointing at a word lights its
    region.

    Args:
        run: Run directory with captions of that split. With `images` any captioner: a run, a
            folder, a known name, a hub id or `bundled`.
        data: Prepared data set; None: the one that was captioned.
        images: Image or DICOM files, or folders of them.
        split: `train`, `validation` or `test`, where no images are named.
        ids: Images of the split to explain; None: those that `report` will show, where captions
            are scored, else `limit` images drawn with `seed`.
        limit: How many when `ids` is None.
        seed: Of the draw.
        view: `last-mean` (the paper's), `layer`, `mean`, `rollout` or `gradient`
            (`medblip.models.views`); None: `last-mean`, or `layer` where one is named.
        layer: Of the decoder, from 0, or from the end as -1; None: the last.
        head: From 0; None: the mean over heads.
        out: Folder for what becomes of named images; None: `maps/images` in a run directory, else
            `explained`.
        caption: Explain this caption instead of a generated one.
        overrides: `decode.key=value` strings.
        device: As `train.device`.
        force: Replace `out`; of a split, maps of more images or of another view.

    Raises:
        ConfigError: There is no such view, layer or head, or an option needs named images.
        CheckpointError: There is no such captioner, or it cannot give this view.
        DataError: An image is not there, or none can be read.
        RunError: There are no captions of that split, an id is not among them, the data set is
            another one, other weights wrote the captions, `out` is taken, or maps of more images,
            or of another view, would be lost.
    """
    chosen = settled_view(view, layer, head)
    of_split = {"--data": data, "--image": ids}
    of_images = {"--out": out, "--caption": caption, "--set": overrides or None}
    unused = of_split if images else of_images
    if given := [name for name, value in unused.items() if value is not None]:
        what = "images that are named" if images else "a split, whose captions are written already"
        raise ConfigError(
            message(
                f"{', '.join(given)} cannot go with {what}",
                got=f"{len(images)} image files",
                expected="files to caption and explain, or a run and its data set",
                do="leave that out" if images else "leave that out, or name image files",
            )
        )
    if images:
        from medblip.stages.explain.named import explain_named

        return explain_named(
            str(run), tuple(map(str, images)), view=chosen, out=out, caption=caption,
            overrides=overrides, device=device, force=force,
        )  # fmt: skip
    if ids is None:
        from medblip.stages.explain.shown import shown_ids

        ids = shown_ids(run, data, split=split, limit=limit, seed=seed)
    file, count = explain_split(
        run, data, view=chosen, split=split, ids=ids, limit=limit, seed=seed, device=device,
        force=force,
    )  # fmt: skip
    return Explained(maps_file=str(file), images=count, view=chosen.words)

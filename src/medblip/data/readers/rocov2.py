"""ROCOv2 (doi 10.1038/s41597-024-03496-6), as Zenodo 10821435 has it.

```
├── {train,valid,test}_captions.csv           ID,Caption
├── {train,valid,test}_concepts.csv           ID,CUIs (joined by semicolons)
├── {train,valid,test}_concepts_manual.csv    (not read: a subset of the other, by hand)
├── cui_mapping.csv                           (not read)
├── license_information.csv                   licence and article per image
└── train_images.zip, ...                     packed, or unpacked into train/, valid/, test/
```
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from medblip.data.raw import Raw, ReadOptions
from medblip.data.readers.labels import read_labels

__all__ = ["matches", "read"]

_SPLITS = ("train", "valid", "test")


def matches(source: Path) -> bool:
    """Whether there are captions and concepts under ROCOv2's names."""
    return source.is_dir() and any(
        (source / f"{split}_captions.csv").is_file()
        and (source / f"{split}_concepts.csv").is_file()
        for split in _SPLITS
    )


def read(source: Path, options: ReadOptions) -> Iterator[Raw]:
    """Yield every caption with its concepts; images are read out of the archives if need be."""
    captions, concepts = (
        [path for split in _SPLITS if (path := source / f"{split}_{what}.csv").is_file()]
        for what in ("captions", "concepts")
    )
    return read_labels(source, captions, concepts)

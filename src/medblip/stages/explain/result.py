"""What came of it."""

from __future__ import annotations

import dataclasses

__all__ = ["Explained"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Explained:
    """Where the maps are, and of how many images.

    Args:
        maps_file: JSON: words, and a map per word, of each image.
        images: How many.
        view: Which maps, in words.
        page: The interactive page, of images that were named; "" for a split.
        rejected: Images that could not be read.
    """

    maps_file: str
    images: int
    view: str = ""
    page: str = ""
    rejected: int = 0

"""Binary masks as uncompressed COCO run-length encoding.

Column-major; `counts` alternates runs of 0 and 1 and begins with the zeros (which may be 0).
Source: the annotation format of the COCO data set, https://cocodataset.org/#format-data
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medblip.errors import DataError, explain

__all__ = ["decode_mask", "encode_mask"]


def encode_mask(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Encode a mask (height, width) as `{"size": [height, width], "counts": [...]}`.

    >>> encode_mask(np.array([[False, True], [True, True]]))
    {'size': [2, 2], 'counts': [1, 3]}
    """
    flat = np.asarray(mask, np.bool_).ravel(order="F")
    change = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    bounds = np.concatenate(([0], change, [flat.size]))
    counts = np.diff(bounds).tolist()
    if flat.size and flat[0]:
        counts.insert(0, 0)
    return {"size": [int(mask.shape[0]), int(mask.shape[1])], "counts": counts}


def decode_mask(encoded: Mapping[str, Any]) -> NDArray[np.bool_]:
    """Decode what `encode_mask` made, to a mask (height, width).

    Raises:
        DataError: The runs do not add up to height x width.
    """
    height, width = encoded["size"]
    counts = np.asarray(encoded["counts"], np.int64)
    if int(counts.sum()) != height * width or bool((counts < 0).any()):
        raise DataError(
            explain(
                "damaged mask",
                got=f"runs of {int(counts.sum())} pixels in all",
                expected=f"{height} x {width} = {height * width} pixels",
                do="generate the phantoms again",
            )
        )
    values = np.arange(counts.size) % 2 == 1
    return np.repeat(values, counts).reshape((height, width), order="F")

"""Procedural radiology-like images with exact captions, facts and masks.

`generate.generate` writes a data set of them, `generate.render` draws a single one.
"""

from __future__ import annotations

from medblip.data.phantoms.captions import vocabulary
from medblip.data.phantoms.masks import decode_mask, encode_mask

__all__ = ["decode_mask", "encode_mask", "vocabulary"]

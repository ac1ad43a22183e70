"""Captioners that have a name."""

from __future__ import annotations

import pytest

import medblip
from medblip.errors import CheckpointError
from medblip.models.captioner import FAMILIES, resolve
from medblip.models.known import KNOWN


def test_names_are_resolved_and_near_ones_named() -> None:
    assert resolve("blip-base") == "Salesforce/blip-image-captioning-base"
    with pytest.raises(CheckpointError, match="did you mean blip-large"):
        resolve("blip-lrge")


def test_every_family_is_known_here() -> None:
    assert {known.family for known in KNOWN} == set(FAMILIES)
    assert len({known.name for known in KNOWN}) == len(KNOWN)


def test_the_list_has_sizes() -> None:
    listed = {one.name: one for one in medblip.list_models()}
    assert listed["bundled"].here
    assert listed["vit-gpt2"].fp32_gb == pytest.approx(0.96)
    assert set(listed) == {"bundled", *(known.name for known in KNOWN)}

"""The paper's clinical table for one image: modality, side, anatomy, diagnosis; and the errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from medblip.metrics.audit import Audit, audit, audit_errors, best_reference
from medblip.stages.report.collect import Case, System
from medblip.stages.report.tables import CLINICAL

__all__ = ["clinical_card"]


def clinical_card(case: Case, systems: Sequence[System]) -> dict[str, Any]:
    """Return what references and captions of one image state, read from the text alone.

    Every caption is compared with the reference that agrees best with it, as the scores are.

    Returns:
        rows: per kind its title, the `reference` items, and per system its `said` items, each
        {name, right}, and the `missed` ones; errors: system -> [{kind, text}].
    """
    references = [audit(text) for text in case.example.captions]
    said: dict[str, tuple[Audit, Audit]] = {}
    for system in systems:
        caption = system.captions.get(case.example.id)
        if caption is not None and references:
            true = references[best_reference(caption, case.example.captions)]
            said[system.name] = (audit(caption), true)
    rows = []
    for kind, title in CLINICAL.items():
        stated = sorted({item for true in references for item in _items(true, kind)})
        cells = {name: _compare(*pair, kind) for name, pair in said.items()}
        if stated or any(cell["said"] for cell in cells.values()):
            rows.append({"title": title, "reference": stated, "cells": cells})
    errors = {
        name: [
            {"kind": error.kind, "text": error.text} for error in audit_errors(caption, reference)
        ]
        for name, (caption, reference) in said.items()
    }
    return {"rows": rows, "errors": errors}


def _compare(caption: Audit, reference: Audit, kind: str) -> dict[str, list[Any]]:
    wanted, found = _items(reference, kind), _items(caption, kind)
    return {
        "said": [{"name": name, "right": name in wanted} for name in sorted(found)],
        "missed": sorted(wanted - found),
    }


def _items(read: Audit, kind: str) -> set[str]:
    return {str(item).replace("_", " ") for item in read.items(kind)}

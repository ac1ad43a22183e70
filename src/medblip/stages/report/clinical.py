"""The paper's clinical table for one image: modality, side, anatomy, diagnosis; and the errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from medblip.metrics.audit import audit_errors, best_reference
from medblip.metrics.audit.clinical import ROWS, clinical_row
from medblip.stages.report.collect import Case, System

__all__ = ["clinical_card"]


def clinical_card(case: Case, systems: Sequence[System]) -> dict[str, Any]:
    """Return what captions of one image state and what is wrong, read from the texts alone.

    Every caption is compared with the reference that agrees best with it, as the scores are.

    Returns:
        rows: per row of the table its title, and per system its status, what the caption says and
        what the reference says; without rows in which nothing is said. errors: system ->
        [{kind, text}].
    """
    references = case.example.captions
    captions = {
        system.name: system.captions[case.example.id]
        for system in systems
        if references and case.example.id in system.captions
    }
    table = {name: clinical_row(text, references) for name, text in captions.items()}
    rows = []
    for title in ROWS:
        cells = {name: row[title] for name, row in table.items()}
        if any(cell.said or cell.true for cell in cells.values()):
            shown = {
                name: {
                    "status": cell.status,
                    "said": [_spaced(item) for item in cell.said],
                    "true": [_spaced(item) for item in cell.true],
                }
                for name, cell in cells.items()
            }
            true = dict.fromkeys(item for cell in shown.values() for item in cell["true"])
            rows.append({"title": title, "reference": list(true), "cells": shown})
    errors = {
        name: [
            {"kind": error.kind, "text": error.text}
            for error in audit_errors(text, references[best_reference(text, references)])
        ]
        for name, text in captions.items()
    }
    return {"rows": rows, "errors": errors}


def _spaced(item: str) -> str:
    return item.replace("_", " ")

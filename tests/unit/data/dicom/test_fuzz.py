"""Damaged files: `benchmarks/dicom_fuzz.py` on a few hundred, and on ten thousand when asked."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("data_store")
SCRIPT = Path(__file__).resolve().parents[4] / "benchmarks" / "dicom_fuzz.py"


def fuzz(n_files: int, seed: int) -> dict[str, Any]:
    if not SCRIPT.exists():
        pytest.skip("needs benchmarks/dicom_fuzz.py of the repository, which is not here")
    spec = importlib.util.spec_from_file_location("dicom_fuzz", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    found: dict[str, Any] = module.run(n_files, seed)
    return found


def test_a_few_hundred() -> None:
    found = fuzz(300, seed=1)
    assert found["rendered"] + sum(found["refused"].values()) == 300
    assert found["rendered"] > 50  # damage that is too much tests the header only
    assert found["slowest_s"] < 10  # the machine may be busy: CPU time is what is limited


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ten_thousand() -> None:
    found = fuzz(10_000, seed=0)
    assert found["rendered"] + sum(found["refused"].values()) == 10_000
    assert found["slowest_s"] < 2  # by the clock: run it on a machine that is not busy
    assert found["parent_grew_mb"] < 100

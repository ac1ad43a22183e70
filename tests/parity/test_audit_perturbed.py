"""The audit on perturbed real captions: `benchmarks/audit_bench.py` on a few hundred, with floors.

The floors stand below the figures of the documentation, so that a lexicon change that loses a
kind of error, or begins to call rewrites errors, fails here.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def bench(shared_data: Path) -> Any:
    """Return the benchmark as a module; skips first where there is no data to run it on."""
    path = ROOT / "benchmarks" / "audit_bench.py"
    if not path.is_file():
        pytest.skip("needs benchmarks/audit_bench.py of the repository, which is not here")
    spec = importlib.util.spec_from_file_location("audit_bench", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_injected_errors_are_seen_and_rewrites_are_not(shared_data: Path, bench: Any) -> None:
    captions = bench.read_captions(shared_data, "validation")
    result = bench.measure(captions, count=200, seed=7)
    for name, row in result["recall"].items():
        assert row["n"] >= 200, name
        assert row["recall"] >= row["goal"], name
        assert row["BLEU-4"] > 0.6, name  # what n-grams still give to a wrong caption
    assert result["all_alarms"] <= 0.02
    for name, row in result["alarms"].items():
        assert row["alarms"] <= 0.03, name


def test_real_captions_agree_with_themselves(shared_data: Path, bench: Any) -> None:
    captions = bench.read_captions(shared_data, "validation")[:1500]
    table = bench.audit_statistics(captions, [[caption] for caption in captions])
    assert table.pop("audit-errors").corpus().sum() == 0
    assert all((statistics.corpus() == 1).all() for statistics in table.values())

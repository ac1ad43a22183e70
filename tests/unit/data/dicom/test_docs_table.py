"""docs/dicom.md: its table is current, and every refusal in it is of the list."""

from __future__ import annotations

import importlib.util
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from medblip.data.dicom.reasons import Reason
from medblip.data.dicom.windows import WINDOWS

pytest.importorskip("data_store")
DOCS = Path(__file__).resolve().parents[4] / "docs"


@pytest.fixture(scope="module")
def script() -> Any:
    """Return docs/make_dicom_table.py as a module."""
    path = DOCS / "make_dicom_table.py"
    if not path.exists():
        pytest.skip("needs docs/ of the repository, which is not here")
    spec = importlib.util.spec_from_file_location("make_dicom_table", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.filterwarnings("ignore")
def test_the_table_is_current(script: Any) -> None:
    text = (DOCS / "dicom.md").read_text(encoding="utf-8")
    packages = f"pydicom {version('pydicom')} and pydicom-data {version('pydicom-data')}"
    if packages not in text:
        pytest.skip("the table was made with other versions")
    assert script.page(text) == text, "run docs/make_dicom_table.py"


@pytest.mark.filterwarnings("ignore")
def test_every_file_is_rendered_or_refused_for_what_it_is(script: Any) -> None:
    rows = script.results()
    refused = [row[3].removeprefix("**refused**: ") for row in rows if "refused" in row[3]]
    assert len(rows) - len(refused) >= 158
    reasons = {Reason(text.partition(": ")[0]) for text in refused}
    ours = {Reason.CRASH, Reason.TIME, Reason.MEMORY, Reason.UNREADABLE, Reason.ABSENT}
    assert not reasons & ours
    syntaxes = {row[2] for row in rows}
    for wanted in ("(none)", "Explicit VR Big Endian", "Deflated Explicit VR Little Endian"):
        assert wanted in syntaxes
    assert Reason.DIRECTORY in reasons


def test_the_windows_are_listed() -> None:
    text = (DOCS / "dicom.md").read_text(encoding="utf-8")
    for name, (centre, width) in WINDOWS.items():
        assert f"`{name}` ({centre:g}, {width:g})" in text

"""Headless Chromium for tests: the document after its scripts, a picture of it, a PDF."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

__all__ = ["needs_chromium", "open_page"]

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium here; `make browser` installs it"
)


def open_page(
    page: Path, profile: Path, *options: str, size: str = "1200,900", milliseconds: int = 3000
) -> tuple[str, str]:
    """Open a file and return what Chromium writes: the document (with `--dump-dom`), its log.

    Args:
        page: HTML file.
        profile: Folder for the browser's own files.
        options: More of Chromium's options.
        size: Width and height of the window.
        milliseconds: How much of the page's own time passes.
    """
    done = subprocess.run(
        [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-sync",
         "--no-first-run", "--disable-background-networking", "--hide-scrollbars",
         "--enable-logging=stderr", f"--user-data-dir={profile}", f"--window-size={size}",
         f"--virtual-time-budget={milliseconds}", *options, page.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    return done.stdout, done.stderr

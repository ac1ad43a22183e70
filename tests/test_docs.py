"""The pages tell the truth about the program and about the tree."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.DOTALL | re.MULTILINE)
#: [text](target), ![text](target "title"), [name]: target, <img src="target">, <a href="target">
LINK = re.compile(
    r"\]\(\s*<?([^)\s>]+)|^\[[^\]]+\]:\s*(\S+)|(?:src|href)=\"([^\"]+)\"", re.MULTILINE
)
ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:|//", re.IGNORECASE)


def links(text: str) -> list[str]:
    """Return the targets of all links that point into the tree, without their #anchors."""
    found = ["".join(groups) for groups in LINK.findall(CODE.sub("", text))]
    return [link.partition("#")[0] for link in found if not ELSEWHERE.match(link)]


def dead_links(page: Path) -> list[str]:
    """Return the targets that are not there; a target without a path is the page itself."""
    targets = links(page.read_text(encoding="utf-8"))
    return [target for target in targets if not (page.parent / target).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_into_the_tree_leads_somewhere(page: Path) -> None:
    assert dead_links(page) == []


def test_the_check_finds_what_it_is_for(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    (tmp_path / "there.md").touch()
    page.write_text(
        """
[a](there.md) [b](there.md#part) [c](#part) [d](https://example.org/x) [e](mailto:a@example.org)
[1](gone-1.md) and ![two](img/gone-2.png "with a title"), [![three](gone-3.svg)](there.md)
<img src="gone-4.png"> [5](gone-5.md#part)
`[code](gone-in-code.md)`
```
[code](gone-in-code.md)
```
[six]: gone-6.md
"""
    )
    assert dead_links(page) == [
        "gone-1.md", "img/gone-2.png", "gone-3.svg", "gone-4.png", "gone-5.md", "gone-6.md",
    ]  # fmt: skip


def test_the_readme_has_links_to_check() -> None:
    assert "docs/cli.md" in links((ROOT / "README.md").read_text(encoding="utf-8"))


def test_the_command_reference_is_what_the_program_says() -> None:
    check = [sys.executable, str(ROOT / "docs" / "make_cli.py"), "--check"]
    done = subprocess.run(check, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_stale_command_reference_is_noticed(tmp_path: Path) -> None:
    """The same script beside another page."""
    script = tmp_path / "make_cli.py"
    script.write_text((ROOT / "docs" / "make_cli.py").read_text(encoding="utf-8"))
    (tmp_path / "cli.md").write_text("# Command line\n")
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True)
    assert done.returncode == 1
    assert "make docs" in done.stderr

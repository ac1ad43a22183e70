"""A full disk, through the real command line: a message, exit code 2, earlier results untouched."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(900)  # every command is a process, on a machine that may be busy

FAST = ("--set", "train.epochs=1", "--set", "train.validations=1")
SHORT = ("--set", "decode.num_beams=1", "--set", "decode.max_new_tokens=16")
#: Other captions than the study's, so that a file that is replaced too early is noticed.
OTHER = ("--set", "decode.num_beams=1", "--set", "decode.max_new_tokens=4")
TRAIN = ("train", "--data", "data", "--out", "run", *FAST, *OTHER, "--force")
CAPTION = ("caption", "run", *OTHER, "--force")
EVALUATE = ("evaluate", "recaptioned", "--no-meteor", "--force")
ZERO_SHOT = ("caption", "zero", "--model", "bundled", "--data", "data", *OTHER, "--force")
PHANTOMS = ("data", "phantoms", "--out", "data", "--images", "12", "--force")
PREPARE = ("data", "prepare", "data/manifest.jsonl", "--out", "prepared", "--seed", "1", "--force")
REPORT = ("report", "run")
#: Bytes between those of the scores of one image and of its statistics.
BETWEEN = 9000

#: No file may grow beyond so many bytes. The kernel refuses in the middle of a write, as it does
#: on a full disk; this needs no rights, and says "File too large" for "No space left on device".
LIMITED = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
os.execv(sys.executable, [sys.executable, "-m", "medblip", *sys.argv[2:]])
"""
#: A disk of 96 MB with a copy of the study, filled but for some kB; exit code 99: damage was done.
TINY_DISK = """
study=$1; disk=$2; room=$3; python=$4; shift 4
mount -t tmpfs -o size=96m none "$disk" && cp -R "$study/." "$disk" && cd "$disk" || exit 98
sums() { find . -path ./filler -o -type f -exec sha256sum {} + | sort; }
before=$(sums)
cat /dev/zero > filler 2> /dev/null
truncate -s "-${room}K" filler
"$python" -m medblip "$@"
code=$?
[ "$(sums)" = "$before" ] || exit 99
exit $code
"""
OWN_MOUNTS = ("unshare", "--user", "--map-root-user", "--mount")


def medblip(*arguments: str, cwd: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "medblip", *arguments],
        check=True, capture_output=True, cwd=cwd,
    )  # fmt: skip


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run with everything a run can have, and what the other commands would replace.

    The paths in it are relative, so that a copy is a study of its own.
    """
    root = tmp_path_factory.mktemp("study")
    medblip("data", "phantoms", "--out", "data", "--images", "10", cwd=root)
    medblip("data", "prepare", "data/manifest.jsonl", "--out", "prepared", cwd=root)
    medblip("train", "--data", "data", "--out", "run", *FAST, *SHORT, cwd=root)
    medblip("caption", "run", cwd=root)
    medblip("caption", "zero", "--model", "bundled", "--data", "data", *SHORT, cwd=root)
    medblip("evaluate", "run", "--no-meteor", cwd=root)
    medblip("report", "run", cwd=root)
    shutil.copytree(root / "run", root / "recaptioned")
    medblip("caption", "recaptioned", *OTHER, "--force", cwd=root)
    sizes = [(root / "run" / "scores" / f"test.{end}").stat().st_size for end in ("npz", "json")]
    assert sizes[0] < BETWEEN < sizes[1], "then `evaluate` would not fail between its files"
    return root


def snapshot(folder: Path) -> dict[str, str]:
    """Return the hash of every file, and every folder: a left-over is damage too."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else "folder"
        for path in folder.rglob("*")
    }


def named(value: object) -> str:
    """Return a command without its options: ids of tests."""
    if not isinstance(value, tuple):
        return str(value)
    return " ".join(word for word in value[:2] if not word.startswith("-"))


def check_message(done: subprocess.CompletedProcess[str], reason: str) -> None:
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    for word in ("got:", reason, "expected:", "do:"):
        assert word in done.stderr


@pytest.mark.parametrize(
    ("limit", "arguments", "place"),
    [
        (0, TRAIN, "run/LOCK"),
        (1_000_000, TRAIN, "run/checkpoints/step-000001"),
        (0, CAPTION, "run/LOCK"),
        (400, CAPTION, "run/predictions/test.jsonl.unfinished/settings.json"),
        (700, CAPTION, "run/predictions/test.json"),
        (BETWEEN, EVALUATE, "recaptioned/scores/test.json"),
        (0, PHANTOMS, "data"),
        (10_000, PHANTOMS, "data"),
        (10_000, PREPARE, "prepared"),
        (20_000, REPORT, "run/report.html"),
        pytest.param(100, TRAIN, "run/config.json", marks=pytest.mark.slow),
        pytest.param(
            40,
            CAPTION,
            "run/predictions/test.jsonl.unfinished/settings.json",
            marks=pytest.mark.slow,
        ),
        pytest.param(1400, ZERO_SHOT, "zero/config.json", marks=pytest.mark.slow),
    ],
    ids=named,
)
def test_a_file_that_does_not_fit(
    study: Path, limit: int, arguments: tuple[str, ...], place: str
) -> None:
    """The limits lie between the sizes of two files, so that every stage fails at every file."""
    before = snapshot(study)
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(limit), *arguments],
        capture_output=True, text=True, cwd=study,
    )  # fmt: skip
    check_message(done, "File too large")
    assert f"cannot write {place}\n" in done.stderr
    for journal in study.glob("*/predictions/*.unfinished"):
        if journal.joinpath("rows-0.jsonl").stat().st_size:  # captions that are kept on purpose
            shutil.rmtree(journal)
    assert snapshot(study) == before


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """Return a place for a mount, or skip."""
    mount = [*OWN_MOUNTS, "mount", "-t", "tmpfs", "none", str(tmp_path)]
    if shutil.which("unshare") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs Linux with user name spaces, to mount a tiny disk without rights")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("room_kb", "arguments", "reason"),
    [
        (0, TRAIN, "No space left on device"),
        (200, TRAIN, "MB free on the disk"),
        (0, CAPTION, "No space left on device"),
        (8, CAPTION, "No space left on device"),
        (0, EVALUATE, "No space left on device"),
        (0, PHANTOMS, "MB free on the disk"),
        (0, PREPARE, "MB free on the disk"),
        (40, REPORT, "No space left on device"),
    ],
    ids=named,
)
def test_a_disk_that_is_really_full(
    study: Path, disk: Path, room_kb: int, arguments: tuple[str, ...], reason: str
) -> None:
    script = ["sh", "-c", TINY_DISK, "sh", study, disk, room_kb, sys.executable, *arguments]
    done = subprocess.run([*OWN_MOUNTS, *map(str, script)], capture_output=True, text=True)
    check_message(done, reason)

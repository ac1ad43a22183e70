"""A write is all or nothing: on errors, on a full disk, on a kill; one writer at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from medblip.errors import DataError, RunError
from medblip.rundir import (
    RunDir,
    read_json,
    require_space,
    staged_directory,
    staged_file,
    write_json,
    write_text,
)


class SafetensorError(Exception):
    """Named as the library's: it is neither OSError nor RuntimeError."""


FULL_DISK = [
    OSError(28, "No space left on device"),
    RuntimeError("[enforce fail] . unexpected pos: No space left on device"),
    SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
]


@pytest.mark.parametrize("error", FULL_DISK, ids=lambda e: type(e).__name__)
def test_full_disk_leaves_the_old_file_and_directory(tmp_path: Path, error: Exception) -> None:
    file, folder = tmp_path / "a.json", tmp_path / "best"
    write_text(file, "old")
    with staged_directory(folder) as partial:
        (partial / "weights").write_text("old")

    def half_a_file() -> None:
        with staged_file(file) as partial:
            partial.write_text("ne")
            raise error

    def half_a_folder() -> None:
        with staged_directory(folder) as partial:
            (partial / "weights").write_text("ne")
            raise error

    for write in (half_a_file, half_a_folder):
        with pytest.raises(RunError, match="No space left"):
            write()
    assert file.read_text() == "old"
    assert (folder / "weights").read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "best"]


def test_bugs_keep_their_own_type(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="shape"), staged_file(tmp_path / "a"):
        raise RuntimeError("shape mismatch")
    assert not list(tmp_path.iterdir())


def test_a_directory_is_replaced_whole(tmp_path: Path) -> None:
    for text in ("one", "two"):
        with staged_directory(tmp_path / "best") as partial:
            (partial / text).write_text(text)
    assert [p.name for p in (tmp_path / "best").iterdir()] == ["two"]


def test_kill_while_saving_leaves_a_whole_directory(tmp_path: Path) -> None:
    """Ten kills at different moments; the long suite does many more."""
    script = f"""
import itertools, sys
from pathlib import Path
from medblip.rundir import staged_directory
for number in itertools.count():
    with staged_directory(Path({str(tmp_path / "best")!r})) as folder:
        for name in "abc":
            (folder / name).write_text(str(number) * 20000)
    print(number, flush=True)
"""
    for attempt in range(10):
        process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.003 * attempt)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        with staged_directory(tmp_path / "other"):
            pass
        best = tmp_path / "best"
        if not best.exists():  # killed between two renames: the old one waits beside it
            best = tmp_path / "best.old.partial"
        texts = {(best / name).read_text() for name in "abc"}
        assert len(texts) == 1, "files of two saves are mixed"


def test_json_carries_its_version(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"x": 1})
    assert read_json(tmp_path / "a.json")["x"] == 1
    write_text(tmp_path / "b.json", '{"schema_version": 99}')
    with pytest.raises(DataError, match="unknown file version"):
        read_json(tmp_path / "b.json")
    with pytest.raises(RunError, match="not found"):
        read_json(tmp_path / "c.json")
    write_text(tmp_path / "d.json", "{")
    with pytest.raises(RunError, match="not JSON"):
        read_json(tmp_path / "d.json")


def test_space_is_checked_before_work_begins(tmp_path: Path) -> None:
    require_space(tmp_path / "not" / "yet", 1)
    with pytest.raises(RunError, match="not enough disk space"):
        require_space(tmp_path, 10**18)


def test_second_writer_is_refused_and_stale_locks_are_not(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    script = (
        "import sys; from medblip.rundir import RunDir\n"
        f"with RunDir({str(run.path)!r}).lock(): print('held', flush=True); sys.stdin.read()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", script], **pipes) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(RunError, match=f"process {holder.pid}"), run.lock():
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    assert (run.path / "LOCK").exists()
    with run.lock():
        assert (run.path / "LOCK").read_text().startswith(str(os.getpid()))
    assert not (run.path / "LOCK").exists()

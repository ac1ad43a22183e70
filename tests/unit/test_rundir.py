"""A write is all or nothing: on errors, on a full disk, on a kill; one writer at a time."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from medblip.errors import DataError, RunError
from medblip.files import (
    read_json,
    require_space,
    staged_directory,
    staged_file,
    staged_texts,
    write_json,
    write_text,
)
from medblip.rundir import RunDir


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


def test_files_that_belong_together_are_all_old_or_all_new(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for path in (one, two):
        write_text(path, "old")

    def fail_in_the_second_file() -> None:
        with staged_texts({one: "new", two / "below a file": "new"}):
            pass

    def fail_in_the_body() -> None:
        with staged_texts({one: "new", two: "new"}):
            raise RunError("the third file does not fit")

    for fail, words in ((fail_in_the_second_file, "cannot write"), (fail_in_the_body, "third")):
        with pytest.raises(RunError, match=words):
            fail()
        assert files(tmp_path) == {"one": b"old", "two": b"old"}
    with staged_texts({one: "new", two: "new"}):
        assert (one.read_text(), two.read_text()) == ("old", "old")
    assert files(tmp_path) == {"one": b"new", "two": b"new"}


def files(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder."""
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def killed(script: str, arguments: list[str], delay: float = 0.0) -> None:
    """Run a script; SIGKILL it `delay` seconds after its first line on standard output."""
    process = subprocess.Popen(
        [sys.executable, "-c", script, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdin is not None
    line = process.stdout.readline()
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it ended by itself"
    process.stdout.close()
    process.stdin.close()
    assert line


SAVES_FOR_EVER = """
import itertools, sys
from pathlib import Path
from medblip.files import staged_directory
for number in itertools.count():
    with staged_directory(Path(sys.argv[1])) as folder:
        for name in "abc":
            (folder / name).write_text(str(number) * 20000)
    print(number, flush=True)
"""


def check_kill_while_saving(tmp_path: Path, delay: float) -> None:
    """Kill, look at what is there, then let the next save tidy up."""
    best, retired = tmp_path / "best", tmp_path / "best.old.partial"
    killed(SAVES_FOR_EVER, [str(best)], delay)
    # killed between two renames, the old one waits beside its place
    whole = best if best.exists() else retired
    texts = {(whole / name).read_text() for name in "abc"}
    assert len(texts) == 1, "files of two saves are mixed"
    with staged_directory(best) as folder:
        assert {(best / name).read_text() for name in "abc"} == texts, "it is back in its place"
        for name in "abc":
            (folder / name).write_text("next")
    assert [p.name for p in tmp_path.iterdir()] == ["best"]


@pytest.mark.parametrize("attempt", range(10))
def test_kill_while_saving_leaves_a_whole_directory(tmp_path: Path, attempt: int) -> None:
    check_kill_while_saving(tmp_path, 0.003 * attempt)


@pytest.mark.slow
def test_many_kills_while_saving_leave_a_whole_directory(tmp_path: Path) -> None:
    """Each kill meets what the one before it left, as on a machine that crashes again and again."""
    moments = random.Random(0)
    for _ in range(60):
        check_kill_while_saving(tmp_path, moments.uniform(0, 0.05))


def test_a_save_killed_between_its_two_renames_is_mended_by_the_next(tmp_path: Path) -> None:
    """Random kills seldom meet this moment: the old folder is aside, the new one not yet there."""
    write_text(tmp_path / "best.old.partial" / "weights", "old")
    write_text(tmp_path / "best.partial" / "weights", "new")

    def fail() -> None:
        with staged_directory(tmp_path / "best"):
            raise OSError(28, "No space left on device")

    with pytest.raises(RunError, match="No space left"):
        fail()
    assert files(tmp_path) == {"best/weights": b"old"}


REPLACES_AND_WAITS = """
import sys
from pathlib import Path
from medblip.files import write_json
from medblip.rundir import RunDir
run, moment = RunDir(sys.argv[1]), sys.argv[2]
with run.replaced(force=True), run.lock():
    if moment != "nothing written":
        write_json(run.config, {"run": "new"})
        (run.path / "metrics.jsonl.partial").write_text("half a l")
    if moment == "complete":
        write_json(run.completion, {"run": "new"})
    print("reached", flush=True)
    sys.stdin.read()
"""


def a_run(path: Path, name: str) -> RunDir:
    """Write a finished run whose files carry its name."""
    run = RunDir(path)
    write_json(run.config, {"run": name})
    write_text(run.checkpoint / "weights", name)
    write_json(run.completion, {"run": name})
    return run


@pytest.mark.parametrize("moment", ["nothing written", "half written"])
@pytest.mark.parametrize("force", [False, True])
def test_a_killed_replacement_gives_the_old_run_back(
    tmp_path: Path, moment: str, force: bool
) -> None:
    """The next call finds the old run, and refuses or replaces it as if nothing had happened."""
    run = a_run(tmp_path / "run", "old")
    before = files(run.path)
    killed(REPLACES_AND_WAITS, [str(run.path), moment])
    assert not run.completion.exists(), "the kill came before the old run was moved aside"
    if not force:
        with pytest.raises(RunError, match="a finished run"), run.replaced(force=False):
            pass
    else:
        # the next replacement fails too: what comes back is the old run, not half of the new one
        def fail() -> None:
            with run.replaced(force=True):
                raise RunError("diverged")

        with pytest.raises(RunError, match="diverged"):
            fail()
    assert files(run.path) == before
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_a_replacement_killed_after_it_was_complete_stands(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", "old")
    killed(REPLACES_AND_WAITS, [str(run.path), "complete"])
    with pytest.raises(RunError, match="a finished run"), run.replaced(force=False):
        pass
    assert read_json(run.config)["run"] == read_json(run.completion)["run"] == "new"
    with run.replaced(force=True):
        a_run(run.path, "newer")
    assert read_json(run.config)["run"] == "newer"
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_a_replacement_that_goes_on_is_not_taken_for_a_killed_one(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", "old")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    arguments = [sys.executable, "-c", REPLACES_AND_WAITS, str(run.path), "half written"]
    with subprocess.Popen(arguments, **pipes) as writer:
        assert writer.stdout is not None
        assert writer.stdin is not None
        assert writer.stdout.readline() == b"reached\n"
        with pytest.raises(RunError, match=f"process {writer.pid}"), run.replaced(force=True):
            pass
        assert read_json(run.config)["run"] == "new"
        writer.stdin.close()
        assert writer.wait() == 0
    assert read_json(run.config)["run"] == "new"


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


@pytest.mark.parametrize("there", [True, False])
def test_a_lock_that_does_not_fit_leaves_nothing(tmp_path: Path, there: bool) -> None:
    if there:
        write_text(tmp_path / "run" / "config.json", "old")
    before = sorted(tmp_path.rglob("*"))
    script = """
import resource, sys
from medblip.rundir import RunDir
resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))  # as a full disk
with RunDir(sys.argv[1]).lock():
    pass
"""
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "run"], capture_output=True, text=True
    )
    assert "medblip.errors.RunError: cannot write" in done.stderr
    assert sorted(tmp_path.rglob("*")) == before

"""The limits: time, memory, crashes, files that are none, many threads, forks, orphans."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medblip.data.dicom import parent
from medblip.data.dicom.parent import close_children, cpu_limit_s, render
from medblip.errors import DataError, DicomError

Make = Callable[..., Path]


def idle_pids() -> list[int]:
    return [child._process.pid for child in parent._idle]


def reason(path: Path) -> str:
    """Return why a file is refused."""
    try:
        render(path)
    except DicomError as error:
        return str(error)
    return "rendered"


def test_one_child_serves_many_files(make: Make) -> None:
    path = make()
    render(path)
    first = idle_pids()
    for _ in range(5):
        render(path)
    assert idle_pids() == first


def test_a_file_that_computes_too_long_is_ended_and_the_next_is_read(
    make: Make, test_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = make(np.zeros((3000, 3000), np.uint16), name="slow.dcm")
    render(slow)
    with monkeypatch.context() as patch:
        patch.setattr(parent, "cpu_limit_s", lambda n_bytes: 0.004)
        found = {reason(slow) for _ in range(3)}  # the timer of the kernel is coarse
    assert (
        "took longer than its time limit"
        in found
        <= {"took longer than its time limit", "rendered"}
    )
    assert render(test_files / "CT_small.dcm").size == (128, 128)


def test_what_waits_for_ever_is_ended_by_the_clock(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make()
    render(path)
    os.kill(idle_pids()[-1], signal.SIGSTOP)
    with monkeypatch.context() as patch:
        patch.setattr(parent, "WALL_BASE_S", 0.2)
        patch.setattr(parent, "cpu_limit_s", lambda n_bytes: 0.01)
        assert reason(path) == "took longer than its time limit"
    assert render(path).size == (4, 4)


def test_limits_grow_with_the_file() -> None:
    assert cpu_limit_s(0) == cpu_limit_s(1_000_000) == 1.5
    assert cpu_limit_s(50_000_000) > 50 * 0.2 * 4  # JPEG 2000, on a machine a quarter as fast


def bomb(path: Path, megabytes: int) -> Path:
    """Write a deflated file whose Pixel Data are so many megabytes of zeros."""
    pixels = b"\xe0\x7f\x10\x00OB\x00\x00" + (megabytes << 20).to_bytes(4, "little")
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    body = packer.compress(b"\x08\x00\x60\x00CS\x02\x00CT" + pixels)
    for _ in range(megabytes):
        body += packer.compress(bytes(1 << 20))
    body += packer.flush()
    syntax = b"1.2.840.10008.1.2.1.99"
    meta = b"\x02\x00\x10\x00UI" + len(syntax).to_bytes(2, "little") + syntax
    path.write_bytes(bytes(128) + b"DICM" + meta + body)
    return path


def test_a_deflated_bomb_meets_the_memory_limit_and_the_parent_stays_small(tmp_path: Path) -> None:
    path = bomb(tmp_path / "bomb.dcm", 512)
    assert 400_000 < path.stat().st_size < 600_000
    program = (
        "import resource, sys\nfrom pathlib import Path\n"
        "from medblip.data.dicom.parent import close_children, look, render\n"
        "from medblip.data.dicom import parent\n"
        "from medblip.errors import DicomError\n"
        "parent.cpu_limit_s = lambda size: 60.0\n"  # a slow machine must not meet that one first
        "peak = lambda who: resource.getrusage(who).ru_maxrss // 1000\n"
        "before, path = peak(resource.RUSAGE_SELF), Path(sys.argv[1])\n"
        "try:\n    render(path)\nexcept DicomError as error:\n    print(error)\n"
        "print(look(path, 'bomb').betrays)\nclose_children()\n"
        "print(peak(resource.RUSAGE_SELF) - before, peak(resource.RUSAGE_CHILDREN))\n"
    )  # in a process of its own: peaks are never forgotten
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True
    )
    reason, betrays, sizes = done.stdout.splitlines()
    grown_mb, child_mb = map(int, sizes.split())
    assert (reason, betrays) == ("needs more memory than its limit", "True")
    assert grown_mb < 20
    assert child_mb < 1200  # the imports and 1 GB


def test_a_child_that_dies_at_work_is_a_crash_one_that_died_idle_is_nothing(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make()
    render(path)
    for pid in idle_pids():
        os.kill(pid, signal.SIGKILL)
    time.sleep(0.1)
    assert render(path).size == (4, 4)

    def dies(child: Any, line: bytes, wall_s: float) -> Any:
        os.kill(child._process.pid, signal.SIGSEGV)
        return child._receive(time.monotonic() + wall_s)

    with monkeypatch.context() as patch:
        patch.setattr(parent._Child, "ask", dies)
        assert reason(path) == "the decoder crashed"
    assert render(path).size == (4, 4)


@pytest.mark.parametrize(
    "answer",
    [b"\xff" * 8, b"\0\0\0\2\0\0\0\0[]", b"\0\0\0\2\0\0\0\0{]", b'\0\0\0\x0b\0\0\0\1{"reason":1}'],
)
def test_a_child_is_not_believed(
    make: Make, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    """What decodes hostile bytes may itself turn hostile."""
    path = make()
    render(path)

    def lies(child: Any, line: bytes, wall_s: float) -> Any:
        read, write = os.pipe()
        os.write(write, answer + b"x")
        os.close(write)
        os.dup2(read, child._process.stdout.fileno())
        os.close(read)
        return child._receive(time.monotonic() + wall_s)

    with monkeypatch.context() as patch:
        patch.setattr(parent._Child, "ask", lies)
        assert reason(path) == "the decoder crashed"
    close_children()


def test_only_regular_files_of_a_sane_size_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.dcm")
    (tmp_path / "folder.dcm").mkdir()
    with (tmp_path / "huge.dcm").open("wb") as file:
        file.truncate(200_000_001)
    for name, expected in {
        "pipe.dcm": "not a regular file",
        "folder.dcm": "not a regular file",
        "huge.dcm": "file larger than 200 MB",
        "absent.dcm": "file not found",
        "empty.dcm/x": "file not found",
    }.items():
        assert reason(tmp_path / name) == expected


def test_a_file_that_may_not_be_read(make: Make) -> None:
    path = make()
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("runs as root")
    assert reason(path) == "cannot be read from the disk"


def test_names_in_any_encoding(make: Make, tmp_path: Path) -> None:
    path = make()
    strange = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9\n\xff.dcm")
    os.rename(path, strange)
    assert render(Path(strange)).size == (4, 4)


def test_threads_share_children_and_get_their_own_pictures(make: Make) -> None:
    paths = [make(np.full((5, 4 + i), 10 * i, np.uint8), name=f"{i}.dcm") for i in range(12)]
    with ThreadPoolExecutor(4) as pool:
        pictures = list(pool.map(render, paths * 5))
    for i, picture in enumerate(pictures):
        assert picture.size == (4 + i % 12, 5)
        assert picture.getextrema() == (10 * (i % 12),) * 2
    assert len(idle_pids()) <= 5


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_starts_its_own_child(make: Make) -> None:
    path = make()
    render(path)
    pid = os.fork()
    if not pid:
        code = 1
        try:
            code = 0 if render(path).size == (4, 4) else 2
            close_children()
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    assert render(path).size == (4, 4)


def test_no_orphan_is_left_when_the_parent_is_killed(make: Make) -> None:
    program = (
        "import sys, time\nfrom pathlib import Path\n"
        "from medblip.data.dicom import parent\n"
        "parent.render(Path(sys.argv[1]))\n"
        "print(parent._idle[0]._process.pid, flush=True)\ntime.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(make())], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    child = int(process.stdout.readline())
    process.kill()
    process.wait()
    process.stdout.close()
    deadline = time.monotonic() + 10
    while is_running(child):
        assert time.monotonic() < deadline, "the child outlived its parent"
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_without_pydicom_the_extra_is_named(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make()
    close_children()
    stub = tmp_path / "stub"
    stub.mkdir()
    (stub / "pydicom.py").write_text("raise ImportError('absent', name='pydicom')")
    monkeypatch.setenv("PYTHONPATH", str(stub))
    with pytest.raises(DataError, match=r"pip install 'medblip\[dicom\]'") as caught:
        render(path)
    assert not isinstance(caught.value, DicomError)


def test_a_module_in_the_current_folder_is_not_imported(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make()
    close_children()
    (tmp_path / "pydicom.py").write_text("raise SystemExit('hijacked')")
    monkeypatch.chdir(tmp_path)
    assert render(path).size == (4, 4)


def test_the_child_imports_nothing_heavy() -> None:
    program = (
        "import sys, medblip.data.dicom.child as child\nchild._import_decoders()\n"
        "heavy = {'torch', 'transformers', 'matplotlib', 'pydantic', 'typer'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"

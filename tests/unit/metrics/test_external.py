"""External scorers: one contract, whatever the scorer does."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medblip.metrics.base import Agreement, Ratio
from medblip.metrics.external import (
    ScorerResult,
    ScorerRow,
    ScorerSpec,
    parse_scorer,
    run_scorer,
)
from medblip.metrics.external.child import TAIL_CHARACTERS, run_child

ROWS = (
    ScorerRow(id="a", hyp="left effusion", refs=("small left effusion",), image="/images/a.png"),
    ScorerRow(id="b", hyp="nödule – 3½ cm", refs=("nodule", "a lung nodule")),
    ScorerRow(id="c", hyp="", refs=("normal chest",)),
)

STUB = """
import json, os, signal, subprocess, sys, time
source, target = sys.argv[-2:]
rows = [json.loads(line) for line in open(source, encoding="utf-8")]
n = len(rows)
good = {"scorer": "stub", "version": "1.0", "models": {"m": "x@1"}, "ids": [r["id"] for r in rows],
        "per_item": {"overlap": [float(len(r["hyp"])) for r in rows]}, "errors": {}}
def write(result, text=None):
    open(target, "w", encoding="utf-8").write(json.dumps(result) if text is None else text)
"""


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep temporary files of the runs where a test can see them."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def stub(tmp_path: Path, body: str, **fields: Any) -> ScorerSpec:
    script = tmp_path / "stub.py"
    script.write_text(STUB + body, encoding="utf-8")
    return ScorerSpec(name="stub", command=(sys.executable, "-S", str(script)), **fields)


def run(tmp_path: Path, body: str, rows: Any = ROWS, **fields: Any) -> ScorerResult:
    return run_scorer(stub(tmp_path, body, **fields), rows, timeout_s=20)


def gone(pid: int) -> bool:
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 0)
                time.sleep(0.02)
                continue
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


def test_a_result_becomes_statistics(tmp_path: Path, scratch: Path) -> None:
    body = """
good["per_item"]["Stub-x"] = [0.5, 1.0, 0.0]
good["counts"] = {"items": [[1, 2, 1], [0, 0, 3], None]}
good["corpus"] = {"overlap": 9.0, "kappa": 0.25}
good["lower_is_better"] = ["kappa"]
write(good)
"""
    result = run(tmp_path, body)
    assert result.unavailable is None
    assert list(result.families) == ["stub-overlap", "Stub-x", "stub-items"]
    overlap, items = result.families["stub-overlap"], result.families["stub-items"]
    assert isinstance(overlap.metric, Ratio)
    assert overlap.per_image()[:, 0].tolist() == [13, 14, 0]
    assert overlap.corpus()[0] == 9
    assert isinstance(items.metric, Agreement)
    assert items.metric.names == ("stub-items-P", "stub-items-R", "stub-items-F1")
    assert items.corpus().tolist() == [0.5, 0.25, pytest.approx(1 / 3)]
    assert result.scored == {"stub-overlap": 3, "Stub-x": 3, "stub-items": 2}
    assert result.failed == {"c": "items: no value"}
    assert result.corpus == {"stub-kappa": 0.25}
    assert result.lower_is_better == {"stub-kappa"}
    assert overlap.metric.signature == "stub:1.0|m:x@1|medblip-external:1"
    assert (result.version, result.models) == ("1.0", {"m": "x@1"})
    assert result.seconds > 0
    assert list(scratch.iterdir()) == []


def test_rows_arrive_as_they_are_by_file_and_standard_input(tmp_path: Path) -> None:
    body = """
same = sys.stdin.read() == open(source, encoding="utf-8").read()
keep = {"rows": rows, "same": same}
open(os.environ["KEEP"], "w").write(json.dumps(keep)); write(good)
"""
    keep = tmp_path / "keep.json"
    assert run(tmp_path, body, env={"KEEP": str(keep)}).unavailable is None
    seen = json.loads(keep.read_text())
    assert seen["same"]
    assert seen["rows"][0] == {
        "id": "a", "hyp": "left effusion", "refs": ["small left effusion"],
        "image": "/images/a.png",
    }  # fmt: skip
    assert seen["rows"][1]["hyp"] == "nödule – 3½ cm"
    assert seen["rows"][1]["image"] is None


def test_file_names_go_where_the_command_says(tmp_path: Path) -> None:
    script = tmp_path / "s.py"
    script.write_text(
        "import json, sys\nassert sys.argv[1] == '--out' and sys.argv[3] == '--in'\n"
        "n = len(open(sys.argv[4]).readlines())\n"
        "json.dump({'per_item': {'x': [1] * n}}, open(sys.argv[2], 'w'))\n"
    )
    words = f"own={sys.executable} {shlex.quote(str(script))} --out {{out}} --in {{in}}"
    result = run_scorer(parse_scorer(words), ROWS)
    assert result.families["own-x"].corpus()[0] == 1
    assert result.version == "unknown"


def test_images_that_fail_are_counted_and_the_rest_counts(tmp_path: Path) -> None:
    body = """
good["errors"] = {"b": "out of memory"}
write(None, json.dumps(good).replace("13.0", "NaN").replace("14.0", "null"))
"""
    result = run(tmp_path, body)
    assert result.unavailable is None
    assert result.failed == {"a": "overlap: not a finite number (nan)", "b": "out of memory"}
    assert result.families["stub-overlap"].values.tolist() == [[0, 0], [0, 0], [0, 1]]
    assert result.scored == {"stub-overlap": 1}


@pytest.mark.parametrize("value", ["Infinity", "-Infinity", "1e999", "1" + "0" * 400])
def test_numbers_that_are_not_finite_are_no_values(tmp_path: Path, value: str) -> None:
    result = run(tmp_path, f"write(None, json.dumps(good).replace('13.0', '{value}'))")
    assert set(result.failed) == {"a"}
    assert np.isfinite(result.families["stub-overlap"].values).all()


def test_a_column_without_any_value_is_left_out_and_said(tmp_path: Path) -> None:
    result = run(tmp_path, "good['per_item']['empty'] = [None] * n; write(good)")
    assert list(result.families) == ["stub-overlap"]
    assert "stub-empty: left out, no image has a value" in result.notes
    assert result.failed == {}


def test_a_corpus_value_that_is_not_the_mean_is_said(tmp_path: Path) -> None:
    result = run(tmp_path, "good['corpus'] = {'overlap': 5.0}; write(good)")
    assert result.corpus == {}
    assert result.notes == ("stub-overlap: 5 by the scorer, 9 as mean of its images",)


BREACHES = {
    "good['per_item']['overlap'].pop(); write(good)": "2 values for 3 images",
    "good['per_item'] = {'overlap': {'a': 1}}; write(good)": "dict for 3 images",
    "good['per_item'] = [1, 2, 3]; write(good)": "per_item is a list, not an object",
    "good['per_item']['overlap'][1] = '0.5'; write(good)": "'0.5' for image 2 is no number",
    "good['per_item']['overlap'][1] = True; write(good)": "'True' for image 2 is no number",
    "good['per_item'] = {'a|b': [1, 2, 3]}; write(good)": "a column is called 'a|b'",
    "good['per_item'] = {'': [1, 2, 3]}; write(good)": "a column is called ''",
    "good['per_item']['stub-overlap'] = [1, 2, 3]; write(good)": "both be called stub-overlap",
    "good['ids'].reverse(); write(good)": "its ids are not those it was given",
    "good['errors'] = {'zz': 'what'}; write(good)": "ids it was not given, e.g. 'zz'",
    "good['counts'] = {'i': [[2, 1, 1]] * n}; write(good)": "impossible counts [2, 1, 1]",
    "good['counts'] = {'i': [[1, 1]] * n}; write(good)": "'[1, 1]' for image 1",
    "good['per_item'] = {}; write(good)": "it holds no column",
    "good['per_item']['overlap'] = [None] * n; write(good)": "overlap: no value",
    "write([1])": "a list, not an object",
    "write(None, '{\"per_item\": ')": "its result is not JSON",
    "write(None, '')": "its result is not JSON",
    "write(None, '[' * 200000)": "its result is not JSON",
    "open(target, 'wb').write(b'\\xff\\xfe{}')": "not UTF-8 (byte 0)",
    "pass": "wrote no result",
    "os.mkdir(target)": "cannot be run",
    "write(good); print('no GPU', file=sys.stderr); sys.exit(3)": "ended with exit status 3",
    "raise SystemExit('no weights')": "no weights",
    "import nothing_of_this_name": "No module named 'nothing_of_this_name'",
    "os.kill(os.getpid(), signal.SIGKILL)": "killed by signal 9, most often for want of memory",
    "sys.exit(137)": "killed by signal 9, most often for want of memory",
    "os.abort()": "killed by signal 6",
}


@pytest.mark.parametrize(("body", "reason"), BREACHES.items(), ids=range(len(BREACHES)))
def test_a_scorer_that_fails_gives_a_reason(
    tmp_path: Path, scratch: Path, body: str, reason: str
) -> None:
    result = run(tmp_path, body)
    assert result.unavailable is not None
    assert reason in result.unavailable
    assert "scorer stub" in result.unavailable
    assert not result.families
    assert not result.corpus
    assert list(scratch.iterdir()) == []


def test_what_is_printed_does_not_matter_however_much(tmp_path: Path) -> None:
    body = """
for i in range(400):
    os.write(1, b"{\\"per_item\\": 0}\\xff" * 1000); os.write(2, b"chatter \\xff\\xfe" * 1000)
write(good)
"""
    result = run(tmp_path, body)
    assert result.unavailable is None
    assert result.families["stub-overlap"].corpus()[0] == 9


def test_the_end_of_the_errors_is_kept_and_progress_bars_are_not(tmp_path: Path) -> None:
    body = """
sys.stderr.write("x" * 3000000 + "\\n" + "".join("\\r%d%%" % i for i in range(100)) + "\\n")
print("chatter"); sys.exit("the last word")
"""
    reason = run(tmp_path, body).unavailable
    assert reason is not None
    assert "99%\n" in reason
    assert "98%" not in reason
    assert reason.index("the last word") > 1000
    assert "chatter" not in reason
    assert len(reason) < TAIL_CHARACTERS + 500


def test_without_errors_the_end_of_the_output_is_kept(tmp_path: Path) -> None:
    assert "so it goes" in str(run(tmp_path, "print('so it goes'); sys.exit(1)").unavailable)


GRANDCHILD = """
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
open(os.environ["PIDS"], "w").write("%d %d" % (os.getpid(), child.pid))
"""


def test_a_hanging_scorer_is_killed_with_its_workers(tmp_path: Path, scratch: Path) -> None:
    pids = tmp_path / "pids"
    body = GRANDCHILD + "print('loading', file=sys.stderr, flush=True); write(good); time.sleep(60)"
    started = time.monotonic()
    result = run(tmp_path, body, env={"PIDS": str(pids)}, timeout_s=1.5)
    assert time.monotonic() - started < 10
    assert "stopped after its time limit of 1.5 s" in str(result.unavailable)
    assert "loading" in str(result.unavailable)
    assert not result.families
    assert all(gone(int(pid)) for pid in pids.read_text().split())
    assert list(scratch.iterdir()) == []


def test_workers_left_behind_end_with_their_scorer(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    started = time.monotonic()
    result = run(tmp_path, GRANDCHILD + "write(good)", env={"PIDS": str(pids)})
    assert result.unavailable is None
    assert time.monotonic() - started < 10
    assert all(gone(int(pid)) for pid in pids.read_text().split())


def test_an_interrupt_ends_the_child(tmp_path: Path, scratch: Path) -> None:
    pids = tmp_path / "pids"

    def interrupt() -> None:
        while not pids.exists() or len(pids.read_text().split()) < 2:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, GRANDCHILD + "time.sleep(60)", env={"PIDS": str(pids)})
    assert all(gone(int(pid)) for pid in pids.read_text().split())
    assert list(scratch.iterdir()) == []


def test_the_child_is_offline_and_out_of_our_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    names = ["HF_HUB_OFFLINE", "PYTHONPATH", "TMPDIR", "MINE"]
    body = f"open(os.environ['KEEP'], 'w').write(json.dumps([os.environ.get(k) for k in {names}]))"
    run(tmp_path, body, env={"KEEP": str(tmp_path / "keep"), "MINE": "1"})
    offline, path, scratch, mine = json.loads((tmp_path / "keep").read_text())
    assert (offline, path, mine) == ("1", None, "1")
    assert not Path(scratch).exists()
    run(tmp_path, body, env={"KEEP": str(tmp_path / "keep"), "HF_HUB_OFFLINE": "0"})
    assert json.loads((tmp_path / "keep").read_text())[0] == "0"


def test_many_rows(tmp_path: Path) -> None:
    rows = [ScorerRow(id=str(i), hyp="word " * 20, refs=("w " * 50,)) for i in range(20_000)]
    result = run(tmp_path, "write(good)", rows)
    assert result.scored == {"stub-overlap": 20_000}


def test_a_command_that_is_not_there_is_said_at_once(tmp_path: Path) -> None:
    result = run_scorer(parse_scorer("own=no-such-program-here --x"), ROWS)
    assert "program no-such-program-here" in str(result.unavailable)
    file = tmp_path / "not-a-program"
    file.write_text("")
    assert run_scorer(parse_scorer(f"own={file}"), ROWS).unavailable is not None


@pytest.mark.parametrize("rows", [(), (ROWS[0], ROWS[0])])
def test_no_rows_or_one_id_twice_is_a_reason(tmp_path: Path, rows: Any) -> None:
    assert run(tmp_path, "write(good)", rows).unavailable == "no images, or two with one id"


def test_a_child_keeps_a_bounded_tail(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("")
    code = "import os; os.write(2, 'é'.encode() * 500000); os.write(2, b'end')"
    ended = run_child([sys.executable, "-c", code], env={}, stdin=tmp_path / "in", timeout_s=20)
    assert ended.code == 0
    assert ended.tail == "é" * (TAIL_CHARACTERS - 3) + "end"

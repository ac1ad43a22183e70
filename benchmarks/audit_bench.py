"""Does the clinical audit see injected errors, and is it quiet on harmless rewrites?

Real ROCO captions are perturbed by the word lists of audit_bench.toml alone (nothing is read from
the audit's lexicon), one error each; the original is the reference. Recall = captions where the
audit reports an error of the right class; it reports none for a caption against itself. Beside it:
how much BLEU-4, ROUGE-L and CIDEr-D leave to the same captions. The last line is one JSON object.

    python benchmarks/audit_bench.py --data ../shared/data --out table.md
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import re
import resource
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from medblip.metrics import evaluate_captions
from medblip.metrics.audit import audit, audit_errors, audit_statistics

Perturb = Callable[[str, random.Random], str | None]

WORDS = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
#: Pairs of modalities of which one is a kind of the other: no error.
AKIN = [set(pair) for pair in WORDS["akin"]]
Pairs = list[tuple[str, str]]
#: Between these marks `--docs` puts the table.
BEGIN, END = "<!-- audit table: begin -->", "<!-- audit table: end -->"


def swap_words(pairs: list[tuple[str, str]], both_ways: bool = True) -> Perturb:
    """Return a perturbation that swaps one word, or every such word, for its partner."""
    table = {a.lower(): b for a, b in pairs}
    if both_ways:
        for a, b in pairs:
            table.setdefault(b.lower(), a)
    words = "|".join(re.escape(w) for w in sorted(table, key=len, reverse=True))
    pattern = re.compile(rf"(?<![\w-])(?:{words})(?![\w])", re.IGNORECASE)

    def perturb(caption: str, rng: random.Random) -> str | None:
        found = list(pattern.finditer(caption))
        if not found:
            return None
        chosen = found if rng.random() < 0.5 else [rng.choice(found)]
        for match in reversed(chosen):
            new = table[match.group().lower()]
            new = new.capitalize() if match.group()[0].isupper() and new.islower() else new
            caption = caption[: match.start()] + new + caption[match.end() :]
        return caption

    return perturb


def perturb_modality(caption: str, rng: random.Random) -> str | None:
    """Say another modality, in one of its wordings, wherever the caption names one of them."""
    table = WORDS["modalities"]
    names = list(table)
    rng.shuffle(names)
    for name in names:
        pattern = re.compile(rf"(?<![\w/-])(?:{table[name]['pattern']})(?![\w/])", re.IGNORECASE)
        if pattern.search(caption):
            others = [n for n in names if n != name and {n, name} not in AKIN]
            wording = rng.choice(table[rng.choice(others)]["wordings"])
            return pattern.sub(wording, caption)
    return None


def perturb_negation(caption: str, rng: random.Random) -> str | None:
    """Deny something that is asserted, or assert something that is denied."""
    denied = re.search(
        r"\b(no evidence of|no sign of|without any|without|absence of|no) (?!longer|change)"
        r"(?=[a-z])",
        caption, re.IGNORECASE,
    )  # fmt: skip
    if denied and rng.random() < 0.5:
        there = "with " if denied.group(1).lower().startswith("without") else ""
        return caption[: denied.start()] + there + caption[denied.end() :]
    if denied:
        return None
    nouns = WORDS["findings"].replace(" ", "|")
    phrase = r"(?:(?:a|an|the|multiple|large|small) )?((?:[\w-]+ ){0,2}?(?:" + nouns + r"))\b"
    verbs = r"show(?:s|ing|ed)|reveal(?:s|ing|ed)|demonstrat(?:es|ing|ed)|with"
    seen = rf"({verbs}|there is|note(?: the)?) "
    match = re.search(seen + phrase, caption, re.IGNORECASE)
    if match is None:
        match = re.search(rf"({verbs}) an? ([\w-]+ [\w-]+)(?= |[.,])", caption, re.IGNORECASE)
    if match is None or re.search(r"\b(and|of|in|the)\b", match.group(2)):
        return None
    ends = re.match(r"\s*(?:\(.*?\))?\s*[.,;]|$", caption[match.end() :]) is not None
    if ends and rng.random() < 0.5 and match.group(1).lower() != "with":
        new = rng.choice(WORDS["post_denials"]).format(match.group(2))
        return f"{caption[: match.start()]}{match.group(1)} {new}{caption[match.end() :]}"
    new = rng.choice(WORDS["denials"]).format(match.group(2))
    return f"{caption[: match.start()]}{match.group(1)} {new}{caption[match.end() :]}"


def perturb_level(caption: str, rng: random.Random) -> str | None:
    """Move what is said to another level of the spine, end, wall or lobe."""
    spine = re.search(r"(?<![\w-])([CTLS])([1-9]\d?)(?![\w-])(?!.{0,3}weight| *(?:w|im))", caption)
    if spine and not (spine.group(1) == "T" and int(spine.group(2)) < 4):
        highest = {"C": 7, "T": 12, "L": 5, "S": 5}[spine.group(1)]
        other = rng.choice([n for n in range(1, highest + 1) if n != int(spine.group(2))])
        return f"{caption[: spine.start()]}{spine.group(1)}{other}{caption[spine.end() :]}"
    segment = re.search(r"\b(segment|zone|tooth) (\d+)\b", caption)
    if segment:
        return (
            caption[: segment.start(2)] + str(int(segment.group(2)) + 2) + caption[segment.end(2) :]
        )
    if re.search(r"anterior[- ]posterior|lateral view|lateral radiograph", caption, re.IGNORECASE):
        return None
    return swap_words(WORDS["levels"])(caption, rng)


def perturb_severity(caption: str, rng: random.Random) -> str | None:
    """Change a size in figures, a grade, or a word of degree."""
    size = re.search(r"(?<![\w.])(\d+(?:\.\d+)?)(?=[ -]?(?:mm|cm)\b)", caption)
    if size and rng.random() < 0.5:
        return f"{caption[: size.start()]}{float(size.group()) * 3:g}{caption[size.end() :]}"
    grade = re.search(r"\b(grade|stage) (1|2|3|4|I|II|III|IV)\b", caption, re.IGNORECASE)
    if grade:
        new = "4" if grade.group(2) in ("1", "2", "I", "II") else "1"
        return caption[: grade.start(2)] + new + caption[grade.end(2) :]
    if re.search(r"(?:small|large) (?:bowel|intestine)|acute margin", caption, re.IGNORECASE):
        return None
    return swap_words(WORDS["severities"])(caption, rng)


def perturb_comparison(caption: str, rng: random.Random) -> str | None:
    """Invent a comparison, before or after what is said."""
    body = caption.rstrip(" .")
    if rng.random() < 0.4:
        return rng.choice(WORDS["changes_before"]) + body[:1].lower() + body[1:] + "."
    return body + rng.choice(WORDS["changes_after"]) + "."


def rewrite_synonym(caption: str, rng: random.Random) -> str | None:
    """Replace one term by its synonym or its other spelling."""
    known = [(pattern, new) for pattern, new in WORDS["synonyms"] if re.search(pattern, caption)]
    if not known:
        return None
    pattern, new = rng.choice(known)
    return re.sub(pattern, new, caption)


def rewrite_side(caption: str, rng: random.Random) -> str | None:
    """Say `effusion on the left` for `left-sided effusion` and the like."""
    match = re.search(r"\b(left|right)(-sided)? (lung|kidney|breast|hip|knee|pleural effusion|eye|"
                      r"shoulder|effusion|pneumothorax|hemithorax|ovary|femur|adrenal gland)\b",
                      caption)  # fmt: skip
    if match is None:
        return None
    new = f"{match.group(3)} {rng.choice(['on the', 'on the'])} {match.group(1)}"
    return caption[: match.start()] + new + caption[match.end() :]


def rewrite_order(caption: str, rng: random.Random) -> str | None:
    """Swap two sentences or the two parts around `showing`, or two clauses at a semicolon."""
    body = caption.strip().rstrip(".")
    for mark, joint in ((". ", ". "), ("; ", "; "), (": ", ": "), (", and ", ", and ")):
        parts = body.split(mark)
        if len(parts) == 2 and all(len(part) > 3 for part in parts):
            return parts[1] + joint + parts[0] + "."
    parts = re.split(r" (?:showing|shows|demonstrating) ", body)
    if len(parts) == 2 and "," not in parts[1]:
        return f"{parts[1]} shown on {parts[0]}."
    parts = body.split(", ")
    if len(parts) == 2 and rng.random() < 0.5:
        return f"{parts[1]}, {parts[0]}."
    return None


def rewrite_case(caption: str, rng: random.Random) -> str | None:
    """Write in capitals, or in small letters."""
    return caption.upper() if rng.random() < 0.5 else caption.lower()


def rewrite_punctuation(caption: str, rng: random.Random) -> str | None:
    """Drop all commas, or the full stops, or the hyphens; or set semicolons for commas."""
    rule = rng.choice([(r",(?!\d)", ""), (r"\.(?=\s|$)", ""), (r"(?<=[a-z])-(?=[a-z])", " "),
                       (r",(?=\s)", ";"), (r"[();]|,(?!\d)", ""), (r"\.(?=\s)", ";")])  # fmt: skip
    new = re.sub(*rule, caption)
    return new if new != caption else None


def rewrite_marks(caption: str, rng: random.Random) -> str | None:
    """Remove what is said about arrows."""
    new = re.sub(
        r"\s*\((?:[\w-]+ )?(?:[\w-]+ )?(?:arrow(?:head)?|asterisk|star|circle)s?\)",
        "",
        caption,
        flags=re.I,
    )
    return new if new != caption else None


def rewrite_articles(caption: str, rng: random.Random) -> str | None:
    """Drop the articles."""
    new = re.sub(r"\b(?:[Tt]he|[Aa]n|(?<![(\w])a) ", "", caption)
    return new if new != caption else None


def rewrite_verb(caption: str, rng: random.Random) -> str | None:
    """Replace a verb of seeing by another."""
    known = [(old, new) for old, new in WORDS["verbs"] if re.search(rf"\b{old}\b", caption)]
    if not known:
        return None
    old, new = rng.choice(known)
    return re.sub(rf"\b{old}\b", new, caption)


PERTURBATIONS: dict[str, tuple[Perturb, frozenset[str], float]] = {
    "side flipped": (swap_words(WORDS["sides"]), frozenset({"wrong-location"}), 0.95),
    "modality swapped": (perturb_modality, frozenset({"wrong-modality"}), 0.95),
    "comparison invented": (perturb_comparison, frozenset({"invented-comparison"}), 0.95),
    "finding negated": (
        perturb_negation, frozenset({"false-finding", "missed-finding"}), 0.85,
    ),
    "level changed": (perturb_level, frozenset({"wrong-location"}), 0.85),
    "severity changed": (perturb_severity, frozenset({"wrong-severity"}), 0.85),
}  # fmt: skip
REWRITES: dict[str, Perturb] = {
    "synonym or spelling": rewrite_synonym,
    "side reworded": rewrite_side,
    "clauses swapped": rewrite_order,
    "case": rewrite_case,
    "punctuation": rewrite_punctuation,
    "arrow marks removed": rewrite_marks,
    "articles dropped": rewrite_articles,
    "another verb": rewrite_verb,
}


def read_captions(data: Path, split: str) -> list[str]:
    """Return the radiology captions of a ROCO v1 split."""
    path = data / "roco-v1" / split / "radiology" / "captions.txt"
    lines = path.read_text(encoding="utf-8").splitlines()
    return [
        caption.strip() for _, _, caption in (line.partition("\t") for line in lines) if caption
    ]


def cases(captions: list[str], perturb: Perturb, count: int, seed: int) -> list[tuple[str, str]]:
    """Return up to `count` pairs (perturbed, original), drawn without replacement."""
    rng = random.Random(seed)
    order = list(captions)
    rng.shuffle(order)
    out: list[tuple[str, str]] = []
    for caption in order:
        new = perturb(caption, rng)
        if new is not None and new != caption:
            out.append((new, caption))
            if len(out) == count:
                break
    return out


def kept(pairs: list[tuple[str, str]]) -> dict[str, float]:
    """Return what BLEU-4, ROUGE-L and CIDEr-D leave, relative to the originals themselves."""
    originals = [original for _, original in pairs]
    references = [[original] for original in originals]
    worst = evaluate_captions([new for new, _ in pairs], references, resamples=0).scores
    best = evaluate_captions(originals, references, resamples=0).scores
    names = ("BLEU-4", "ROUGE-L", "CIDEr-D")
    return {name: worst[name].value / best[name].value for name in names}


def measure(captions: list[str], count: int, seed: int) -> dict[str, Any]:
    """Return recall per perturbation and false alarms per rewrite."""
    recall: dict[str, dict[str, float]] = {}
    for name, (perturb, classes, goal) in PERTURBATIONS.items():
        pairs = cases(captions, perturb, count, seed)
        hits = sum(any(e.kind in classes for e in audit_errors(*pair)) for pair in pairs)
        recall[name] = {"n": len(pairs), "recall": hits / len(pairs), "goal": goal, **kept(pairs)}
    alarms: dict[str, dict[str, float]] = {}
    for name, rewrite in REWRITES.items():
        pairs = cases(captions, rewrite, count, seed)
        hits = sum(bool(audit_errors(*pair)) for pair in pairs)
        alarms[name] = {"n": len(pairs), "alarms": hits / len(pairs)}
    total = sum(a["n"] for a in alarms.values())
    everything = sum(a["n"] * a["alarms"] for a in alarms.values()) / total
    return {"recall": recall, "alarms": alarms, "all_alarms": everything, "rewrites": total}


def table(result: dict[str, Any], split: str) -> str:
    """Return the Markdown of both tables."""
    lines = [
        f"Captions: ROCO v1 {split}. Kept = score of the perturbed captions / of the originals.",
        "",
        "| injected error | captions | audit recall | goal "
        "| BLEU-4 kept | ROUGE-L kept | CIDEr-D kept |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in result["recall"].items():
        lines.append(
            f"| {name} | {row['n']} | {row['recall']:.1%} | {row['goal']:.0%} "
            f"| {row['BLEU-4']:.1%} | {row['ROUGE-L']:.1%} | {row['CIDEr-D']:.1%} |"
        )
    lines += ["", "| harmless rewrite | captions | false alarms |", "|---|---|---|"]
    for name, row in result["alarms"].items():
        lines.append(f"| {name} | {row['n']} | {row['alarms']:.1%} |")
    lines.append(f"| all (goal: at most 2 %) | {result['rewrites']} | {result['all_alarms']:.2%} |")
    return "\n".join(lines) + "\n"


def speed(captions: list[str]) -> float:
    """Return the CPU seconds of the audit of every caption against its neighbour."""
    audit.cache_clear()
    audit("warm the lexicon")
    before = resource.getrusage(resource.RUSAGE_SELF)
    audit_statistics(captions[1:] + captions[:1], [[caption] for caption in captions])
    after = resource.getrusage(resource.RUSAGE_SELF)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main(arguments: list[str] | None = None) -> None:
    """Measure, print, and write the table where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--split", default="test", help="tune on validation, quote test")
    parser.add_argument("--cases", type=int, default=1000, help="captions per perturbation")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="write the table here")
    parser.add_argument("--docs", type=Path, help="put the table between the marks of this page")
    options = parser.parse_args(arguments)
    if not (options.data / "roco-v1").is_dir():
        print(json.dumps({"benchmark": "audit", "skipped": f"no roco-v1 in {options.data}"}))
        return
    captions = read_captions(options.data, options.split)
    result = measure(captions, options.cases, options.seed)
    text = table(result, options.split)
    print(text)
    if options.out is not None:
        options.out.write_text(text, encoding="utf-8")
    if options.docs is not None:
        before, mark, rest = options.docs.read_text(encoding="utf-8").partition(BEGIN)
        _, end, after = rest.partition(END)
        if not mark or not end:
            sys.exit(f"{options.docs}: no {BEGIN} ... {END}")
        options.docs.write_text(f"{before}{mark}\n{text.strip()}\n{end}{after}", encoding="utf-8")
    seconds = speed(captions)
    print(
        json.dumps(
            {
                "benchmark": "audit",
                "split": options.split,
                "pairs": len(captions),
                "cpu_s": round(seconds, 2),
                **result,
                "python": platform.python_version(),
                "machine": platform.machine(),
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1:])

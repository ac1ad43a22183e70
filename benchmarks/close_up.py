"""What do blanks inside words cost a captioner with BERT's vocabulary? On real captions, no clock.

Each caption is written as a perfect captioner would: lower case, BERT's pieces, decoded as
transformers decodes them. Scored against itself: what is lost is lost to blanks alone.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from transformers import BertTokenizer

from medblip.metrics import evaluate_captions
from medblip.models.tokens import closed_up
from medblip.schema import read_jsonl

NAMES = ("CIDEr-D", "BLEU-4", "ROUGE-L")


def main() -> None:
    """Print the scores with and without the blanks, then one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pairs", type=Path, help="JSON lines with `caption`.")
    asked = parser.parse_args()
    captions = [str(row["caption"]) for row in read_jsonl(asked.pairs)]
    plain = [caption.lower() for caption in captions]
    # a vocabulary of all characters: nothing is unknown, and blanks are where BERT's would be
    letters = sorted({letter for text in plain for letter in text if not letter.isspace()})
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{x}" for x in letters)]
    tokenizer = BertTokenizer(vocab={word: place for place, word in enumerate(words)})
    written = [
        tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) for text in plain
    ]
    rows = {}
    for name, texts in (("as decoded", written), ("closed up", [closed_up(t) for t in written])):
        found = evaluate_captions(texts, [[caption] for caption in captions], resamples=0).scores
        same = sum(one == other for one, other in zip(texts, plain, strict=True))
        rows[name] = {metric: round(found[metric].value, 3) for metric in NAMES} | {"same": same}
        print(f"{name}: {rows[name]}")
    print(json.dumps({"benchmark": "close_up", "captions": len(captions), "scores": rows}))


if __name__ == "__main__":
    main()

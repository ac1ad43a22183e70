"""UMLS concepts of caption and reference, found by a MedCAT model pack.

Two values: `concepts` counts distinct CUIs over all images (micro precision, recall, F1);
`image-F1` follows the ImageCLEFmedical 2025 rule, where (name, CUI) pairs are counted and an image
with no concept on either side has 0. Semantic types are kept after linking; the organisers filter
inside the linker, which can change what an ambiguous word links to.
"""

from __future__ import annotations

import os
from typing import Any

import scorer_contract as contract


def image_f1(said: list[tuple[str, str]], true: list[tuple[str, str]]) -> float:
    """Return F1 of two lists of distinct (name, CUI); 0 where nothing is shared."""
    cuis = [cui for _, cui in said]
    right = sum(cui in cuis for _, cui in true)
    if not right:
        return 0.0
    precision, recall = right / len(said), right / len(true)
    return 2 * precision * recall / (precision + recall)


def main() -> None:
    """Score the rows."""
    options = contract.options(__doc__, types="")
    from medcat.cat import CAT

    pack = os.path.expanduser(os.environ["MEDCAT_MODEL_PACK"])
    cat = CAT.load_model_pack(pack)
    kept = {name for name in options.types.split(",") if name}
    known: dict[str, list[tuple[str, str]]] = {}

    def concepts(text: str) -> list[tuple[str, str]]:
        if text not in known:
            found: dict[Any, Any] = cat.get_entities(text).get("entities", {})
            pairs = [
                (str(entity["pretty_name"]), str(entity["cui"]))
                for entity in found.values()
                if not kept or kept & set(entity.get("type_ids") or [])
            ]
            known[text] = list(dict.fromkeys(pairs))
        return known[text]

    def score(hypotheses: list[str], references: list[str]) -> dict[str, list[float]]:
        pairs = [(concepts(h), concepts(references[i])) for i, h in enumerate(hypotheses)]
        return {"image-F1": [image_f1(said, true) for said, true in pairs]}

    rows = contract.read_rows(options.input)
    per_item, errors = contract.score_rows(rows, score, ["image-F1"])
    counts, more = contract.count_rows(rows, lambda text: {cui for _, cui in concepts(text)})
    is_file = os.path.isfile(pack)
    contract.write_result(
        options.output,
        rows,
        "medcat",
        contract.installed("medcat"),
        {
            "pack": os.path.basename(pack) + (" " + contract.fingerprint(pack) if is_file else ""),
            "types": options.types or "all",
        },
        per_item,
        {"concepts": counts},
        {**more, **errors},
    )


if __name__ == "__main__":
    main()

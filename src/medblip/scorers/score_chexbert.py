"""F1CheXbert (Smit et al. 2020): CheXpert labels of caption and reference, as micro F1.

Labels are positive or uncertain (1) against negative or not mentioned (0), as in the published
micro averages over 14 and over 5 labels. Counts go out, so that F1 of a resample is exact.
An empty caption names nothing.
"""

from __future__ import annotations

import os

import scorer_contract as contract


def main() -> None:
    """Score the rows."""
    options = contract.options(__doc__)
    from f1chexbert import F1CheXbert

    scorer = F1CheXbert(device="cuda" if contract.on_gpu(options.device) else "cpu")
    names, five = scorer.target_names, set(scorer.target_names_5)
    known: dict[str, set[str]] = {}

    def labels(text: str) -> set[str]:
        if text not in known:  # one run of the model serves both averages
            found = scorer.get_label(text.strip())
            known[text] = {name for i, name in enumerate(names) if found[i] == 1}
        return known[text]

    rows = contract.read_rows(options.input)
    all_labels, errors = contract.count_rows(rows, labels)
    five_labels, _ = contract.count_rows(rows, lambda text: labels(text) & five)
    weights = os.path.join(contract.user_cache(), "chexbert", "chexbert.pth")
    models = {"chexbert.pth": contract.fingerprint(weights)}
    contract.write_result(
        options.output,
        rows,
        "chexbert",
        contract.installed("f1chexbert"),
        models,
        counts={"14": all_labels, "5": five_labels},
        errors=errors,
    )


if __name__ == "__main__":
    main()

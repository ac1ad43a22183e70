"""RadEval 2.2: one package around many radiology metrics; `--metrics a,b` picks them.

Values per image, so only metrics that RadEval gives per image; it does not round them. Metrics that
send captions to a commercial service are refused. `radgraph` of 2.2.1 does not import on Linux
(the package asks for itself under another name): use the adapter `radgraph`.
"""

from __future__ import annotations

import scorer_contract as contract

_LOWER_IS_BETTER = ("radcliq_v1",)


def main() -> None:
    """Score the rows."""
    options = contract.options(__doc__, metrics="srrbert", batch="256")
    from radeval import RadEval
    from radeval.metrics._registry import get_metric_class

    names = [name for name in options.metrics.split(",") if name]
    for name in names:
        if getattr(get_metric_class(name), "is_api_based", False):
            raise SystemExit(f"{name} sends captions to a service; this adapter works offline")
    scorer = RadEval(metrics=names, per_sample=True, show_progress=False)

    def score(hypotheses: list[str], references: list[str]) -> dict[str, list[float]]:
        found = scorer(refs=references, hyps=hypotheses)
        return {name: list(values) for name, values in found.items() if hasattr(values, "__len__")}

    rows = contract.read_rows(options.input)
    columns = sorted(score(["No effusion."], ["No pleural effusion."]))  # names are known after use
    lower = [name for name in columns if name in _LOWER_IS_BETTER]
    size = 1 if "ratescore" in names else int(options.batch)  # see score_ratescore.py
    empty = None if lower else 0.0  # 0 would be the best value
    per_item, errors = contract.score_rows(rows, score, columns, size, empty, lower)
    contract.write_result(
        options.output,
        rows,
        "radeval",
        contract.installed("radeval"),
        {"metrics": options.metrics},
        per_item,
        errors=errors,
        lower_is_better=lower,
    )


if __name__ == "__main__":
    main()

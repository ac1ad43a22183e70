"""RadGraph F1 (Delbrouck et al. 2024): entities and relations shared with the reference.

Three levels: simple (entities), partial (entities, and whether they have relations), complete
(entities with their relations). The mean over images is the published corpus value.
"""

from __future__ import annotations

import os

import scorer_contract as contract


def main() -> None:
    """Score the rows."""
    options = contract.options(__doc__, model="radgraph-xl")
    from radgraph import F1RadGraph

    scorer = F1RadGraph(
        reward_level="all",
        model_type=options.model,
        cuda=0 if contract.on_gpu(options.device) else -1,
    )
    columns = ("simple", "partial", "complete")

    def score(hypotheses: list[str], references: list[str]) -> dict[str, list[float]]:
        levels = scorer(hyps=hypotheses, refs=references)[1]
        return {column: levels[i] for i, column in enumerate(columns)}

    rows = contract.read_rows(options.input)
    per_item, errors = contract.score_rows(rows, score, columns)
    version = contract.installed("radgraph")
    weights = os.path.join(contract.user_cache(), "radgraph", version, options.model, "weights.th")
    models = {options.model: contract.fingerprint(weights)}
    contract.write_result(
        options.output, rows, "radgraph", version, models, per_item, errors=errors
    )


if __name__ == "__main__":
    main()

"""RaTEScore (Zhao et al. 2024): similarity of the medical entities of caption and reference.

RaTEScore 0.6.0 drops a text without a sentence of three letters from its list, so that later pairs
are scored against the wrong reference; pair by pair this cannot happen. It gives 0.5 where one side
names no entity.
"""

from __future__ import annotations

import scorer_contract as contract


def main() -> None:
    """Score the rows."""
    options = contract.options(
        __doc__,
        ner="Angelakeke/RaTE-NER-Deberta",
        embedding="FremyCompany/BioLORD-2023-C",
        weights="long",
    )
    from RaTEScore import RaTEScore

    scorer = RaTEScore(
        bert_model=options.ner,
        eval_model=options.embedding,
        use_gpu=contract.on_gpu(options.device),
        affinity_matrix=options.weights,
    )

    def score(hypotheses: list[str], references: list[str]) -> dict[str, list[float]]:
        return {"RaTEScore": scorer.compute_score(hypotheses, references)}

    rows = contract.read_rows(options.input)
    per_item, errors = contract.score_rows(rows, score, ["RaTEScore"], batch=1)
    models = {
        "entities": contract.hub_revision(options.ner),
        "embedding": contract.hub_revision(options.embedding),
        "weights": options.weights,
    }
    contract.write_result(
        options.output,
        rows,
        "ratescore",
        contract.installed("RaTEScore"),
        models,
        per_item,
        errors=errors,
    )


if __name__ == "__main__":
    main()

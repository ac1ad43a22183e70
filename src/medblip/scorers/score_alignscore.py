"""AlignScore (Zha et al. 2023): does the reference support what the caption says?

Raw text, the reference as context and the caption as claim, mode `nli_sp`, as in ImageCLEFmedical
2025. The backbone follows the name of the checkpoint; the organisers' code names `roberta-large`
for the base checkpoint.
"""

from __future__ import annotations

import os

import scorer_contract as contract


def main() -> None:
    """Score the rows."""
    options = contract.options(__doc__, backbone="", mode="nli_sp", batch="32")
    from alignscore import AlignScore

    checkpoint = os.path.expanduser(os.environ["ALIGNSCORE_CKPT"])
    large = "large" in os.path.basename(checkpoint).lower()
    backbone = options.backbone or ("roberta-large" if large else "roberta-base")
    scorer = AlignScore(
        model=backbone,
        batch_size=int(options.batch),
        device="cuda:0" if contract.on_gpu(options.device) else "cpu",
        ckpt_path=checkpoint,
        evaluation_mode=options.mode,
        verbose=False,
    )

    def score(hypotheses: list[str], references: list[str]) -> dict[str, list[float]]:
        return {"AlignScore": scorer.score(contexts=references, claims=hypotheses)}

    rows = contract.read_rows(options.input)
    per_item, errors = contract.score_rows(rows, score, ["AlignScore"], batch=256)
    models = {
        "checkpoint": os.path.basename(checkpoint) + " " + contract.fingerprint(checkpoint),
        "backbone": contract.hub_revision(backbone),
        "mode": options.mode,
    }
    contract.write_result(
        options.output,
        rows,
        "alignscore",
        contract.installed("alignscore"),
        models,
        per_item,
        errors=errors,
    )


if __name__ == "__main__":
    main()

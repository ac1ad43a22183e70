"""BLEURT (Sellam et al. 2020; Pu et al. 2021) through the PyTorch port of its checkpoints.

`--text imageclef` normalises as ImageCLEFmedical 2026 does: lower case, digits to `number`, no
ASCII punctuation. An empty caption is scored by the model like any other.
"""

from __future__ import annotations

import re
import string

import scorer_contract as contract

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise(text: str) -> str:
    """Return the text as ImageCLEFmedical 2026 compares it.

    >>> normalise("A 3.5-cm Nodule.")
    'a numbernumbercm nodule'
    """
    return re.sub(r"\d+", "number", text.lower()).translate(_NO_PUNCTUATION)


def main() -> None:
    """Score the rows."""
    options = contract.options(__doc__, model="lucadiliello/BLEURT-20-D12", text="raw", batch="32")
    import torch
    from bleurt_pytorch import (
        BleurtConfig,
        BleurtForSequenceClassification,
        BleurtTokenizer,
    )

    device = "cuda" if contract.on_gpu(options.device) else "cpu"
    config = BleurtConfig.from_pretrained(options.model)
    model = BleurtForSequenceClassification.from_pretrained(options.model, config=config)
    model = model.to(device).eval()
    tokenizer = BleurtTokenizer.from_pretrained(options.model)
    longest = min(512, config.max_position_embeddings)

    def score(hypotheses: list[str], references: list[str]) -> dict[str, list[float]]:
        if options.text == "imageclef":
            hypotheses = [normalise(text) for text in hypotheses]
            references = [normalise(text) for text in references]
        inputs = tokenizer(
            references,
            hypotheses,
            padding="longest",
            truncation=True,
            max_length=longest,
            return_tensors="pt",
        ).to(device)
        with torch.no_grad():
            return {"BLEURT": model(**inputs).logits.flatten().tolist()}

    rows = contract.read_rows(options.input)
    per_item, errors = contract.score_rows(
        rows, score, ["BLEURT"], batch=int(options.batch), empty=None
    )
    models = {"checkpoint": contract.hub_revision(options.model), "text": options.text}
    contract.write_result(
        options.output,
        rows,
        "bleurt",
        "bleurt-pytorch " + contract.installed("bleurt-pytorch"),
        models,
        per_item,
        errors=errors,
    )


if __name__ == "__main__":
    main()

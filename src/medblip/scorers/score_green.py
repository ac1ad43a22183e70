"""GREEN (Ostmeier et al. 2024): a language model lists clinical errors and matched findings.

A 7-billion-parameter model: about 16 GB of GPU memory, 1 to 3 s per caption there; hours on a CPU.
The model's own code is run (`trust_remote_code`).
"""

from __future__ import annotations

import inspect
import os
import tempfile

import scorer_contract as contract


def main() -> None:
    """Score the rows."""
    options = contract.options(__doc__, model="StanfordAIMI/GREEN-radllama2-7b", batch="64")
    if "CUDA_VISIBLE_DEVICES" not in os.environ:
        os.environ["CUDA_VISIBLE_DEVICES"] = "0"  # with several GPUs green_score wants torchrun
    from green_score import GREEN

    gpu = contract.on_gpu(options.device)
    with tempfile.TemporaryDirectory() as folder:  # its tables would land in the current folder
        known = inspect.signature(GREEN).parameters  # they come and go between its commits
        wanted = {"cpu": not gpu, "compute_summary_stats": False}
        kept = {name: value for name, value in wanted.items() if name in known}
        scorer = GREEN(options.model, output_dir=folder, **kept)

        def score(hypotheses: list[str], references: list[str]) -> dict[str, list[float]]:
            return {"GREEN": scorer(refs=references, hyps=hypotheses)[2]}

        rows = contract.read_rows(options.input)
        per_item, errors = contract.score_rows(rows, score, ["GREEN"], batch=int(options.batch))
    models = {"language model": contract.hub_revision(options.model)}
    contract.write_result(
        options.output,
        rows,
        "green",
        contract.installed("green_score"),
        models,
        per_item,
        errors=errors,
    )


if __name__ == "__main__":
    main()

"""The methods paragraph of a study, every number of it read from the files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medblip.stages.reproduce.ledger import Ledger

__all__ = ["methods"]

_REGIMES = {
    "full": "everything",
    "decoder": "the text decoder alone",
    "encoder": "the vision encoder alone",
}


def methods(ledger: Ledger, *, split: str, runs: Mapping[str, str]) -> str:
    """Return one paragraph: data, model, training, decoding, scores, machine.

    Args:
        ledger: Of the study's folder; `study-data.json` in it describes the data set.
        split: Which was captioned and scored.
        runs: Variant -> run directory, relative to the folder; `full` among them.
    """
    run = runs["full"]
    sentences = [
        _data(ledger, split),
        _training(ledger, run),
        _regimes(ledger, runs),
        _decoding(ledger, run, split),
        _scoring(ledger, run, split),
        _machine(ledger, run),
        "No image of the test split was used in training or to choose a checkpoint. The captions "
        "were judged by metrics and by rules; no radiologist read them.",
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def _data(ledger: Ledger, split: str) -> str:
    file = "study-data.json"
    record = ledger.read(file)
    counts = ", ".join(
        f"{ledger.tell(file, 'splits', name, form=',')} for {use}"
        for name, use in (("train", "training"), ("validation", "validation"), ("test", "test"))
        if name in record["splits"]
    )
    drawn = " (drawn phantoms with exact facts, no patients)" if record["synthetic"] else ""
    out = ledger.tell(file, "rejects", form=",")
    left = f"; {out} rows were left out as unusable" if record["rejects"] else ""
    return (
        f"We used the data set {record['name']}{drawn}: {counts} images{left}. Its median "
        f"reference has {ledger.tell(file, 'median_words', form='.0f')} words. Captions are those "
        f"of the {split} split."
    )


def _training(ledger: Ledger, run: str) -> str:
    config, done = f"{run}/config.json", f"{run}/train.json"
    settings = ledger.read(config)
    name, revision = settings["model"]["name"], settings["model"]["revision"]
    commit = f" (commit {revision[:12]})" if revision else ""
    prompt = settings["model"]["prompt"]
    led = f", with the prompt “{prompt}”" if prompt else ""
    return (
        f"The captioner {name}{commit}, "
        f"{ledger.tell(done, 'parameters_total', form=',')} parameters{led}, was fine-tuned with "
        f"AdamW (peak rate {ledger.tell(config, 'optim', 'lr', form='g')}, that of the vision "
        f"encoder times {ledger.tell(config, 'optim', 'vision_factor', form='g')}, that of the "
        f"word embeddings times {ledger.tell(config, 'optim', 'words_factor', form='g')}, weight "
        f"decay {ledger.tell(config, 'optim', 'weight_decay', form='g')}, linear warm-up over "
        f"{ledger.tell(config, 'optim', 'warmup', form='percent')} of the steps, cosine decay, "
        f"label smoothing {ledger.tell(config, 'optim', 'label_smoothing', form='g')}) for "
        f"{ledger.tell(config, 'train', 'epochs', form='d')} epochs of batches of "
        f"{ledger.tell(config, 'train', 'batch_size', form='d')} captions, "
        f"{ledger.tell(done, 'steps', form=',')} steps in all, in "
        f"{ledger.tell(done, 'precision', form='word')}; captions were cut at "
        f"{ledger.tell(config, 'data', 'max_tokens', form='d')} tokens, and neither padding nor "
        f"prompt was trained on. The checkpoint with the highest {_select(settings)} on up to "
        f"{ledger.tell(config, 'train', 'validation_images', form=',')} validation images was kept."
    )


def _select(settings: Mapping[str, Any]) -> str:
    select = settings["train"]["select"]
    return select if isinstance(select, str) else " + ".join(select)


def _regimes(ledger: Ledger, runs: Mapping[str, str]) -> str:
    trained = [name for name in runs if name in _REGIMES]
    told = [
        f"{_REGIMES[name]} ({ledger.tell(f'{runs[name]}/train.json', 'parameters_trainable', form=',')} parameters)"  # noqa: E501
        for name in trained
    ]
    file = "ablation/ablation.json"
    seeds = ledger.read(file)["seeds"]
    listed = ", ".join(ledger.tell(file, "seeds", index, form="d") for index in range(len(seeds)))
    number = "seed" if len(seeds) == 1 else "seeds"
    return f"We trained {'; '.join(told)}; each with the {number} {listed}."


def _decoding(ledger: Ledger, run: str, split: str) -> str:
    file = f"{run}/predictions/{split}.json"
    beams = ledger.tell(file, "decode", "num_beams", form="d")
    drawn = ledger.read(file)["decode"]["sample"]
    how = "drawn" if drawn else f"found by beam search ({beams} beams)"
    return (
        f"Captions were {how}, at most "
        f"{ledger.tell(file, 'decode', 'max_new_tokens', form='d')} tokens long."
    )


def _scoring(ledger: Ledger, run: str, split: str) -> str:
    scores, config = f"{run}/scores/{split}.json", f"{run}/config.json"
    file = "ablation/ablation.json"
    test, correction = (ledger.tell(file, key, form="word") for key in ("test", "correction"))
    return (
        f"Scores are of {ledger.tell(scores, 'n', form=',')} images with "
        f"{ledger.tell(config, 'eval', 'resamples', form=',')} bootstrap resamples behind each "
        f"95 % interval; signatures are listed beside them. Variants were tested against each "
        f"other on the same images: {test}; {correction}."
    )


def _machine(ledger: Ledger, run: str) -> str:
    file = f"{run}/environment.json"
    done = f"{run}/train.json"
    record = ledger.read(file)
    versions = ", ".join(
        f"{name} {ledger.tell(file, 'versions', name, form='word')}"
        for name in ("medblip", "torch", "transformers")
        if name in record["versions"]
    )
    device = ledger.tell(done, "device_name", form="word")
    return f"Training ran on {device} ({ledger.tell(done, 'device', form='word')}) with {versions}."

"""The methods paragraph of a study, every number of it read from the files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medblip.stages.reproduce.ledger import Ledger

__all__ = ["methods", "regime"]

#: Variant -> what it trains, and its parameters; `alone` where nothing else does.
_REGIMES = {"full": "everything", "decoder": "the text decoder", "encoder": "the vision encoder"}


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
        _regimes(ledger, runs, run),
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


def regime(ledger: Ledger, name: str, run: str) -> str:
    """Return in words what a variant trains: its preset, and what rules add to that.

    Args:
        ledger: Of the study's folder.
        name: `full`, `decoder` or `encoder`.
        run: Its run directory, relative to the folder.
    """
    file = f"{run}/config.json"
    rules = ledger.read(file)["freeze"]["rules"]
    if not rules:
        return _REGIMES[name] + " alone" * (name != "full")
    added = "; ".join(
        f"{_named(pattern)} at {_at(ledger, file, place)}"
        for place, (pattern, _) in enumerate(rules)
    )
    return f"{_REGIMES[name]} with {added}"


def _named(pattern: str) -> str:
    r"""Return a rule's pattern as words where it is one name: `\.word_embeddings\.`.

    >>> _named(r"\.word_embeddings\."), _named("layer[0-3]")
    ('the word embeddings', 'the tensors named by `layer[0-3]`')
    """
    plain = pattern.replace("\\.", "")
    if plain.replace("_", "").isalpha():
        return f"the {plain.replace('_', ' ')}"
    return f"the tensors named by `{pattern}`"


def _at(ledger: Ledger, file: str, place: int) -> str:
    """Return the rate of a rule: a number, 0 for frozen."""
    return f"the rate {ledger.tell(file, 'freeze', 'rules', place, 1, form='g')}"


def _own_rate(ledger: Ledger, run: str, full: str) -> str:
    """Say where a variant's encoder learns at another rate than that of full fine-tuning."""
    own, usual = (ledger.read(f"{one}/config.json")["optim"]["vision_factor"]
                  for one in (run, full))  # fmt: skip
    if own == usual:
        return ""
    told = ledger.tell(f"{run}/config.json", "optim", "vision_factor", form="g")
    return f"; here the vision encoder's rate is the peak rate times {told}"


def _regimes(ledger: Ledger, runs: Mapping[str, str], run: str) -> str:
    trained = [name for name in runs if name in _REGIMES]
    told = [
        f"{regime(ledger, name, runs[name])} "
        f"({ledger.tell(f'{runs[name]}/train.json', 'parameters_trainable', form=',')} parameters"
        f"{_own_rate(ledger, runs[name], run)})"
        for name in trained
    ]
    file = "ablation/ablation.json"
    seeds = ledger.read(file)["seeds"]
    listed = ", ".join(ledger.tell(file, "seeds", index, form="d") for index in range(len(seeds)))
    number = "seed" if len(seeds) == 1 else "seeds"
    return f"We trained {'; '.join(told)}, each with the {number} {listed}."


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

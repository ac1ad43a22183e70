"""The paper's claims (arXiv 2505.14726), each against the figures of this study.

The paper's own values are not repeated here: what is compared is which way a difference points.
A claim is `reproduced` when the figures support it by more than chance (corrected p below 0.05),
`not reproduced` when they contradict it by more than chance, and else `not testable`: at this
scale they say neither, or nobody could look; the reason says which.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from medblip.stages.reproduce.ledger import Ledger
from medblip.stages.reproduce.methods import regime

__all__ = ["CLOSE", "Claim", "Verdict", "claims"]

Verdict = Literal["reproduced", "not reproduced", "not testable"]

_ALPHA = 0.05
#: Our reading of "close": decoder-only keeps this share of what full gains over zero-shot.
CLOSE = 0.9
HEADLINE = "CIDEr-D"
_ABLATION, _COMPARISON = "ablation/ablation.json", "comparison.json"
_UNTESTED, _OPEN = "Not tested: ", "Tested: the figures do not decide it at this scale."
#: Of figures that are no mean over seeds.
_FIRST = "Of the first seed."
_MAPS, _POINTING = "maps-compared.json", "pointing-game"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Claim:
    """What the paper says, and what this study says to it."""

    claim: str
    verdict: Verdict
    reason: str


def claims(ledger: Ledger, *, split: str, runs: Mapping[str, str]) -> list[Claim]:
    """Judge every claim of the paper that figures can judge.

    Args:
        ledger: Of the study's folder.
        split: Which was captioned and scored.
        runs: Variant (`zero-shot`, `full`, ...) -> run directory, relative to the folder.
    """
    found = [
        _beats_zero_shot(ledger),
        _beats_others(ledger, runs),
        _full_is_best(ledger),
        _decoder_is_close(ledger, runs),
        _decoder_is_quicker(ledger),
        _attention_is_more_local(ledger, split, runs),
        _right_place_wrong_words(ledger, split, runs),
        _errors_remain(ledger, split, runs),
    ]
    return [
        dataclasses.replace(one, reason=f"{one.reason} {_OPEN}")
        if one.verdict == "not testable" and not one.reason.startswith(_UNTESTED)
        else one
        for one in found
    ]


def _beats_zero_shot(ledger: Ledger) -> Claim:
    title = "Fine-tuned BLIP describes radiology images better than BLIP as it is, by every metric."
    found = list(_tests(ledger, "full", "zero-shot"))
    if not found:
        return _untested(title, "full fine-tuning and zero-shot were not both scored")
    main = _pick(found)
    words = (
        f"{HEADLINE} {_value(ledger, 'full')} fine-tuned, {_value(ledger, 'zero-shot')} zero-shot: "
        f"{_difference(ledger, main)}. {_by_metric(found)}"
    )
    return Claim(claim=title, verdict=_all(_way(row) for _, row in found), reason=words)


def _beats_others(ledger: Ledger, runs: Mapping[str, str]) -> Claim:
    title = "Fine-tuned BLIP describes them better than larger captioners that were not fine-tuned."
    own = {run.split("/")[-1] for run in runs.values()}
    record = ledger.read(_COMPARISON)
    rows = [
        (index, row)
        for index, row in enumerate(record.get("rows", []))
        if row["metric"] == HEADLINE and row["system"] not in own
    ]
    if not rows:
        return _untested(title, "no other captioner was scored here")
    told = []
    for index, row in rows:
        key = ("rows", index)
        told.append(
            f"{row['system']} {ledger.tell(_COMPARISON, *key, 'value')} against "
            f"{ledger.tell(_COMPARISON, *key, 'baseline_value')} "
            f"(p {ledger.tell(_COMPARISON, *key, 'p_holm', form='p')})"
        )
    # rows say system minus fine-tuned BLIP
    ways = [_way({**row, "difference": -row["difference"]}) for _, row in rows]
    return Claim(claim=title, verdict=_all(ways), reason=f"{HEADLINE}: {'; '.join(told)}. {_FIRST}")


def _full_is_best(ledger: Ledger) -> Claim:
    title = "Training everything gives the best captions of the three regimes."
    found = [
        row
        for other in ("decoder", "encoder")
        for row in _tests(ledger, "full", other)
        if row[1]["metric"] == HEADLINE
    ]
    if len(found) < 2:
        return _untested(title, "the three regimes were not all trained")
    told = [f"against {row['baseline']} {_difference(ledger, (at, row))}" for at, row in found]
    words = f"{HEADLINE} of full {_value(ledger, 'full')}: {'; '.join(told)}."
    return Claim(claim=title, verdict=_all(_way(row) for _, row in found), reason=words)


def _decoder_is_close(ledger: Ledger, runs: Mapping[str, str]) -> Claim:
    """Judge nearness by shares of means, and only where tests back them.

    Close: a share of `CLOSE` or more. Not close: less, and worse than full by more than chance.
    That the encoder is close contradicts the paper only where its distance was measured: by a test
    that tells it from full.
    """
    title = "Training the decoder alone comes close to that, training the encoder alone does not."
    values = {name: _mean(ledger, name) for name in ("zero-shot", "encoder", "decoder", "full")}
    asked = (("decoder", "encoder"), ("full", "zero-shot"), ("full", "decoder"),
             ("full", "encoder"))  # fmt: skip
    found = [row for pair in asked for row in _tests(ledger, *pair) if row[1]["metric"] == HEADLINE]
    if None in values.values() or len(found) < len(asked):
        return _untested(title, "the three regimes and zero-shot were not all scored")
    zero, encoder, decoder, full = (float(value or 0.0) for value in values.values())
    ahead, gains, *behind = (_way(row) for _, row in found)
    verdict: Verdict = "not testable"
    if ahead == "no":
        verdict = "not reproduced"
    elif gains == "yes":
        close = [(one - zero) / (full - zero) >= CLOSE for one in (decoder, encoder)]
        far = [not near and way == "yes" for near, way in zip(close, behind, strict=True)]
        if far[0] or (close[1] and behind[1] != "open"):
            verdict = "not reproduced"
        elif ahead == "yes" and close[0] and far[1]:
            verdict = "reproduced"
    extra = "".join(
        f" Here the regime of the {name} is not that alone: it trains {words}."
        for name in ("decoder", "encoder")
        if name in runs and not (words := regime(ledger, name, runs[name])).endswith(" alone")
    )
    words = (
        f"{HEADLINE}: decoder {_value(ledger, 'decoder')}, encoder {_value(ledger, 'encoder')}, "
        f"full {_value(ledger, 'full')}; decoder against encoder {_difference(ledger, found[0])}, "
        f"full against decoder {_difference(ledger, found[2])}, full against encoder "
        f"{_difference(ledger, found[3])}. "
        f"Close is read as keeping nine tenths of what full gains over zero-shot; not close, as "
        f"keeping less and being worse than full by more than chance.{extra}"
    )
    return Claim(claim=title, verdict=verdict, reason=words)


def _decoder_is_quicker(ledger: Ledger) -> Claim:
    title = "Training the decoder alone takes less time."
    at = {name: _variant(ledger, name) for name in ("full", "decoder")}
    seconds = {
        name: None if index is None else ledger.read(_ABLATION)["variants"][index].get("seconds")
        for name, index in at.items()
    }
    if None in seconds.values() or not seconds["full"]:
        return _untested(title, "both were not trained here")
    each = [
        ledger.read(_ABLATION)["variants"][index].get("seconds_per_seed") or [seconds[name]]
        for name, index in at.items()
        if index is not None
    ]
    less = [decoder < full for full, decoder in zip(*each, strict=True)]
    verdict: Verdict = (
        "reproduced" if all(less) else "not testable" if any(less) else "not reproduced"
    )
    told = [
        f"{name} {ledger.tell(_ABLATION, 'variants', index, 'seconds', form='.1f')} s"
        for name, index in at.items()
        if index is not None
    ]
    words = (
        f"Training in all, mean over seeds: {', '.join(told)}. Reproduced where it holds for every "
        "seed; there is no test. A frozen encoder runs once per image here, and that pass is "
        "counted; where it runs at every step, less is saved."
    )
    return Claim(claim=title, verdict=verdict, reason=words)


def _attention_is_more_local(ledger: Ledger, split: str, runs: Mapping[str, str]) -> Claim:
    """Judge by the pointing game, against zero-shot and against the centre of the image."""
    title = "After fine-tuning, the decoder's attention lies more on the place it speaks of."
    file, own = _MAPS, f"{runs.get('full', '')}/maps/{split}.faithfulness.json"
    rows = {row["measure"]: (at, row) for at, row in enumerate(ledger.read(file).get("tests", []))}
    centre = [
        (at, row)
        for at, row in enumerate(ledger.read(own).get("tests", []))
        if (row["measure"], row["map"], row["baseline"]) == (_POINTING, "attention", "centre")
    ]
    if _POINTING not in rows or not centre:
        return _untested(title, "the images have no masks of what is to be seen")
    told = [
        f"{name} {ledger.tell(file, 'tests', rows[name][0], 'value')} fine-tuned, "
        f"{ledger.tell(file, 'tests', rows[name][0], 'baseline_value')} zero-shot "
        f"(p {ledger.tell(file, 'tests', rows[name][0], 'p_holm', form='p')})"
        for name in (_POINTING, "mass-in-mask")
        if name in rows
    ]
    at, row = centre[0]
    told.append(
        f"the fine-tuned map against the centre of the image, {_POINTING} "
        f"{ledger.tell(own, 'tests', at, 'difference', form='+.3f')} "
        f"(p {ledger.tell(own, 'tests', at, 'p_holm', form='p')})"
    )
    count = ledger.tell(file, "tests", rows[_POINTING][0], "n", form=",")
    words = f"{'; '.join(told)}. On {count} images; the {_POINTING} decides. {_FIRST}"
    return Claim(
        claim=title, verdict=_all([_way(rows[_POINTING][1]), _way(row)]),
        reason=words[0].upper() + words[1:],
    )  # fmt: skip


def _right_place_wrong_words(ledger: Ledger, split: str, runs: Mapping[str, str]) -> Claim:
    title = "A map in the right place does not make the caption right."
    file = _MAPS
    found = ledger.read(file).get("placed", {})
    if not found:
        return _untested(title, "the images have no masks of what is to be seen")
    if not found["hits"]:
        return _untested(title, "no map of the fine-tuned captioner points at a finding")
    verdict: Verdict = "reproduced" if found["wrong"] > 0 else "not reproduced"
    words = (
        f"In {ledger.tell(file, 'placed', 'hits', form=',')} images the fine-tuned map points at "
        f"the finding; in {ledger.tell(file, 'placed', 'wrong', form=',')} of these the caption's "
        "findings are wrong all the same. One such image decides, and any captioner that errs has "
        f"one. {_FIRST}"
    )
    return Claim(claim=title, verdict=verdict, reason=words)


def _errors_remain(ledger: Ledger, split: str, runs: Mapping[str, str]) -> Claim:
    title = "Invented findings, wrong sides and missed findings remain after fine-tuning."
    if "full" not in runs:
        return _untested(title, "full fine-tuning was not scored")
    file = f"{runs['full']}/scores/{split}.json"
    metrics = ledger.read(file).get("metrics", {})
    names = [f"error-{kind}" for kind in ("false-finding", "wrong-location", "missed-finding")]
    names = [name for name in names if name in metrics]
    if not names:
        return _untested(title, "the audit was not run")
    remain = [metrics[name]["ci"][0] > 0 for name in names]
    gone = all(metrics[name]["value"] == 0 for name in names)
    verdict: Verdict = "not reproduced" if gone else "reproduced" if all(remain) else "not testable"
    told = [
        f"{name.removeprefix('error-')} {ledger.tell(file, 'metrics', name, 'value')}"
        for name in names
    ]
    return Claim(
        claim=title,
        verdict=verdict,
        reason=f"Errors per caption by the audit: {', '.join(told)}. Reproduced where the interval "
        f"of each kind lies above zero. {_FIRST}",
    )


def _tests(ledger: Ledger, variant: str, baseline: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield position and row of the ablation's tests of one variant against another."""
    for index, row in enumerate(ledger.read(_ABLATION).get("tests", [])):
        if (row["variant"], row["baseline"]) == (variant, baseline):
            yield index, row


def _pick(rows: Sequence[tuple[int, dict[str, Any]]]) -> tuple[int, dict[str, Any]]:
    return next((one for one in rows if one[1]["metric"] == HEADLINE), rows[0])


def _variant(ledger: Ledger, name: str) -> int | None:
    variants = ledger.read(_ABLATION).get("variants", [])
    return next((i for i, one in enumerate(variants) if one["name"] == name), None)


def _mean(ledger: Ledger, name: str) -> float | None:
    index = _variant(ledger, name)
    if index is None:
        return None
    score = ledger.read(_ABLATION)["variants"][index]["metrics"].get(HEADLINE)
    return None if score is None else float(score["value"])


def _value(ledger: Ledger, name: str) -> str:
    """Return a variant's headline value with its interval."""
    key = ("variants", _variant(ledger, name) or 0, "metrics", HEADLINE)
    low, high = (ledger.tell(_ABLATION, *key, "ci", end) for end in (0, 1))
    return f"{ledger.tell(_ABLATION, *key, 'value')} ({low} to {high})"


def _difference(ledger: Ledger, found: tuple[int, dict[str, Any]]) -> str:
    key = ("tests", found[0])
    low, high = (ledger.tell(_ABLATION, *key, "ci", end, form="+.3f") for end in (0, 1))
    return (
        f"{ledger.tell(_ABLATION, *key, 'difference', form='+.3f')} "
        f"({low} to {high}, p {ledger.tell(_ABLATION, *key, 'p_holm', form='p')})"
    )


def _way(row: Mapping[str, Any]) -> Literal["yes", "no", "open"]:
    """Say whether a difference is above 0 by more than chance, below, or neither."""
    if row["p_holm"] >= _ALPHA:
        return "open"
    return "yes" if row["difference"] > 0 else "no"


def _by_metric(rows: Sequence[tuple[int, Mapping[str, Any]]]) -> str:
    """Say which metrics do not show it; no count, for only files' numbers are told."""
    worse = [row["metric"] for _, row in rows if _way(row) == "no"]
    unclear = [row["metric"] for _, row in rows if _way(row) == "open"]
    if not worse and not unclear:
        return "By more than chance by every metric that was tested."
    told = [f"worse by {', '.join(worse)}"] * bool(worse)
    told += [f"no more than chance by {', '.join(unclear)}"] * bool(unclear)
    return f"But {'; '.join(told)}."


def _all(ways: Iterable[str]) -> Verdict:
    """Judge a claim that needs all its tests: one against it is enough, one open leaves it so."""
    found = list(ways)
    if "no" in found:
        return "not reproduced"
    return "reproduced" if found and set(found) == {"yes"} else "not testable"


def _untested(title: str, why: str) -> Claim:
    return Claim(claim=title, verdict="not testable", reason=f"{_UNTESTED}{why}.")

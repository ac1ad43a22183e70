"""What faithfulness measures allow to say, and what they do not: sentences from the figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["CHANGED", "LEVEL", "compared_sentences", "sentences", "verdict"]

#: A difference counts where its corrected p lies below.
LEVEL = 0.05
#: Rank correlation above which maps of random weights are much the same.
CHANGED = 0.5

_NAMES = {
    "pointing-game": "pointing game", "mass-in-mask": "mass in the mask",
    "found-and-pointed": "findings that it names and points at", "deletion": "deletion",
    "insertion": "insertion",
}  # fmt: skip
_LOWER = {"deletion"}


def verdict(test: Mapping[str, Any] | None) -> str:
    """Return `better`, `worse` or `unclear` of a row of tests; a deletion curve should be low."""
    if test is None or test["p_holm"] >= LEVEL or test["difference"] == 0:
        return "unclear"
    lower = test["measure"] in _LOWER
    return "better" if (test["difference"] < 0) == lower else "worse"


def sentences(record: Mapping[str, Any]) -> list[str]:
    """Return the conclusions of one `<split>.faithfulness.json`."""
    said = [_basis(record)]
    if _row(record, "pointing-game", "attention"):
        said += [_pointing(record), _mass(record), _own(record), _random_weights_point(record)]
    else:
        said.append("Whether the maps lie on what is named was not measured: no finding with a "
                    "mask was named.")  # fmt: skip
    said += [_curve(record, "deletion"), _curve(record, "insertion"), _similar(record)]
    said.append(
        "This may not be concluded: that a caption is right, that the captioner reasons as a "
        "reader would, or that the maps of other images are as good."
        + (" Phantoms are synthetic; on real images nothing was measured here."
           if _row(record, "pointing-game", "attention") else "")
    )  # fmt: skip
    return [one for one in said if one]


def compared_sentences(rows: Sequence[Mapping[str, Any]], system: str, baseline: str) -> list[str]:
    """Return what a comparison of two captioners' maps allows to say, a sentence per measure."""
    ends = {
        "better": "better by more than chance",
        "worse": "worse by more than chance",
        "unclear": "no difference beyond chance",
    }
    return [
        f"{_NAMES.get(row['measure'], row['measure'])}: {system} {row['value']:.3f}, {baseline} "
        f"{row['baseline_value']:.3f}, difference {row['difference']:+.3f} "
        f"[{row['ci'][0]:+.3f}, {row['ci'][1]:+.3f}] on {row['n']} images, "
        f"{_p(row['p_holm'])}: {ends[verdict(row)]}."
        for row in rows
    ]


def _basis(record: Mapping[str, Any]) -> str:
    return (
        f"Measured on {record['n']} images of the {record['split']} split; view: {record['view']}. "
        "Pointing game and mass in the mask are those of the reference captions, replayed word for "
        "word, so that a captioner that names no finding has a value too; deletion, insertion and "
        "similarity are those of the captions that it wrote itself."
    )


def _pointing(record: Mapping[str, Any]) -> str:
    against = {kind: _test(record, "pointing-game", kind) for kind in ("random", "centre")}
    return (
        f"The maps point at the finding in {_value(record, 'pointing-game', 'attention')} of "
        f"{record['reference']['named']} mentions (tolerance {record['tolerance']}), a random map "
        f"in {_value(record, 'pointing-game', 'random')}, the centre prior in "
        f"{_value(record, 'pointing-game', 'centre')}: {_than(against['random'], 'random')}, and "
        f"{_than(against['centre'], 'the centre prior')}."
    ) + (
        f" {record['reference']['missed']} findings are named in no words that the captioner knows."
        if record["reference"]["missed"]
        else ""
    )


def _mass(record: Mapping[str, Any]) -> str:
    return (
        f"{_value(record, 'mass-in-mask', 'attention')} of a map lies on its finding, which fills "
        f"{_value(record, 'mass-in-mask', 'random')} of the image; of the centre prior, "
        f"{_value(record, 'mass-in-mask', 'centre')}: "
        f"{_than(_test(record, 'mass-in-mask', 'centre'), 'the centre prior')}."
    )


def _own(record: Mapping[str, Any]) -> str:
    own = record["own_caption"]
    rows = {row["measure"]: row for row in own["measures"] if row["map"] == "attention"}
    said = (
        f"In its own captions it names {own['named']} findings that are there and {own['false']} "
        "that are not. What is not there has no mask and is in no figure."
    )
    if rows["pointing-game"]["value"] is not None:
        said += f" It points at {_number(rows['pointing-game'])} of those that are there."
    return said + (
        f" Of all findings, it names and points at {_number(rows['found-and-pointed'])}."
    )


def _random_weights_point(record: Mapping[str, Any]) -> str:
    test = _test(record, "pointing-game", "randomised-weights")
    if test is None:
        return ""
    where = (
        f"With shuffled decoder weights the maps point at the finding in "
        f"{_value(record, 'pointing-game', 'randomised-weights')}: "
    )
    return where + (
        "what points was learned."
        if verdict(test) == "better"
        else "not less by more than chance, so that pointing is not shown to be learned."
    )


def _curve(record: Mapping[str, Any], measure: str) -> str:
    if not _row(record, measure, "attention"):
        return f"{measure.capitalize()} was not measured: no word needed the image."
    gone = measure == "deletion"
    against = {kind: verdict(_test(record, measure, kind)) for kind in ("random", "centre")}
    values = (
        f"(area under the {measure} curve {_value(record, measure, 'attention')}, random "
        f"{_value(record, measure, 'random')}, centre prior {_value(record, measure, 'centre')})"
    )
    act = "Deleting what a word's map marks lowers" if gone else "Inserting what a map marks raises"
    if against["random"] != "better":
        how = "slower than" if against["random"] == "worse" else "no faster than"
        return (
            f"{act} the word's log-probability {how} at random {values}: by this test the map is "
            "no explanation of the word."
        )
    return (
        f"{act} the word's log-probability faster than at random {values}, "
        + {
            "better": "and faster than from the centre: the map marks what the word needs.",
            "worse": "but slower than from the centre: a map that ignores the image does better.",
            "unclear": "but no faster than from the centre: that the map does more than look at "
            "the middle is not shown.",
        }[against["centre"]]
    )


def _similar(record: Mapping[str, Any]) -> str:
    row = _row(record, "similarity", "randomised-weights")
    if row is None:
        return ""
    said = f"Shuffling the decoder's weights changes the maps (rank correlation {_number(row)}): "
    if row["ci"][1] < CHANGED:
        return said + "they depend on what was learned."
    if row["ci"][0] > CHANGED:
        said = said.replace("changes the maps", "hardly changes the maps")
        return said + "they show the image and the architecture more than what was learned."
    return said + f"not clearly below {CHANGED}, so how far they depend on learning is open."


def _than(test: Mapping[str, Any] | None, what: str) -> str:
    how = verdict(test)
    words = "not better than" if how == "unclear" else f"{how} than"
    end = "" if test is None else f" ({_p(test['p_holm'])})"
    return f"{words} {what} by more than chance{end}"


def _value(record: Mapping[str, Any], measure: str, kind: str) -> str:
    row = _row(record, measure, kind)
    return "-" if row is None else _number(row)


def _number(row: Mapping[str, Any]) -> str:
    return f"{row['value']:.2f} [{row['ci'][0]:.2f}, {row['ci'][1]:.2f}]"


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3g}"


def _row(record: Mapping[str, Any], measure: str, kind: str) -> Mapping[str, Any] | None:
    rows = (r for r in record["measures"] if (r["measure"], r["map"]) == (measure, kind))
    return next((row for row in rows if row["value"] is not None), None)


def _test(record: Mapping[str, Any], measure: str, baseline: str) -> Mapping[str, Any] | None:
    rows = (r for r in record["tests"] if (r["measure"], r["baseline"]) == (measure, baseline))
    return next(rows, None)

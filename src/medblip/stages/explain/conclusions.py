"""What faithfulness measures allow to say, and what they do not: sentences from the figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medblip.metrics.map_tables import FEWEST

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
    """Return `better`, `worse`, `unclear` or `few` of a row of tests; deletion should be low.

    `few`: too few images count or differ for any difference to be more than chance.
    """
    if test is None:
        return "unclear"
    if test["n"] < FEWEST or 0 < test["differ"] < FEWEST:
        return "few"
    if test["p_holm"] >= LEVEL or test["difference"] == 0:
        return "unclear"
    lower = test["measure"] in _LOWER
    return "better" if (test["difference"] < 0) == lower else "worse"


def sentences(record: Mapping[str, Any]) -> list[str]:
    """Return the conclusions of one `<split>.faithfulness.json`."""
    said = [_basis(record)]
    if _row(record, "pointing-game", "attention"):
        said += [_own(record), _pointing(record), _mass(record), _shuffled(record)]
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
        "few": "too few images to tell",
    }
    return [
        f"{_NAMES.get(row['measure'], row['measure'])}: {system} {row['value']:.3f}, {baseline} "
        f"{row['baseline_value']:.3f}, difference {row['difference']:+.3f} "
        f"[{row['ci'][0]:+.3f}, {row['ci'][1]:+.3f}] ({_p(row)}): {ends[verdict(row)]}."
        for row in rows
    ]


def _basis(record: Mapping[str, Any]) -> str:
    return (
        f"Measured on {_images(record['n'])} of the {record['split']} split; view: "
        f"{record['view']}. Pointing game and mass in the mask are those of the reference "
        "captions, replayed word for word, so that a captioner that names no finding has a value "
        "too; deletion, insertion and similarity are those of the captions that it wrote itself."
    )


def _pointing(record: Mapping[str, Any]) -> str:
    against = {kind: _test(record, "pointing-game", kind) for kind in ("random", "centre")}
    return (
        "Over the reference captions, which name the findings for it, its maps point at the "
        f"finding in {_value(record, 'pointing-game', 'attention')} of the references' "
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
        f"{_value(record, 'mass-in-mask', 'attention')} of such a map lies on its finding, which "
        f"fills {_value(record, 'mass-in-mask', 'random')} of the image; of the centre prior, "
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


def _shuffled(record: Mapping[str, Any]) -> str:
    """Say which part of the pointing the decoder learned, and which part is there without that."""
    learned = _test(record, "pointing-game", "randomised-weights")
    left = _test(record, "pointing-game", "random", "randomised-weights")
    if learned is None or left is None:
        return ""
    values = {kind: _value(record, "pointing-game", kind)
              for kind in ("attention", "randomised-weights", "random")}  # fmt: skip
    few = f"too few images to tell ({_p(learned)})"
    return (
        f"With shuffled decoder weights the maps point at the finding in "
        f"{values['randomised-weights']}, with the captioner's own in {values['attention']}, a "
        f"random map in {values['random']}. Own against shuffled: "
        + {
            "better": f"more by more than chance ({_p(learned)}), so that part of the pointing was "
            "learned by the decoder",
            "worse": f"less by more than chance ({_p(learned)}), so what the decoder learned takes "
            "the maps off the finding",
            "unclear": f"not more by more than chance ({_p(learned)}), so that any of the pointing "
            "was learned by the decoder is not shown",
            "few": few,
        }[verdict(learned)]
        + ". Shuffled against random: "
        + {
            "better": f"still more by more than chance ({_p(left)}), so part of the pointing is "
            "there without what the decoder learned",
            "worse": f"less by more than chance ({_p(left)}): without what the decoder learned, "
            "none of the pointing is left",
            "unclear": f"not more by more than chance ({_p(left)}), so that any of the pointing is "
            "there without what the decoder learned is not shown",
            "few": few if verdict(learned) != "few" else "the same",
        }[verdict(left)]
        + "."
    )


def _curve(record: Mapping[str, Any], measure: str) -> str:
    if not _row(record, measure, "attention"):
        return f"{measure.capitalize()} was not measured: no word needed the image."
    tests = {kind: _test(record, measure, kind) for kind in ("random", "centre")}
    against = {kind: verdict(test) for kind, test in tests.items()}
    values = (
        f"area under the {measure} curve {_value(record, measure, 'attention')}, random "
        f"{_value(record, measure, 'random')}, centre prior {_value(record, measure, 'centre')}"
    )
    if against["random"] == "few":
        return (
            f"{measure.capitalize()}: {values}; too few images to tell whether the map marks what "
            f"a word needs ({_p(tests['random'])})."
        )
    gone = measure == "deletion"
    act = "Deleting what a word's map marks lowers" if gone else "Inserting what a map marks raises"
    values = f"({values}; {_p(tests['random'])})"
    if against["random"] != "better":
        how = "slower than" if against["random"] == "worse" else "no faster than"
        return (
            f"{act} the word's log-probability {how} at random {values}: by this test the map is "
            "no explanation of the word."
        )
    end = f" ({_p(tests['centre'])})"
    return (
        f"{act} the word's log-probability faster than at random {values}, "
        + {
            "better": f"and faster than from the centre{end}: the map marks what the word needs.",
            "worse": f"but slower than from the centre{end}: a map that ignores the image does "
            "better.",
            "unclear": f"but no faster than from the centre{end}: that the map does more than look "
            "at the middle is not shown.",
            "few": f"but too few images tell it from the centre{end}.",
        }[against["centre"]]
    )


def _similar(record: Mapping[str, Any]) -> str:
    row = _row(record, "similarity", "randomised-weights")
    if row is None:
        return ""
    said = (
        f"Shuffling the decoder's weights changes the maps (rank correlation {_number(row)}, "
        f"{_images(row['n'])}): "
    )
    if row["n"] < FEWEST:
        return said + "too few images to tell how far they depend on what was learned."
    if row["ci"][1] < CHANGED:
        return said + "they depend on what was learned."
    if row["ci"][0] > CHANGED:
        said = said.replace("changes the maps", "hardly changes the maps")
        return said + "they show the image and the architecture more than what was learned."
    return said + f"not clearly below {CHANGED}, so how far they depend on learning is open."


def _than(test: Mapping[str, Any] | None, what: str) -> str:
    how = verdict(test)
    end = "" if test is None else f" ({_p(test)})"
    if how == "few":
        return f"too few images to tell whether better than {what}{end}"
    words = "not better than" if how == "unclear" else f"{how} than"
    return f"{words} {what} by more than chance{end}"


def _value(record: Mapping[str, Any], measure: str, kind: str) -> str:
    row = _row(record, measure, kind)
    return "-" if row is None else _number(row)


def _number(row: Mapping[str, Any]) -> str:
    return f"{row['value']:.2f} [{row['ci'][0]:.2f}, {row['ci'][1]:.2f}]"


def _p(test: Mapping[str, Any] | None) -> str:
    """Return the corrected p, and of how many images."""
    if test is None:
        return "not tested"
    value, differ = test["p_holm"], test["differ"]
    count = _images(test["n"])
    if differ != test["n"]:
        count = f"{differ} of {count} differ"
    return f"{'p < 0.001' if value < 0.001 else f'p = {value:.3g}'}, {count}"


def _images(count: int) -> str:
    return f"{count} image" if count == 1 else f"{count} images"


def _row(record: Mapping[str, Any], measure: str, kind: str) -> Mapping[str, Any] | None:
    rows = (r for r in record["measures"] if (r["measure"], r["map"]) == (measure, kind))
    return next((row for row in rows if row["value"] is not None), None)


def _test(
    record: Mapping[str, Any], measure: str, baseline: str, kind: str = "attention"
) -> Mapping[str, Any] | None:
    key = (measure, kind, baseline)
    rows = (r for r in record["tests"] if (r["measure"], r["map"], r["baseline"]) == key)
    return next(rows, None)

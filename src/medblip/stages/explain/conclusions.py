"""What faithfulness measures allow to say, and what they do not: sentences from the figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medblip.metrics.map_tables import FEWEST, least_p

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

    `few`: so few images count or differ that no difference can be more than chance, or that this
    one, as clear as so many images can be, is not after the correction for all tests.
    """
    if test is None:
        return "unclear"
    at_best = test["p"] <= least_p(test["differ"])
    if test["n"] < FEWEST or 0 < test["differ"] < FEWEST or (at_best and test["p_holm"] >= LEVEL):
        return "unclear" if test["n"] >= FEWEST and not test["differ"] else "few"
    if test["p_holm"] >= LEVEL or test["difference"] == 0:
        return "unclear"
    lower = test["measure"] in _LOWER
    return "better" if (test["difference"] < 0) == lower else "worse"


def sentences(record: Mapping[str, Any]) -> list[str]:
    """Return the conclusions of one `<split>.faithfulness.json`."""
    said = [
        f"Measured on {_images(record['n'])} of the {record['split']} split; view: "
        f"{record['view']}.",
        "Pointing game and mass in the mask are those of the reference captions, replayed word "
        "for word, so that a captioner that names no finding has a value too; deletion, insertion "
        "and similarity are those of the captions that it wrote itself.",
    ]
    if _row(record, "pointing-game", "attention"):
        said += [_own(record), _pointing(record), _missed(record), _mass(record)]
        said += [_learned(record), _left(record)]
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


def _pointing(record: Mapping[str, Any]) -> str:
    against = {kind: _test(record, "pointing-game", kind) for kind in ("random", "centre")}
    return (
        "Over the reference captions, its maps point at the finding in "
        f"{_value(record, 'pointing-game', 'attention')} of the references' "
        f"{record['reference']['named']} mentions (tolerance {record['tolerance']}), a random map "
        f"in {_value(record, 'pointing-game', 'random')}, the centre prior in "
        f"{_value(record, 'pointing-game', 'centre')}: {_than(against['random'], 'random')}, and "
        f"{_than(against['centre'], 'the centre prior')}."
    )


def _missed(record: Mapping[str, Any]) -> str:
    count = record["reference"]["missed"]
    return f"{count} findings are named in no words that the captioner knows." if count else ""


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


def _learned(record: Mapping[str, Any]) -> str:
    """Say which part of the pointing goes with what the decoder learned."""
    test = _test(record, "pointing-game", "randomised-weights")
    if test is None:
        return ""
    return (
        "With the captioner's own decoder weights the maps point at the finding in "
        f"{_value(record, 'pointing-game', 'attention')}, with shuffled ones in "
        f"{_value(record, 'pointing-game', 'randomised-weights')}: "
    ) + {
        "better": f"more by more than chance ({_p(test)}), so that part of the pointing was "
        "learned by the decoder.",
        "worse": f"less by more than chance ({_p(test)}), so what the decoder learned takes the "
        "maps off the finding.",
        "unclear": f"no difference beyond chance ({_p(test)}): that the decoder learned to point "
        "is not shown.",
        "few": f"too few images to tell ({_p(test)}).",
    }[verdict(test)]


def _left(record: Mapping[str, Any]) -> str:
    """Say which part of the pointing is there without that."""
    test = _test(record, "pointing-game", "random", "randomised-weights")
    if test is None:
        return ""
    return (
        "With shuffled decoder weights they point at it in "
        f"{_value(record, 'pointing-game', 'randomised-weights')}, a random map in "
        f"{_value(record, 'pointing-game', 'random')}: "
    ) + {
        "better": f"still more by more than chance ({_p(test)}), so part of the pointing is there "
        "without what the decoder learned.",
        "worse": f"less by more than chance ({_p(test)}), so none of the pointing is there without "
        "what the decoder learned.",
        "unclear": f"no difference beyond chance ({_p(test)}): that any pointing is there without "
        "what the decoder learned is not shown.",
        "few": f"too few images to tell ({_p(test)}).",
    }[verdict(test)]


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
    if row["ci"] is None:
        return f"{row['value']:.2f} (of {_images(row['n'])}: too few for an interval)"
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

"""Which words name which finding."""

from __future__ import annotations

import pytest

from medblip.data.phantoms.generate import render
from medblip.metrics.map_words import content_words, named_findings

ALL = {"pleural effusion", "nodule", "pneumothorax", "fracture", "ring-enhancing lesion",
       "renal cyst", "hip dislocation"}  # fmt: skip


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("chest x - ray with a small left nodule .", [("nodule", ["nodule"])]),
        ("bilateral Pleural Effusions", [("pleural effusion", ["Pleural", "Effusions"])]),
        ("an effusion in the pleural space, and a pneumothorax",
         [("pleural effusion", ["effusion", "pleural", "space,"]),
          ("pneumothorax", ["pneumothorax"])]),
        ("no pneumothorax , but a nodule", [("nodule", ["nodule"])]),
        ("fracture and nodule without effusion",
         [("fracture", ["fracture"]), ("nodule", ["nodule"])]),
        ("a ring - enhancing lesion", [("ring-enhancing lesion", ["ring", "-", "enhancing",
                                                                  "lesion"])]),
        ("a ring-enhancing lesion.", [("ring-enhancing lesion", ["ring-enhancing", "lesion."])]),
        ("kidney cysts", [("renal cyst", ["kidney", "cysts"])]),
        ("dislocation of the hip", [("hip dislocation", ["dislocation", "hip"])]),
        ("a picture of a dog", []),
        ("", []),
    ],
)  # fmt: skip
def test_names_of_findings(caption: str, expected: list[tuple[str, list[str]]]) -> None:
    words = caption.split()
    found = named_findings(words, ALL)
    said = [(one.finding, [words[place] for place in one.words]) for one in found]
    assert said == [(name, [w for w in own if w != "-"]) for name, own in expected]
    assert all(one.real for one in found)


def test_a_finding_that_is_not_there_is_said_to_be_none() -> None:
    found = named_findings(["a", "nodule", "and", "a", "hand", "fracture"], {"fracture"})
    assert [(one.finding, one.real) for one in found] == [("nodule", False), ("fracture", True)]


def test_two_mentions_are_two() -> None:
    found = named_findings(["a", "nodule", "above", "a", "nodule"], {"nodule"})
    assert [one.words for one in found] == [(1,), (4,)]


def test_references_of_phantoms_name_all_their_findings_and_no_other() -> None:
    """As BLIP's tokenizer splits them, and as blanks do."""
    named = 0
    for index in range(400):
        _, facts, caption = render(3, index, 64)
        present = {finding["name"] for finding in facts["findings"]}
        split = caption.lower().replace("-", " - ").replace(".", " .").replace(",", " ,")
        for words in (split.split(), caption.split()):
            found = named_findings(words, present)
            assert all(one.real for one in found), caption
            assert {one.finding for one in found} == present, caption
        named += len(present)
    assert named > 250


def test_content_words() -> None:
    caption = "An axial CT of the head , T2 - weighted , with a 5 mm cyst ."
    words = caption.split()
    assert [words[place] for place in content_words(words)] == [
        "axial", "CT", "head", "T2", "weighted", "mm", "cyst",
    ]  # fmt: skip

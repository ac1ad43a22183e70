"""The grammar that words a phantom's facts as a figure legend.

Every caption states modality, region and all findings with their side. Zone, size or severity,
plane, details, absent findings and devices are stated with fixed probabilities, as in published
legends (ROCO: median 16 words, half of them between 9 and 26). Names come from the lexicon; all
other wording stands in the tables below, so that `vocabulary` is complete by construction.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from medblip.data.phantoms.plan import LOBES, STUDIES, Finding, Study
from medblip.lexicon import lexicon

__all__ = ["vocabulary", "write_caption"]

#: Chances of stating a thing that is true; negatives are likelier in normal and short captions.
_GRADE, _ZONE = 0.4, 0.6
_NEGATIVE, _NEGATIVE_NORMAL = 0.35, 0.7
_SHORT = 12
#: Shortest and longest caption; ROCO's middle 80 %.
_WORDS = (8, 30)

#: {m} a modality noun, {r} a region noun, {p} the plane, {h} the side of a hand.
_STUDY: dict[str, tuple[str, ...]] = {
    "chest-xray": ("{p} chest {m}", "frontal chest {m}", "{p} view {m} of the {r}"),
    "hand-xray": ("{p} {m} of the {h} hand", "frontal {m} of the {h} hand"),
    "pelvis-xray": ("{p} {m} of the pelvis", "{p} view {m} of the pelvis and hips"),
    "chest-ct": ("axial chest {m}", "axial {m} of the {r} at the level of the heart"),
    "head-ct": ("unenhanced axial {m} of the {r}", "axial {m} of the {r} through the ventricles"),
    "head-mr-t1": ("contrast-enhanced axial {m} of the {r}", "axial T1-weighted {m} of the {r}"),
    "head-mr-t2": ("axial T2-weighted {m} of the {r}", "T2-weighted {m} of the {r}, axial view"),
    "abdomen-ct": ("axial {m} of the abdomen", "axial abdominal {m} at the level of the kidneys"),
    "abdomen-mr": ("axial T2-weighted {m} of the abdomen", "axial abdominal {m}"),
    "kidney-us": ("transverse {m} of the abdomen", "transverse abdominal {m} of the kidney"),
    "gallbladder-us": ("longitudinal {m} of the abdomen", "abdominal {m} of the gallbladder"),
    "pelvis-us": ("transverse {m} of the pelvis", "transverse pelvic {m} behind the bladder"),
}  # fmt: skip

#: {g} grade or nothing, {s} side, {n} noun, {z} zone. Without and with the zone.
_SIDED = ("{g} {s}-sided {n}", "{g} {n} on the {s} side")
_LUNG = ("{g} {s}-sided {n}", "{g} {n} in the {s} lung")
_LUNG_ZONE = ("{g} {n} in the {z} of the {s} lung", "{g} {n} in the {s} {z}")
_SLICE_ZONE = ("{g} {n} in the {z} part of the {s} lung", "{g} {z} {n} in the {s} lung")
_HEMISPHERE = ("{g} {s}-sided {n}", "{g} {n} in the {s} hemisphere")
_LOBE = ("{g} {n} in the {s} {z} lobe", "{g} {s} {z} {n}")
_PLACE: dict[str, tuple[str, ...]] = {
    "cardiomegaly": ("{g} {n}",),
    "liver lesion": ("{g} {n}", "{g} solitary {n}"),
    "gallstone": ("{g} {n}", "{g} solitary {n}"),
    "aortic aneurysm": ("{g} {n}",),
    "subdural haematoma": ("{g} {s}-sided {n}", "{g} {n} over the {s} hemisphere"),
    "midline shift": ("{g} {n} to the {s}", "{g} {n} towards the {s} side"),
    "hydronephrosis": ("{g} {s}-sided {n}", "{g} {n} of the {s} kidney"),
    "hip dislocation": ("{s}-sided {n}", "dislocation of the {s} hip"),
    "consolidation": _LUNG,
    "nodule": _LUNG,
    "haemorrhage": _HEMISPHERE,
    "infarct": _HEMISPHERE,
    "mass with oedema": _HEMISPHERE,
    "ring-enhancing lesion": _HEMISPHERE,
}
_BONE = {
    "hand": ("{n} of the {z}", "{n} through the shaft of the {z}"),
    "pelvis": ("{n} of the {s} {z}", "{n} through the {s} {z}"),
}
_BILATERAL = ("{g} bilateral {n}", "{g} {n} on both sides")
_PLURAL = {
    "pleural effusion": "pleural effusions",
    "effusion in the pleural space": "effusions in the pleural space",
}
_GRADES = {"large": "big", "mild": "slight", "severe": "marked"}  # said as often as the word itself
#: {s} the study, {a} the study with its article, {f} the findings.
_FRAMES = ("{s} showing {f}", "{s} demonstrates {f}", "{s} with {f}", "{f} on {a}")
_NORMAL_FRAMES = ("normal {s}", "{s} without abnormality", "normal findings on {a}")
_NEGATIVES = (", without {x}", ". There is no {x}", "; no evidence of {x}")
_NEGATIVE_FIRST = "no {x}, but {f} on {a}"
_AND = (" and ", " as well as ")
_OR = " or "
_DEVICE = (". A {d} is in place", ", with a {d} in place")
_ARTICLES = ("a ", "an ")
#: What a radiologist would exclude; a finding of the study itself is never denied.
_EXCLUDED: dict[str, tuple[str, ...]] = {
    "chest-xray": ("pleural effusion", "pneumothorax", "consolidation", "cardiomegaly"),
    "hand-xray": ("fracture",),
    "pelvis-xray": ("fracture", "hip dislocation"),
    "chest-ct": ("pleural effusion", "pneumothorax", "nodule", "consolidation"),
    "head-ct": ("haemorrhage", "midline shift", "infarct", "subdural haematoma"),
    "head-mr-t1": ("midline shift", "haemorrhage", "ring-enhancing lesion"),
    "head-mr-t2": ("midline shift", "haemorrhage", "infarct"),
    "abdomen-ct": ("hydronephrosis", "aortic aneurysm", "liver lesion"),
    "abdomen-mr": ("hydronephrosis", "liver lesion", "aortic aneurysm"),
    "kidney-us": ("hydronephrosis", "renal cyst"),
    "gallbladder-us": ("gallstone",),
    "pelvis-us": ("ovarian cyst",),
}


def write_caption(study: Study, rng: np.random.Generator) -> str:
    """Word the facts of a study; the same facts have many wordings, one is drawn."""
    while True:  # half of all draws have an accepted length, or more
        text = _draw(study, rng)
        if _WORDS[0] <= len(text.split()) <= _WORDS[1]:
            return text


def _draw(study: Study, rng: np.random.Generator) -> str:
    name = _study_name(study, rng)
    absent = [
        other
        for other in _EXCLUDED[study.spec.view]
        if all(other != f.name for f in study.findings)
    ]
    if not study.findings:
        text = _fill(_one(rng, _NORMAL_FRAMES), s=name, a=_with_article(name))
        chance = _NEGATIVE_NORMAL
    else:
        phrases = [_finding(study, finding, rng) for finding in study.findings]
        order = rng.permutation(len(phrases)).tolist()
        found = _one(rng, _AND).join(phrases[i] for i in order)
        if absent and rng.random() < 0.05:
            text = _fill(_NEGATIVE_FIRST, x=_plain(absent[0]), f=found, a=_with_article(name))
            absent = []
        else:
            text = _fill(_one(rng, _FRAMES), s=name, a=_with_article(name), f=found)
        chance = _NEGATIVE
    if len(text.split()) < _SHORT:
        chance = max(chance, 0.75)
    if absent and rng.random() < chance:
        count = min(len(absent), 1 + int(rng.random() < 0.6))
        picked = rng.choice(len(absent), size=count, replace=False).tolist()
        text += _fill(_one(rng, _NEGATIVES), x=_OR.join(_plain(absent[i]) for i in sorted(picked)))
    for device in study.devices:
        noun = _one(rng, lexicon()["device", device.name].write)
        text += _fill(_one(rng, _DEVICE), d=noun)
    return _sentence(text)


def _study_name(study: Study, rng: np.random.Generator) -> str:
    spec, words = study.spec, lexicon()
    template = _one(rng, _STUDY[spec.view])
    return _fill(
        template,
        m=_one(rng, words["modality", spec.modality].write),
        r=_one(rng, words["region", spec.region].write),
        p=study.plane,
        h=study.laterality or "",
    )


def _finding(study: Study, finding: Finding, rng: np.random.Generator) -> str:
    concept = lexicon()["finding", finding.name]
    noun = _one(rng, concept.write)
    grade = finding.size or finding.severity
    stated = grade is not None and rng.random() < _GRADE
    grade = _one(rng, (grade, _GRADES.get(grade, grade))) if stated and grade is not None else ""
    if finding.side == "bilateral":
        return _fill(_one(rng, _BILATERAL), g=grade, n=_PLURAL[noun])
    with_zone = finding.zone is not None and rng.random() < _ZONE
    templates: tuple[str, ...]
    if finding.name == "fracture":
        templates = _BONE[study.spec.region]
    elif finding.name in ("nodule", "consolidation") and with_zone:
        templates = _LUNG_ZONE if study.spec.modality == "X-ray" else _SLICE_ZONE
    elif finding.zone in LOBES and with_zone:
        templates = _LOBE
    else:
        templates = _PLACE.get(finding.name, _SIDED)
    zone = (finding.zone or "").removesuffix(" lobe")
    text = _fill(_one(rng, templates), g=grade, s=finding.side or "", n=noun, z=zone)
    return _with_article(text) if concept.article else text


def _plain(name: str) -> str:
    return lexicon()["finding", name].write[0]


def _one(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]


def _fill(template: str, **slots: str) -> str:
    """Fill the slots; an empty one leaves no double space."""
    return re.sub(r"  +", " ", template.format(**slots)).removeprefix(" ")


def _with_article(phrase: str) -> str:
    """Put `a` or `an` before; letters that are read out (X-ray, MRI) sound like vowels."""
    spelled = phrase.startswith(("X-", "MR", "AP "))
    return ("an " if spelled or phrase[0].lower() in "aeiou" else "a ") + phrase


def _sentence(text: str) -> str:
    text = re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", text)  # device slots: a/an endotracheal tube
    return text[0].upper() + text[1:] + "."


def vocabulary() -> list[str]:
    """Return every lower-case word that a caption can contain, sorted.

    Words are split at hyphens and punctuation, as a WordPiece tokenizer does before its pieces.
    """
    tables: list[Sequence[str]] = [
        *_STUDY.values(), _SIDED, _LUNG, _LUNG_ZONE, _SLICE_ZONE, _HEMISPHERE, _LOBE,
        *_PLACE.values(), *_BONE.values(), _BILATERAL, list(_PLURAL.values()),
        [*_GRADES, *_GRADES.values(), "small", "moderate"], _FRAMES, _NORMAL_FRAMES, _NEGATIVES,
        (_NEGATIVE_FIRST,), _AND, (_OR,),
        _DEVICE, _ARTICLES, ("left", "right"),
    ]  # fmt: skip
    for spec in STUDIES:
        tables += [spec.planes, *(finding.zones for finding in spec.findings.values())]
    tables += [concept.write for concept in lexicon().concepts if concept.kind != "side"]
    found: set[str] = set()
    for table in tables:
        for entry in table:
            found.update(re.findall(r"[^\W_]+", re.sub(r"\{\w\}", " ", entry).lower()))
    return sorted(found)

"""The clinical audit: what is read from a caption, and which errors a comparison finds."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medblip.errors import MetricError
from medblip.metrics.audit import (
    ERRORS,
    KINDS,
    audit,
    audit_errors,
    audit_statistics,
    best_reference,
)
from medblip.metrics.audit.normalise import lemma, tokens
from medblip.metrics.audit.terms import vocabulary

VOCABULARY = [
    "CT",
    "MRI",
    "radiograph",
    "of",
    "the",
    "left",
    "right",
    "upper",
    "lower",
    "lobe",
    "lung",
    "kidney",
    "showing",
    "with",
    "a",
    "large",
    "small",
    "mass",
    "cyst",
    "fracture",
    "effusion",
    "no",
    "without",
    ",",
    ".",
    "and",
    "or",
    "possible",
    "3",
    "cm",
    "12",
    "mm",
    "L4",
    "at",
    "grade",
    "2",
    "unchanged",
    "since",
    "previous",
    "examination",
    "catheter",
    "(arrow)",
    "is",
    "not",
    "seen",
    "which",
    "has",
    "increased",
    "bilateral",
]


def kinds(hypothesis: str, reference: str) -> list[str]:
    """Return the classes of the errors, sorted."""
    return sorted(error.kind for error in audit_errors(hypothesis, reference))


@pytest.mark.parametrize(
    ("kind", "caption", "expected"),
    [
        ("modality", "Contrast-enhanced computed tomography.", {"CT"}),
        ("modality", "T1-weighted image of the brain", {"MR", "MR T1"}),
        ("modality", "PET/CT and an echocardiogram", {"PET", "CT", "echocardiography",
                                                      "ultrasound"}),
        ("modality", "Orthopantomogram", {"panoramic", "X-ray"}),
        ("modality", "Fotografie", set()),
        ("plane", "Sagittal and coronal MRI", {"sagittal", "coronal"}),
        ("plane", "Lateral radiograph; chest in AP", {"lateral", "AP"}),
        ("anatomy", "Renal mass beside the spleen", {"kidney", "spleen"}),
        ("side", "Right-sided effusion, LLL collapse", {"right", "left"}),
        ("side", "Effusions in both lungs", {"bilateral"}),
        ("side", "Control scan right after surgery, drain left in place", set()),
        ("level", "Fracture of L4 and T12", {"L4", "T12"}),
        ("level", "Discs at C5-6", {"C5", "C6"}),
        ("level", "Collapse from C7-D1; D2 branch", {"C7", "T1"}),
        ("level", "T2-weighted image", set()),
        ("level", "Mass in the right upper lobe, segment VIII", {"upper", "segment 8"}),
        ("level", "Fracture of the fifth rib", {"number 5"}),
        ("finding", "Tumour with haemorrhage", {"tumour", "haemorrhage"}),
        ("finding", "Metastases and stenoses", {"metastasis", "stenosis"}),
        ("severity", "Mild stenosis, huge cyst, grade III tear", {"mild", "massive", "grade 3"}),
        ("severity", "Small bowel loops", set()),
        ("measurement", "A 3.5 cm mass and a 12-mm node", {"35 mm", "12 mm"}),
        ("measurement", "A 3 x 4.5cm mass", {"30 mm", "45 mm"}),
        ("measurement", "A nine-millimeter stone of 40 HU", {"9 mm", "40 HU"}),
        ("comparison", "Larger than on the previous CT", {"increase", "prior"}),
        ("comparison", "Effusion has increased", {"increase"}),
        ("comparison", "High-resolution CT shows increased density", set()),
        ("comparison", "Initial CT of a patient with previous surgery", set()),
        ("device", "Pacemaker and a chest tube, no stent", {"pacemaker", "chest tube"}),
    ],
)  # fmt: skip
def test_kinds(kind: str, caption: str, expected: set[str]) -> None:
    assert audit(caption).items(kind) == expected


@pytest.mark.parametrize(
    ("caption", "denied", "asserted"),
    [
        ("No effusion, nodule or fracture; a cyst.", {"effusion", "nodule", "fracture"}, {"cyst"}),
        ("Without evidence of pneumothorax", {"pneumothorax"}, set()),
        ("Free of metastasis and negative for abscess", {"metastasis", "abscess"}, set()),
        ("Effusion is absent", {"effusion"}, set()),
        ("A fracture was ruled out", {"fracture"}, set()),
        ("The mass is no longer visible", {"mass"}, set()),
        ("No effusion but a large cyst", {"effusion"}, {"cyst"}),
        ("CT without stones showing a mass", {"stone"}, {"mass"}),
        ("No effusion and a mass", {"effusion"}, {"mass"}),
        ("Non-displaced fracture", {"displacement"}, {"fracture"}),
        ("Not only a mass but a cyst", set(), {"mass", "cyst"}),
        ("No change of the mass", set(), {"mass"}),
        ("There is no absence of fracture", set(), {"fracture"}),
        ("The effusion is not absent", set(), {"effusion"}),
        ("Abscess cannot be excluded", set(), {"abscess"}),
        ("Figure no. 5: mass", set(), {"mass"}),
        ("The cyst is not displaced", {"displacement"}, {"cyst"}),
        ("The callosum is not depicted; no glorbule", {"glorbule", "depicted"}, set()),
    ],
)
def test_negation_scope(caption: str, denied: set[str], asserted: set[str]) -> None:
    said = audit(caption)
    assert said.items("negation") - {"depicted"} == denied - {"depicted"}
    assert said.items("finding") == asserted


@pytest.mark.parametrize(
    ("caption", "unsure"),
    [
        ("Possible pneumonia", {"pneumonia"}),
        ("Lesion suspicious for metastasis", {"metastasis"}),
        ("A fracture cannot be excluded", {"fracture"}),
        ("Mass. Cyst, may represent abscess.", {"abscess"}),
        ("A fracture", set()),
        ("No possible fracture", set()),
    ],
)
def test_uncertainty(caption: str, unsure: set[str]) -> None:
    assert audit(caption).items("uncertainty") == unsure


@pytest.mark.parametrize(
    ("hypothesis", "reference", "expected"),
    [
        ("CT shows a mass and a cyst", "CT shows a mass", ["false-finding"]),
        ("CT shows a mass", "CT shows a mass and a cyst", ["missed-finding"]),
        ("CT shows no mass", "CT shows a mass", ["missed-finding"]),
        ("CT shows a mass", "CT shows no mass", ["false-finding"]),
        ("X-ray with a stent", "X-ray", ["false-finding"]),
        ("CT shows no glorbule", "CT shows a glorbule", ["missed-finding"]),
        ("CT: glorbule is absent", "CT: glorbule", ["missed-finding"]),
        ("Mass in the left lung", "Mass in the right lung", ["wrong-location"]),
        ("Bilateral effusion", "Left effusion", ["wrong-location"]),
        ("Left glorbule", "Right glorbule", ["wrong-location"]),
        ("Fracture of L2", "Fracture of L4", ["wrong-location"]),
        ("Mass of the lower lobe", "Mass of the upper lobe", ["wrong-location"]),
        ("Mass of the liver", "Mass of the kidney", ["wrong-location"]),
        ("Large effusion", "Small effusion", ["wrong-severity"]),
        ("Grade 3 tear", "Grade 1 tear", ["wrong-severity"]),
        ("A 5 cm cyst", "A 15 mm cyst", ["wrong-severity"]),
        ("A cyst, unchanged since the last CT", "A cyst", ["invented-comparison"]),
        ("A cyst", "A cyst, which has increased", ["omitted-comparison"]),
        ("MRI of the brain", "CT of the brain", ["wrong-modality"]),
        ("T1-weighted image", "T2-weighted image", ["wrong-modality"]),
        ("Left lung mass and right renal cyst", "Right lung mass and left renal cyst",
         ["wrong-location"] * 2),
        ("", "CT shows a mass", ["missed-finding"]),
        ("CT shows a mass", "", ["false-finding"]),
        ("", "", []),
    ],
)  # fmt: skip
def test_errors(hypothesis: str, reference: str, expected: list[str]) -> None:
    assert kinds(hypothesis, reference) == expected


@pytest.mark.parametrize(
    ("hypothesis", "reference"),
    [
        ("Computed tomography shows a tumour.", "CT scan shows a tumor"),
        ("Radiograph: haemorrhage", "X-ray: hemorrhage"),
        ("Effusion on the left.", "Left-sided effusion"),
        ("Left and right effusions", "Bilateral effusion"),
        ("A 35 mm cyst", "A 3.5 cm cyst"),
        ("No fracture", "Without evidence of a fracture"),
        ("Fracture is absent", "No fracture"),
        ("Mass demonstrating necrosis (arrow)", "MASS SHOWING NECROSIS"),
        ("Right renal cyst. Left lung mass.", "Left lung mass; right kidney cyst"),
        ("CT, no stone, mass in the liver", "Mass in the liver on CT no stone"),
        ("Fourth lumbar vertebra", "L4 vertebra"),
        ("RLL consolidation", "Right lower lobe consolidation"),
        ("Big mass", "Large mass"),
        ("Possible mass", "Mass"),
        ("Panoramic radiograph of a cyst", "Radiograph of a cyst"),
        ("A mass", "A large mass in the left lung, 3 cm"),
    ],
)
def test_no_error_where_both_agree(hypothesis: str, reference: str) -> None:
    assert audit_errors(hypothesis, reference) == []


def test_errors_say_what_is_wrong() -> None:
    [error] = audit_errors("A 5 cm cyst", "A 15 mm cyst")
    assert error.text == "50 mm instead of 15 mm"


def test_errors_name_their_place() -> None:
    [error] = audit_errors("CT: cyst of the left kidney", "CT: cyst of the right kidney")
    assert error.text == "left instead of right"
    assert error.hypothesis is not None
    assert audit("CT: cyst of the left kidney").text(*error.hypothesis) == "left"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("left - sided collection of pleural air", "large pneumothorax on the left side"),
        ("air in the pleural space on the right side", "right-sided pneumothorax"),
        ("subdural collection of blood", "subdural haematoma"),
        ("epidural collection of blood", "epidural hematoma"),
        ("blood in the pleural space on the left", "left haemothorax"),
        ("left-sided dilatation of the collecting system", "left hydronephrosis"),
        ("dilatation of the left kidney", "hydronephrosis of the left kidney"),
    ],
)
def test_two_wordings_of_one_finding_are_no_error(one: str, other: str) -> None:
    for pair in ((one, other), (other, one)):
        assert [error.text for error in audit_errors(*pair)] == []


@pytest.mark.parametrize(
    ("caption", "axes"),
    [
        ("Axial CT of the head through the ventricles shows a mass", ["anatomy", "slice"]),
        ("Axial CT at the level of the heart with a nodule in the lung", ["slice", "anatomy"]),
        ("Slice at the level of the left kidney and the liver", ["slice", "slice"]),
        ("CT shows a mass at the level of the carina", ["anatomy"]),
        ("Radiograph with a fracture through the femoral neck", ["anatomy"]),
        ("CT of a lesion at the level of the kidney", ["anatomy"]),
        ("MRI of the wobbly thing through the liver", ["anatomy"]),
    ],
)
def test_the_level_of_a_slice_is_no_place_of_a_finding(caption: str, axes: list[str]) -> None:
    assert [mention.axis for mention in audit(caption).of("anatomy")] == axes


def test_a_slice_and_a_denial_put_nothing_anywhere() -> None:
    brain = "Axial CT of the brain showing right-sided haemorrhage"
    through = "Axial CT through the ventricles showing right-sided haemorrhage"
    assert audit_errors(through, brain) == []
    both = [f"Axial CT through the {one} showing haemorrhage" for one in ("orbit", "cerebellum")]
    assert [error.text for error in audit_errors(*both)] == ["orbit instead of cerebellum"]
    place = [f"CT: mass in the {one}" for one in ("kidney", "liver")]
    assert [error.text for error in audit_errors(*place)] == ["kidney instead of liver"]
    denied = [f"Axial CT of the abdomen showing a stone, without {one} lesion"
              for one in ("renal", "liver")]  # fmt: skip
    assert audit_errors(*denied) == []


def test_statistics() -> None:
    table = audit_statistics(
        ["CT: mass in the left lung", "MRI: cyst"], [["CT: mass in the right lung"], ["MRI: cyst"]]
    )
    assert list(table) == [f"audit-{kind}" for kind in KINDS] + ["audit-errors"]
    assert table["audit-side"].values.tolist() == [[0, 1, 1], [0, 0, 0]]
    assert table["audit-finding"].corpus().tolist() == [1, 1, 1]
    errors = table["audit-errors"]
    assert errors.metric.names == tuple(f"error-{kind}" for kind in ERRORS)
    assert errors.corpus()[ERRORS.index("wrong-location")] == 0.5
    assert errors.corpus().sum() == 0.5
    assert all(s.values.dtype == np.float64 and len(s.values) == 2 for s in table.values())


def test_the_reference_that_agrees_best_counts() -> None:
    captions = ["MRI: stone", "CT: mass in the left lung", "CT: mass"]
    assert best_reference("CT: mass in the left lung", captions) == 1
    table = audit_statistics(["CT: mass in the left lung"], [captions])
    assert table["audit-errors"].corpus().sum() == 0
    assert best_reference("", ["", ""]) == 0


def test_empty_captions() -> None:
    table = audit_statistics(["", ""], [[""], ["CT: mass"]])
    assert table["audit-finding"].values.tolist() == [[0, 0, 0], [0, 0, 1]]


@pytest.mark.parametrize("references", [[["a"]], [["a"], []]])
def test_missing_references(references: list[list[str]]) -> None:
    with pytest.raises(MetricError, match="references for every caption"):
        audit_statistics(["a", "b"], references)


@settings(max_examples=400, deadline=None)
@given(
    st.one_of(
        st.text(),
        st.text(alphabet="ctdls thx0123456789-/.,%mno°", max_size=40),
        st.lists(st.sampled_from(VOCABULARY), max_size=25).map(" ".join),
    )
)
def test_a_caption_agrees_with_itself(caption: str) -> None:
    table = audit_statistics([caption], [[caption]])
    for kind in KINDS:
        assert table[f"audit-{kind}"].corpus().tolist() == [1, 1, 1]
    assert table["audit-errors"].corpus().tolist() == [0] * len(ERRORS)
    assert audit_errors(caption.upper(), caption) == [] or not caption.isascii()


SENTENCES = st.lists(st.sampled_from(VOCABULARY), max_size=15).map(" ".join)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(SENTENCES, SENTENCES), min_size=1, max_size=4))
def test_the_order_of_images_does_not_matter(pairs: list[tuple[str, str]]) -> None:
    forth = audit_statistics([h for h, _ in pairs], [[r] for _, r in pairs])
    back = audit_statistics([h for h, _ in pairs[::-1]], [[r] for _, r in pairs[::-1]])
    for name, statistics in forth.items():
        assert np.array_equal(statistics.values, back[name].values[::-1])


@settings(max_examples=200, deadline=None)
@given(SENTENCES, SENTENCES)
def test_roles_mirror(first: str, second: str) -> None:
    """What one caption invents the other omits."""
    mirror = {"false-finding": "missed-finding", "invented-comparison": "omitted-comparison"}
    mirror |= {value: key for key, value in mirror.items()}
    there = kinds(first, second)
    assert sorted(mirror.get(kind, kind) for kind in there) == kinds(second, first)


def test_spelling() -> None:
    plurals = ["haemorrhages", "tumours", "stenoses", "masses", "vertebrae", "calculi", "bodies"]
    assert [lemma(word) for word in plurals] == [
        "hemorrhage", "tumor", "stenosis", "mass", "vertebra", "calculus", "body",
    ]  # fmt: skip
    assert tokens("Tumours") == tokens("tumor")
    assert tokens("A 3.5-cm mass at L4/5") == [
        "#length:35", "mass", "at", "#vertebra:L4", "#vertebra:L5",
    ]  # fmt: skip
    assert tokens("1,200 ml; 3,5 cm") == ["#volume:1200", ";", "#length:35"]
    assert tokens("45-year-old") == tokens("45 year old") != tokens("45 years")
    assert tokens("anterolateral") == ["anterior", "lateral"]


def test_the_lexicon_is_sound() -> None:
    words = vocabulary()
    findings = {term.name for terms in words.concepts._forms.values() for term in terms}
    assert set(words.broader) | set(words.broader.values()) <= findings
    assert set(words.parents) | set(words.parents.values()) <= findings
    assert words.cues.find(tokens("no evidence of"))[0].stop == 3


def test_import_is_light() -> None:
    code = "import sys, medblip.metrics.audit; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("No fracture of the left femur.", "No fracture. The left femur is intact."),
        ("CT: no pulmonary embolism in the right pulmonary artery.",
         "CT: no evidence of pulmonary embolism. The right pulmonary artery is patent."),
        ("No pulmonary embolism in the artery.",
         "No pulmonary embolism. The pulmonary artery is patent."),
    ],
)  # fmt: skip
def test_a_denied_finding_does_not_deny_where_it_is_not(one: str, other: str) -> None:
    assert audit_errors(one, other) == []
    assert audit_errors(other, one) == []


@pytest.mark.parametrize(
    ("caption", "reference", "kinds"),
    [
        ("Renal cyst.", "No lesion.", ["false-finding"]),
        ("Lung metastasis.", "No liver lesion.", ["false-finding"]),
        ("A lesion.", "No cyst.", ["false-finding"]),
        ("No lesion.", "Renal cyst.", ["missed-finding"]),
        ("Renal cyst.", "Renal lesion.", []),
        ("Lung metastasis.", "Liver lesion.", ["wrong-location"]),
        ("Left haematoma.", "Right haemorrhage.", ["wrong-location"]),
        ("Left opacity.", "Right consolidation.", ["wrong-location"]),
        ("Left haematoma.", "Left haemorrhage.", []),
    ],
)
def test_wider_and_narrower_terms(caption: str, reference: str, kinds: list[str]) -> None:
    """Of one finding they are one; what is denied in a wider term is not stated."""
    assert [error.kind for error in audit_errors(caption, reference)] == kinds

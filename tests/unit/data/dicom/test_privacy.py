"""Planted header values: none may be in anything that the reader gives, whatever happens."""

from __future__ import annotations

import base64
import io
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset

from medblip.data.dicom.parent import look
from medblip.data.dicom.privacy import FACTS, Pseudonyms, allowed
from medblip.data.raw import Raw, ReadOptions
from medblip.data.readers import dicom
from medblip.errors import DicomError

Make = Callable[..., Path]
NAME = "Zorblatt^Xanthippe^Quux"
#: Attribute -> planted value, at least one per VR of text.
PLANTED: dict[str, Any] = {
    "PatientName": NAME,  # PN
    "PatientID": "MRN-7788123",  # LO
    "IssuerOfPatientID": "Hospitalis Vexilla",
    "AccessionNumber": "ACQ99821",  # SH
    "StudyDescription": "Wumpelstilt thorax",
    "AdditionalPatientHistory": "Grandfather Brockelmann fell",  # LT
    "InstitutionAddress": "Kuckucksweg 17, Fantasien",  # ST
    "TextValue": "Dictated by Drossel",  # UT
    "SOPInstanceUID": "1.2.826.0.1.7654321.42.9",  # UI
    "StudyInstanceUID": "1.2.826.0.1.7654321.43",
    "PatientBirthDate": "19371105",  # DA
    "PatientAge": "086Y",  # AS
    "AcquisitionDateTime": "20240229143211.123",  # DT
    "StudyTime": "134257.987654",  # TM
    "StationAETitle": "QUOKKA_AE",  # AE
    "LongCodeValue": "Vexillologist-Code",  # UC
    "RetrieveURL": "https://pacs.fantasien.example/urinstinkt",  # UR
    "BodyPartExamined": "ZWIEBELKOPF",  # CS, free text in a coded field
    "ViewPosition": "ZORBLATT",
    "PatientSex": "XENOMORPH",
    "InstanceNumber": "8675309",  # IS
    "PatientWeight": "73.14159",  # DS
}
#: What must never appear: the parts of all that.
SECRETS = sorted(
    {
        piece.lower()
        for value in (*PLANTED.values(), "Nestroy", "Privatissimus", "Unbekannter")
        for piece in re.findall(r"\w{4,}", str(value))
    }
    - {"code", "fell", "dictated", "https", "example", "thorax"}
)


def planted(make: Make, name: str, **more: Any) -> Path:
    """Write a file full of secrets, some nested and some private."""
    inner = Dataset()
    inner.PersonName = "Nestroy^Johann"
    inner.add_new(0x00110010, "LO", "PRIVATISSIMUS")
    inner.add_new(0x00111001, "UN", b"Unbekannter^Name")
    outer = Dataset()
    outer.ContentSequence = [inner]
    attributes = {
        "Modality": "CR",
        **PLANTED,
        "OtherPatientIDsSequence": [outer],
        **more,
    }
    pixels = np.random.default_rng(0).integers(0, 4096, (16, 16), dtype=np.uint16)
    return make(pixels, name=name, **attributes)


def names() -> Iterator[str]:
    """Yield file names made of the secrets, as people and archives make them."""
    for value in PLANTED.values():
        plain = re.sub(r"[/:]", "", str(value))
        yield f"{plain}.dcm"
        yield f"{plain.lower()}/x1.dcm"
        yield f"case_{re.sub('[^0-9A-Za-z]', '', plain).upper()}_b/x2.dcm"
    yield "Dr Zorblatts patients/x3.dcm"
    yield "1937-11-05/x4.dcm"
    yield "xanthippe_quux_z.dcm"
    yield "nestroy/x5.dcm"
    yield "UNBEKANNTER/x6.dcm"
    yield "77881230001.dcm"  # holds the digits of MRN-7788123
    yield "7788123.dcm"


def secrets_in(text: str) -> set[str]:
    return {secret for secret in SECRETS if secret in text.lower()}


def secret_bytes(data: bytes) -> set[int]:
    """Return where the secrets are: damage there would make them others."""
    lowered = data.lower()
    return {
        at
        for secret in SECRETS
        for found in re.finditer(re.escape(secret.encode()), lowered)
        for at in range(*found.span())
    }


def everything(rows: Iterator[Raw]) -> Iterator[bytes]:
    """Yield all that leaves: what goes into manifests and rejects, and every byte of pictures."""
    for row in rows:
        assert re.fullmatch(r"\d+:\d+:auto", row.image.stamp())  # size and time
        told = [row.id, row.image.label, row.image.suffix, row.group, row.facts]
        told += [row.split, row.licence, row.source, *row.concepts, *row.keywords, *row.captions]
        try:
            picture, data = row.image.open()
            told += [picture.info, dict(picture.getexif())]
            with Image.open(io.BytesIO(data)) as copy:
                told += [copy.info, dict(copy.getexif())]
                yield copy.tobytes()
            yield data
        except DicomError as error:
            told += [str(error), repr(error), error.__cause__, error.__context__]
        yield repr(told).encode()


def spellings(secret: str) -> Iterator[bytes]:
    for text in {secret, secret.upper(), secret.capitalize()}:
        yield text.encode()
        yield text.encode("utf-16-le")
        yield text.encode("utf-16-be")
        yield text.encode().hex().encode()
        for shift in range(3):
            encoded = base64.b64encode(bytes(shift) + text.encode())
            yield encoded[4 if shift else 0 : -4]


def assert_nothing_leaked(outputs: list[bytes]) -> None:
    lowered = [output.lower() for output in outputs]
    for secret in SECRETS:
        for place in lowered:
            assert secret.encode() not in place, f"{secret}: {place[:300]!r}"
        for spelling in spellings(secret):
            assert len(spelling) < 5 or not any(spelling in output for output in outputs), secret


def test_nothing_planted_comes_out(
    make: Make, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    rng = random.Random(0)
    for number, name in enumerate(names()):
        path = planted(make, f"s/{name}")
        whole = path.read_bytes()
        cut = whole[: rng.randrange(len(whole))]
        if secrets_in(name) <= secrets_in(cut.decode("latin-1")):  # else they are not its values
            (path.parent / f"{number}cut{path.name}").write_bytes(cut)
        free = sorted(set(range(128, len(whole))) - secret_bytes(whole))
        for copy in range(3):
            data = bytearray(whole)
            for at in rng.choices(free, k=rng.choice((1, 5, 30))):
                data[at] = rng.randrange(256)
            (path.parent / f"{number}broken{copy}{path.name}").write_bytes(data)
    for syntax in ("1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99", None):
        planted(make, f"s/{NAME}/{syntax}.dcm", syntax=syntax)
        planted(make, f"s/{NAME}/b{syntax}.dcm", syntax=syntax, Rows=17)
    table = tmp_path / "captions.csv"
    table.write_text("AccessionNumber,caption\nACQ99821,A neutral caption.\n")
    rows = list(dicom.read(tmp_path / "s", ReadOptions(captions=table)))
    assert len(rows) > 280
    assert sum(bool(row.captions) for row in rows) > 100
    outputs = list(everything(iter(rows)))
    printed = capfd.readouterr()
    outputs += [printed.out.encode(), printed.err.encode(), caplog.text.encode()]
    assert_nothing_leaked(outputs)
    assert sum(output.startswith(b"\x89PNG") for output in outputs) > 80
    assert {row.group for row in rows} <= {None, *(f"patient-{i:05d}" for i in range(1, 200))}


def test_damage_hides_no_value(make: Make, tmp_path: Path) -> None:
    """A parser stops where an item seems to end; the name is searched for in the bytes, too."""
    whole = planted(make, "w.dcm").read_bytes()
    free = sorted(set(range(128, len(whole))) - secret_bytes(whole))
    rng, path = random.Random(77), tmp_path / "q.dcm"
    ends = [bytes.fromhex(f"feff{tag}00000000") for tag in ("dde0", "0de0", "00e0")]
    for _ in range(1500):
        data = bytearray(whole)
        for at in rng.choices(free, k=rng.choice((1, 1, 2, 5, 30, 100))):
            data[at] = rng.choice((rng.randrange(256), 0, 0xFF, 0xFE))
        if rng.random() < 0.2:
            at = rng.choice(free)
            data[at:at] = rng.choice(ends)
        path.write_bytes(data)
        name = rng.choice(("Zorblatt.dcm", "7788123.dcm", "nestroy/1.dcm", "unbekannter.dcm"))
        assert look(path, name).betrays, name


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("MRN7788123", "7788123.dcm"),  # most of the value
        ("MRN7788123", "mrn7788123-2.dcm"),
        ("Zorblatt^X", "zorblattx.dcm"),
        ("Zorblatt^X", "x/dr_zorblatts_cases/1.dcm"),
        ("Lee^Bo", "lee/1.dcm"),
        ("19371105", "1937_11_05.dcm"),
    ],
)
def test_what_counts_as_holding_a_value(make: Make, value: str, name: str) -> None:
    assert look(make(name="a.dcm", PatientComments=value), name).betrays
    assert not look(make(name="a.dcm", PatientComments="other"), name).betrays


def test_letters_of_other_alphabets(make: Make, tmp_path: Path) -> None:
    for charset, name in {
        "ISO_IR 100": "Müller^Jürgen",
        "ISO_IR 144": "Люксембург",
        "ISO_IR 192": "Λουξεμβούργο",
        "ISO 2022 IR 87": "山田^太郎",
    }.items():
        for file in (f"{name}.dcm", f"{name.upper()}/x.dcm", f"a {name.replace('ü', 'u')}.dcm"):
            path = make(name=f"s/{file}", SpecificCharacterSet=charset, PatientName=name)
            assert look(path, str(path.relative_to(tmp_path / "s"))).betrays, file
    path = make(name="o.dcm", SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Jürgen")
    assert not look(path, "reihe/größe.dcm").betrays


@pytest.mark.parametrize(
    "name", ["chest/im_0042.dcm", "train/CT/000017.dcm", "s/a.dcm", "series-3/slice 12.dcm"]
)
def test_names_that_say_nothing_are_kept(make: Make, name: str) -> None:
    path = planted(make, name, BodyPartExamined="CHEST", ImageType=["ORIGINAL", "PRIMARY", "AXIAL"])
    assert not look(path, name).betrays


@pytest.mark.parametrize("name", ["image-00017.dcm", "x/patient-3.dcm", "Image-1/x.dcm"])
def test_names_like_our_pseudonyms_are_replaced(make: Make, name: str) -> None:
    assert look(make(name=name), name).betrays


def test_a_file_that_was_cut_off_betrays_its_name(make: Make, tmp_path: Path) -> None:
    """What was in the missing part, nobody knows; what could be read is told nevertheless."""
    path = make(name="a.dcm", Modality="CR")
    path.write_bytes(path.read_bytes()[:-5])
    seen = look(path, "a.dcm")
    assert seen.betrays
    assert seen.facts == {"modality": "CR"}
    (tmp_path / "b.dcm").write_bytes(b"\0" * 500)
    assert look(tmp_path / "b.dcm", "b.dcm").betrays


def test_facts_are_terms_of_the_standard_or_absent(make: Make) -> None:
    path = make(
        Modality="CR", BodyPartExamined="chest", ViewPosition="PA", Laterality="L",
        BurnedInAnnotation="NO", PatientSex="F", PatientAge="044Y", Manufacturer="ACME",
    )  # fmt: skip
    assert look(path, "x").facts == {
        "modality": "CR", "body_part": "CHEST", "view_position": "PA", "laterality": "L",
        "burned_in_annotation": "NO",
    }  # fmt: skip
    path = make(
        Modality="SMITH", BodyPartExamined="JOHN SMITH", ViewPosition="SMITH", Laterality="Q"
    )
    assert look(path, "x").facts == {}
    assert len(FACTS) <= 6  # a short list; to add one is a decision about privacy
    assert allowed({"modality": "CR", "body_part": "SMITH", "name": "CR", "laterality": ["L"]}) == {
        "modality": "CR"
    }


def test_pseudonyms_count_and_tell_nothing_of_the_key() -> None:
    patients = Pseudonyms("patient")
    assert [patients.name(key) for key in "abab"] == [
        "patient-00001", "patient-00002", "patient-00001", "patient-00002",
    ]  # fmt: skip


def test_identifiers_are_not_in_a_look_that_is_printed(make: Make) -> None:
    seen = look(planted(make, "x.dcm"), "x.dcm")
    assert seen.identifiers["PatientID"] == "MRN-7788123\\Hospitalis Vexilla"
    assert_nothing_leaked([repr(seen).encode()])

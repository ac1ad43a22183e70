"""Preparing through the real command line: killed at random, with patients' names planted."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medblip.schema import read_examples, read_jsonl


def medblip(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "medblip", *map(str, arguments)],
        capture_output=True, text=True, cwd=cwd,
    )  # fmt: skip


def digest(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def pictures(folder: Path, count: int) -> Path:
    """Write a source of JPEG files, one in fifty of them broken."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    lines = ["image,caption"]
    for index in range(count):
        side = int(rng.integers(60, 200))
        path = folder / f"{index:04d}.jpg"
        Image.fromarray(rng.integers(0, 255, (side, side + 9), np.uint8)).save(path)
        if index % 50 == 7:
            path.write_bytes(path.read_bytes()[: 300 * (index % 3)])
        lines.append(f"{path.name},Picture number {index}.")
    (folder / "rows.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_at_random_moments_and_started_again(tmp_path: Path, kills: int) -> None:
    source = pictures(tmp_path / "source", 1500)
    command = ("data", "prepare", source, "--size", "96", "--workers", "2", "--out")
    assert medblip(*command, "whole", cwd=tmp_path).returncode == 0
    moments, killed, out = random.Random(kills), 0, tmp_path / "out"
    while killed < kills:
        process = subprocess.Popen(
            [sys.executable, "-m", "medblip", *map(str, command), "out"],
            cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            process.wait(timeout=moments.uniform(0.2, 2.0))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            killed += 1
        if out.exists():  # it was done before the kill: begin anew
            assert digest(out) == digest(tmp_path / "whole")
            shutil.rmtree(out)
    done = medblip(*command, "out", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rejects"] == 30
    assert digest(out) == digest(tmp_path / "whole")
    assert not list(tmp_path.glob("*.partial"))


PLANTED = {
    "PatientName": "Zwiebelfisch^Quirin", "PatientID": "PID7730915", "PatientBirthDate": "19410823",
    "OtherPatientNames": "Nachtigall^Ottilie", "PatientAddress": "Krokusweg 77 Elmshorn",
    "AccessionNumber": "ACC5511902", "InstitutionName": "Klinikum Wolkenstein",
    "ReferringPhysicianName": "Habermus^Lorenz", "StudyDescription": "Vorstellung Zwiebelfisch",
    "ImageComments": "bitte Rueckruf 0471 889901", "ProtocolName": "Proto-XK9-Zwie",
    "SOPInstanceUID": "1.2.826.0.1.3680043.8.498.77120965011", "StudyID": "STU88213",
    "StudyInstanceUID": "1.2.826.0.1.3680043.8.498.99120965022", "DeviceSerialNumber": "SN40551x",
}  # fmt: skip


def dicom_folder(folder: Path) -> Path:
    """Write files that carry these values, some broken, some named by them."""
    pydicom = pytest.importorskip("pydicom")
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    rng = np.random.default_rng(3)
    names = [
        "ct/scan_001.dcm", "ct/scan_002.dcm", "Zwiebelfisch_Quirin/IM0001.dcm",
        f"by-uid/{PLANTED['SOPInstanceUID']}.dcm", "PID7730915.dcm", "broken/cut.dcm",
        "broken/Nachtigall.dcm", "no-caption.dcm",
    ]  # fmt: skip
    for number, name in enumerate(names):
        data = Dataset()
        data.file_meta = FileMetaDataset()
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = pydicom.uid.CTImageStorage
        data.file_meta.MediaStorageSOPInstanceUID = PLANTED["SOPInstanceUID"]
        for keyword, value in PLANTED.items():
            setattr(data, keyword, value)
        data.Modality, data.BodyPartExamined = "CT", "CHEST"
        inner = Dataset()
        inner.CodeMeaning = "Wolkenstein innen"
        data.RequestAttributesSequence = [inner]
        data.private_block(0x0099, "MEDBLIP TEST", create=True).add_new(1, "LO", "Geheim Quirin 9")
        data.Rows, data.Columns, data.SamplesPerPixel = 40, 50, 1
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
        data.PhotometricInterpretation = "MONOCHROME2"
        data.PixelData = rng.integers(0, 4095, (40, 50), np.uint16).tobytes()
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data.save_as(path, enforce_file_format=True)
        if name.startswith("broken"):
            path.write_bytes(path.read_bytes()[: -900 - number])
        if name != "no-caption.dcm":
            path.with_suffix(".txt").write_text(f"CT of the chest number {number}.")
    return folder


def test_no_planted_header_value_in_any_output(tmp_path: Path) -> None:
    source = dicom_folder(tmp_path / "source")
    logs = []
    for arguments in (
        ("data", "prepare", source, "--out", "dry", "--dry-run"),
        ("data", "prepare", source, "--out", "out", "--size", "32"),
        ("data", "check", "out"),
        ("data", "show", "out"),
        ("data", "prepare", source, "--out", "out", "--max-rejects", "0", "--force"),
    ):
        done = medblip(*arguments, cwd=tmp_path)
        assert done.returncode == (2 if "--max-rejects" in arguments else 0), done.stderr
        logs.append((done.stdout + done.stderr).encode())
    examples = read_examples(tmp_path / "out" / "manifest.jsonl")
    assert len(examples) == 5
    assert any(example.id.endswith("scan_001") for example in examples), "harmless names are kept"
    assert {example.group for example in examples} == {"patient-00001"}
    assert len(list(read_jsonl(tmp_path / "out" / "rejects.jsonl"))) == 3
    written = [path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()]
    written += [str(path.relative_to(tmp_path)).encode() for path in (tmp_path / "out").rglob("*")]
    values = {
        part for value in PLANTED.values() for part in (value, *value.replace("^", " ").split())
    }
    values |= {"Wolkenstein innen", "Geheim Quirin 9", "Quirin"}
    for value in sorted(v for v in values if len(v) >= 5):
        for form in (
            value.encode(), value.encode("utf-16-le"), value.lower().encode(),
            base64.b64encode(value.encode())[:-4],
        ):  # fmt: skip
            for place, content in enumerate([*logs, *written]):
                assert form not in content, f"{value!r} in output {place}"

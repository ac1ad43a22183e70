"""What a large DICOM image costs in the decoding process, by transfer syntax, beside its limits.

    python benchmarks/dicom_bench.py

A made mammogram (23 million pixels of 12 bits, noise as of a detector) is written by GDCM in every
lossless syntax and rendered, each in a fresh process. Limits: a fifth of the CPU time allowed for a
file of its size, half of the memory. Then files per second for a CT slice of 512 x 512, and for
reading headers only. The last line is one JSON object.
"""

from __future__ import annotations

import json
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from medblip.data.dicom import parent
from medblip.data.dicom.child import MEMORY_BYTES
from medblip.data.dicom.parent import close_children, cpu_limit_s, look, render

ROWS, COLUMNS, SMALL = 5625, 4096, 512
SYNTAXES = {
    "native": None,
    "RLE": "RLELossless",
    "JPEG Lossless": "JPEGLosslessProcess14_1",
    "JPEG-LS": "JPEGLSLossless",
    "JPEG 2000": "JPEG2000Lossless",
}


def write_native(path: Path, rows: int, columns: int) -> None:
    """Write an image as a detector gives it: smooth, with noise in the lowest five bits."""
    from pydicom.dataset import Dataset, FileMetaDataset

    rng = np.random.default_rng(0)
    y, x = np.mgrid[:rows, :columns].astype(np.float32)
    values = 2000 + 1500 * np.sin(x / 700) * np.cos(y / 900)
    values += rng.normal(0, 20, (rows, columns)).astype(np.float32)
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1.2"
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = "1.2.3"
    ds.Rows, ds.Columns, ds.SamplesPerPixel = rows, columns, 1
    ds.Modality = "MG"  # GDCM aborts without
    ds.PhotometricInterpretation, ds.PixelRepresentation = "MONOCHROME2", 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 12, 11
    ds.WindowCenter, ds.WindowWidth = 2048, 4096
    ds.PixelData = np.clip(values, 0, 4095).astype("<u2").tobytes()
    ds["PixelData"].VR = "OW"
    ds.save_as(path, enforce_file_format=True)


def compress(native: Path, out: Path, syntax: str) -> None:
    """Write the file again in another transfer syntax."""
    import gdcm

    reader, writer = gdcm.ImageReader(), gdcm.ImageWriter()
    reader.SetFileName(str(native))
    reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, syntax)))
    change.SetInput(reader.GetImage())
    change.Change()
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    writer.SetFileName(str(out))
    writer.Write()


def measure(path: Path) -> dict[str, Any]:
    """Render a file in a fresh process; return its CPU seconds and the peak of its memory."""
    close_children()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    render(path)
    peak = peak_mb(parent._idle[-1]._process.pid)
    close_children()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    megabytes = path.stat().st_size / 1e6
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "mb": round(megabytes, 1),
        "cpu_s": round(seconds, 2),
        "cpu_s_per_mb": round(seconds / megabytes, 3),
        "limit_s": round(cpu_limit_s(path.stat().st_size), 1),
        "peak_mb": peak,
    }


def peak_mb(pid: int) -> int | None:
    """Return the most memory a process ever held; None where the system does not tell."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    return round(int(status.partition("VmHWM:")[2].split()[0]) / 1000)


def per_second(work: Any, count: int) -> float:
    """Return how often a second something is done."""
    work()
    start = time.perf_counter()
    for _ in range(count):
        work()
    return count / (time.perf_counter() - start)


def main() -> None:
    """Measure, print."""
    found: dict[str, Any] = {"benchmark": "dicom"}
    with tempfile.TemporaryDirectory() as folder:
        native = Path(folder) / "native.dcm"
        write_native(native, ROWS, COLUMNS)
        for name, syntax in SYNTAXES.items():
            path = native
            if syntax is not None:
                path = Path(folder) / "packed.dcm"
                compress(native, path, syntax)
            found[name] = one = measure(path)
            print(
                f"{name:14s} {one['mb']:6.1f} MB {one['cpu_s']:6.2f} s of CPU, start included"
                f" ({one['cpu_s_per_mb']:.3f} per MB; limit {one['limit_s']:.0f} s),"
                f" peak {one['peak_mb']} MB"
            )
        small = Path(folder) / "small.dcm"
        write_native(small, SMALL, SMALL)
        found["render_per_s"] = round(per_second(lambda: render(small), 200))
        found["look_per_s"] = round(per_second(lambda: look(small, "small"), 200))
    print(f"a slice of {SMALL} x {SMALL}: {found['render_per_s']} rendered per second, one process")
    print(f"headers: {found['look_per_s']} per second, one process")
    print(f"memory limit: imports and {MEMORY_BYTES / 1e6:.0f} MB")
    print(json.dumps(found))


if __name__ == "__main__":
    main()

"""The process that decodes: `python -m medblip.data.dicom.child`, started by parent.py only.

It reads one JSON request per line and answers with a length, JSON and pixels. It limits itself:
memory by RLIMIT_AS, CPU time per file by ITIMER_PROF, whose signal ends the process even inside a C
decoder, and it can write no file and leave no core dump. Nothing heavy is imported here.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import signal
import struct
import sys
import warnings
from typing import Any, BinaryIO

from medblip.data.dicom.reasons import Reason, Refused

__all__ = ["MEMORY_BYTES", "main"]

#: What a file may need beyond the imports, in address space. A lossless JPEG 2000 mammogram of 23
#: million pixels holds 0.33 GB, imports included (docs/dicom.md).
MEMORY_BYTES = 1_000_000_000


def main() -> None:
    """Answer requests until standard input ends."""
    channel = os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)  # C libraries print; the channel is ours alone
    os.dup2(null, 2)
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    try:
        _import_decoders()
    except ImportError as error:
        _send(channel, {"missing": error.name or "pydicom"})
        return
    base = _virtual_bytes()
    if base is not None:
        resource.setrlimit(resource.RLIMIT_AS, (base + MEMORY_BYTES,) * 2)
    gc.freeze()
    _send(channel, {"ready": True, "memory_is_limited": base is not None})
    for line in sys.stdin.buffer:
        answer, pixels = _answer(json.loads(line))
        gc.collect()
        answer["grown"] = (_virtual_bytes() or 0) - (base or 0)
        _send(channel, answer, pixels)
        del pixels


def _import_decoders() -> None:
    import logging

    import pydicom.config
    import pydicom.pixels

    logging.disable(logging.CRITICAL)  # pydicom logs values
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE


def _virtual_bytes() -> int | None:
    """Return the size of the address space; None where the system does not tell (macOS)."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[0]) * resource.getpagesize()
    except OSError:
        return None


def _answer(request: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    doing = {"look": _look, "render": _render}[request["do"]]
    signal.setitimer(signal.ITIMER_PROF, request["cpu_s"])
    try:
        return doing(request)
    except Refused as refused:
        return {"reason": refused.reason.name, "detail": refused.detail}, b""
    except MemoryError:
        return {"reason": Reason.MEMORY.name, "detail": ""}, b""
    except Exception:  # of pydicom's parsing, of 9 types and more; its words may hold values
        return {"reason": Reason.HEADER.name, "detail": ""}, b""
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _look(request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """Return facts and identifiers of a file, and whether its path holds a header value."""
    from medblip.data.dicom.parse import parse
    from medblip.data.dicom.privacy import betrays, facts, identifiers

    ds, whole = parse(request["path"])
    with open(request["path"], "rb") as file:
        data = file.read()
    return {
        "facts": facts(ds),
        "identifiers": identifiers(ds),
        # what was not read may be in the name, too
        "betrays": not whole or betrays(request["name"], ds, data),
    }, b""


def _render(request: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """Return the picture."""
    from medblip.data.dicom.frame import decode_frame, middle_frame
    from medblip.data.dicom.parse import parse, read_layout
    from medblip.data.dicom.pixels import render

    ds, _ = parse(request["path"])
    layout = read_layout(ds, request["max_pixels"])
    values, photometric = decode_frame(ds, layout)
    del ds.PixelData
    frame = middle_frame(layout.frames)
    picture = render(ds, layout, values, photometric, frame, request["window"])
    height, width = picture.shape[:2]
    channels = 1 if picture.ndim == 2 else 3
    return {"width": width, "height": height, "channels": channels}, picture.data.cast("B")


def _send(channel: BinaryIO, answer: dict[str, Any], pixels: Any = b"") -> None:
    text = json.dumps(answer).encode()
    channel.write(struct.pack(">II", len(text), len(pixels)) + text)
    channel.write(pixels)
    channel.flush()


if __name__ == "__main__":
    main()

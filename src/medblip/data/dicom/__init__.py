"""DICOM files to 8-bit pictures, each decoded in a child process that can be stopped.

    reader (readers/dicom.py) ── look(path): who, what, which caption ──┐
    worker (DicomRef.open) ───── render(path, window): a picture ───────┤
                                                                        v
    parent.py   starts, limits, restarts the child            pipe, JSON + pixels
    child.py    parse.py -> frame.py -> pixels.py             pydicom lives here only

A header value never leaves by a message: what goes wrong is one of `reasons.Reason`, and what is
told about an image is an allow-list (privacy.py). The child is a limit, not a sandbox.
"""

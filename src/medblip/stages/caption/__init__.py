"""Stage `caption`: captions for a split of a data set, or for any images.

stage.py     which captioner, which images, where to (job.py); one process or several
sources.py   a split, files, folders, DICOM or a list, read batch by batch
loop.py      batch after batch through the network
share.py     one process's batches, and waiting for the others
journal.py   finished batches, one line each, so that a killed run goes on
remote.py    one image after another to a remote captioner; budget.py: what that uses
result.py    all batches in one file; or rows to standard output
formats.py   rows as JSON lines, CSV or plain text
"""

from medblip.stages.caption.job import Captioned
from medblip.stages.caption.stage import caption

__all__ = ["Captioned", "caption"]

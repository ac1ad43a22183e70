"""Stage `explain`: what a captioner looked at for each word of a caption that it really wrote.

split.py     images of a split, into run/maps/<split>.json
"""

from medblip.stages.explain.split import Explained, explain

__all__ = ["Explained", "explain"]

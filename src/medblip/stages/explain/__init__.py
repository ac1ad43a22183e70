"""Stage `explain`: what a captioner looked at for each word of a caption that it really wrote.

stage.py      which of both
split.py      images of a split, into run/maps/<split>.json
shown.py      which images, where none are named: those of the report's gallery
named.py      images that are named: captioned, replayed, and written as figure, NPZ and page
look.py       captions replayed over their images, seen in one view
opened.py     a run with the images and captions that are explained
own_words.py  whether a caption is what this captioner wrote
faithfulness.py  are the maps true? measured.py: image after image; curves.py: deletion and
              insertion; conclusions.py: what the figures allow to say
figure.py     one image's PNG and NPZ; page.py: the interactive page
"""

from medblip.stages.explain.result import Explained
from medblip.stages.explain.stage import explain

__all__ = ["Explained", "explain"]

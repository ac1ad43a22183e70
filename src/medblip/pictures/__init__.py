"""Maps of words over images, for every page and figure: NumPy and Pillow only.

heat.py       a grid of patches as places of the original image, as colour, as a data URI
words.py      a caption's words found again in the caption as it is written
wordmaps.js   pointing at a word lights its region: hover, tap, keyboard
"""

from medblip.pictures.heat import Box, cell_box, data_uri, heat, packed, strengths
from medblip.pictures.words import align, script

__all__ = ["Box", "align", "cell_box", "data_uri", "heat", "packed", "script", "strengths"]

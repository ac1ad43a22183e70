"""Stage `push`: a run's captioner with its card, or a data set's card alone, to the hub.

stage.py    what is pushed where, and what is refused
parcel.py   which files of a run may leave, and whether they are whole
scores.py   the scores as strangers may see them: no id, no piece of a caption
upload.py   the hub: who we are, what is there already, one commit
refusal.py  what the hub refuses, in our words
"""

from medblip.stages.push.stage import Pushed, push

__all__ = ["Pushed", "push"]

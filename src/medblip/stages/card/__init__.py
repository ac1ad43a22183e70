"""Stage `card`: the model card of a run, the data card of a data set, in the hub's format.

stage.py     writes README.md; model_card and data_card return its text
collect.py   what a run's files and its data set say
compared.py  its paired tests and weak groups, as far as they are of its scores of today
sections.py  the same in words
front.py     the same as the hub's metadata
groups.py    which groups of images it does worst on
kinds.py     which kinds of statement were made at all, so that silence is not shown as agreement
usage.py     how to caption with it, per family
"""

from medblip.stages.card.stage import Carded, card, data_card, model_card

__all__ = ["Carded", "card", "data_card", "model_card"]

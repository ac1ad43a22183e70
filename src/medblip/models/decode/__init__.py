"""Captions from image tokens: the words of transformers' `generate`, several times faster.

    search.py    the loop over steps; graphs.py records steps on a GPU
      beams.py   beam search by transformers' rules   } choose the next tokens;
      draws.py   greedy and sampling                  } rules.py: penalties, bans, warpers
      rows.py    what a batch holds: ids, masks, caches; images that are done leave
      stack.py   what a decoder offers; blip.py and gpt2.py offer it, by transformers' own modules
    stock.py     transformers' `generate` behind the same call, for any other decoder

Legend: `B` images, `K` captions that are being written per image (beams or draws), `P` image
tokens, `H` heads, `V` words, `T` new tokens, `S` slots of the self-attention cache.

transformers copies the image tokens to B * K rows, projects them again for each copy, and copies
keys and values of all rows at every token, because a beam may go on from another one's past. Here
the keys and values of an image are made once and seen by all its beams: beams are further queries
of the same image. The past is never moved: each token has a slot of its own, and a mask says from
which slots a beam descends.
"""

from medblip.models.decode.choice import Hypothesis, Special
from medblip.models.decode.search import Search, Searches
from medblip.models.decode.stack import Stack

__all__ = ["Hypothesis", "Search", "Searches", "Special", "Stack"]

"""From image tokens to captions: the loop over steps, and the buffers that it works in."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import partial

import torch

from medblip.config import DecodeConfig
from medblip.errors import ConfigError, explain
from medblip.models.decode.beams import Beams
from medblip.models.decode.choice import Choice, Hypothesis, Special
from medblip.models.decode.draws import Draws
from medblip.models.decode.graphs import Replays
from medblip.models.decode.rows import Rows
from medblip.models.decode.stack import Stack

__all__ = ["Search", "Searches"]


class Search:
    """Buffers for a batch of some size, and the search in them.

    Args:
        stack: The decoder.
        decode: How.
        special: End and padding.
        room: Images at most.
        image_tokens: Per image.
        prompt: Tokens of the longest prompt, start token included.
        like: A tensor with the device and type of keys and values.

    Raises:
        ConfigError: More tokens are asked for than the decoder has positions.
    """

    def __init__(
        self, stack: Stack, decode: DecodeConfig, special: Special, *, room: int,
        image_tokens: int, prompt: int, like: torch.Tensor,
    ) -> None:  # fmt: skip
        if prompt + decode.max_new_tokens > stack.longest:
            raise ConfigError(
                explain(
                    "captions longer than the decoder can write",
                    got=f"decode.max_new_tokens = {decode.max_new_tokens} after {prompt} of start "
                    "token and prompt",
                    expected=f"at most {stack.longest} together",
                    do=f"--set decode.max_new_tokens={stack.longest - prompt}",
                )
            )
        many = decode.num_captions if decode.sample else decode.num_beams
        self.room = room
        self._decode, self._special = decode, special
        self._rows = Rows(stack, room, many, image_tokens, prompt, decode.max_new_tokens, like)
        way = Beams if decode.num_beams > 1 else Draws
        self._choice: Choice = way(self._rows, decode, special)
        self._replays = Replays(like.device)
        # to look whether images are done is to wait for a GPU, and costs nothing on a CPU; what is
        # recorded is recorded for few numbers of images
        on_gpu = like.device.type == "cuda"
        self._rhythm, self._grain = (8, max(1, room // 4)) if on_gpu else (1, 1)

    def run(
        self, embeds: torch.Tensor, prompts: Sequence[Sequence[int]], keys: Sequence[str]
    ) -> list[list[Hypothesis]]:
        """Return the captions of images (B, P, D), best first; B is at most the room."""
        rows, choice = self._rows, self._choice
        head = rows.stack.head()
        rows.fill(embeds, prompts, self._special.pad)
        choice.reset(keys)
        found: list[list[Hypothesis]] = [[] for _ in prompts]
        most = self._decode.max_new_tokens
        for step in range(most):
            if step:
                key = (step, rows.n, rows.ragged)  # all that decides shapes and masks
                self._replays.run(key, partial(self._advance, step, head))
            else:
                choice.take(_logits(head, rows.begin()), 0)
            if step + 1 == most or (step + 1) % self._rhythm == 0:
                self._collect(found, last=step + 1 == most)
                if not rows.n:
                    break
        return found

    def _advance(self, step: int, head: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """Run the newest words, choose the next ones."""
        self._choice.take(_logits(head, self._rows.states(step - 1)), step)

    def _collect(self, found: list[list[Hypothesis]], *, last: bool) -> None:
        """Let images that are done leave; a few stay where that keeps their number a round one."""
        rows = self._rows
        done = self._choice.done() | last
        going = rows.n - int(done.sum())
        keep = min(rows.n, -(-going // self._grain) * self._grain)
        leave = done & (done.cumsum(0) <= rows.n - keep)
        for row in leave.nonzero()[:, 0].tolist():
            found[int(rows.index[row])] = self._choice.result(row)
        if keep < rows.n:
            rows.remove(leave)


class Searches:
    """Makes searches; on a GPU the last one is kept, with what it has recorded.

    Args:
        special: End and padding.
    """

    def __init__(self, special: Special) -> None:
        self._special = special
        self._kept: tuple[Hashable, Search] | None = None

    def get(
        self, stack: Stack, weights: Iterable[torch.Tensor], decode: DecodeConfig,
        embeds: torch.Tensor, prompts: Sequence[Sequence[int]],
    ) -> Search:  # fmt: skip
        """Return a search with room for these images (B, P, D) and prompts.

        Args:
            stack: The decoder.
            weights: Its own: what is recorded reads them where they were.
            decode: How.
            embeds: Image tokens as the decoder sees them.
            prompts: Ids that the captions begin with.
        """
        prompt, (room, tokens) = max(map(len, prompts)), embeds.shape[:2]
        like = stack.keys_values(embeds[:1, :1], 0)[0]
        keep = like.is_cuda and not torch.is_autocast_enabled("cuda")
        places = tuple(weight.data_ptr() for weight in weights) if keep else ()
        key = (decode, tokens, prompt, like.dtype, places)
        if keep and self._kept and self._kept[0] == key and room <= self._kept[1].room:
            return self._kept[1]
        self._kept = None  # before the new one takes its memory
        search = Search(
            stack, decode, self._special, room=room, image_tokens=tokens, prompt=prompt, like=like
        )
        self._kept = (key, search) if keep else None
        return search


def _logits(head: Callable[[torch.Tensor], torch.Tensor], states: torch.Tensor) -> torch.Tensor:
    """Return float32 logits (n, K, V) of states (n, K, D)."""
    return head(states.flatten(0, 1)).float().view(*states.shape[:2], -1)

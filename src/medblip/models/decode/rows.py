"""What a batch holds while it is decoded, and how images that are done leave it.

All buffers are made once and written in place; the live images are their first `n` rows. When an
image is done the last live one moves into its place, so that a batch shrinks without being copied.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from medblip.models.decode.stack import Stack, attend

__all__ = ["Rows"]


class Rows:
    """Token ids, masks and caches of up to `room` images with `many` captions each.

    Args:
        stack: The decoder.
        room: Images at most.
        many: Captions that are written per image (K).
        image_tokens: P.
        prompt: Tokens of the longest prompt, start token included.
        new: New tokens at most (T).
        like: Gives device and type of keys and values.
    """

    def __init__(
        self, stack: Stack, room: int, many: int, image_tokens: int, prompt: int, new: int,
        like: torch.Tensor,
    ) -> None:  # fmt: skip
        self.stack, self.many, self.prompt, self.new = stack, many, prompt, new
        self.n = 0
        device, depth = like.device, stack.width // stack.heads
        slots = prompt + new * many

        def buffer(*shape: int, dtype: torch.dtype) -> torch.Tensor:
            return torch.zeros(room, *shape, dtype=dtype, device=device)

        def cache(slots: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
            """Keys and values per layer; nothing is read that was not written."""
            shape = (room, stack.heads, slots, depth)
            return [(like.new_empty(shape), like.new_empty(shape)) for _ in range(stack.layers)]

        self.index = buffer(dtype=torch.int64)
        self.ids = buffer(many, prompt + new, dtype=torch.int64)
        #: Of the tokens so far, which are no padding (before a short prompt).
        self.real = buffer(1, prompt + new, dtype=torch.bool)
        self.positions = buffer(dtype=torch.int64)
        self.logprobs = buffer(many, new, dtype=torch.float32)
        #: Which slots of the cache a caption descends from.
        self.seen = buffer(many, slots, dtype=torch.bool)
        self._images, self._past = cache(image_tokens), cache(slots)
        #: Whether prompts differ in length.
        self.ragged = False
        self._buffers = [
            self.index, self.ids, self.real, self.positions, self.logprobs, self.seen,
            *(one for pair in (*self._images, *self._past) for one in pair),
        ]  # fmt: skip

    def own(self, *buffers: torch.Tensor) -> None:
        """Let further tensors (room, ...) move with the images."""
        self._buffers += buffers

    def fill(self, embeds: torch.Tensor, prompts: Sequence[Sequence[int]], pad: int) -> None:
        """Take in images (B, P, D) and the ids that their captions begin with."""
        self.n = n = len(prompts)
        for layer, (keys, values) in enumerate(self._images):
            made = self.stack.keys_values(embeds, layer)
            keys[:n].copy_(made[0])
            values[:n].copy_(made[1])
        ids = torch.full((n, self.prompt), pad)
        real = torch.zeros(n, self.prompt + self.new, dtype=torch.bool)
        real[:, self.prompt :] = True
        for row, prompt in enumerate(prompts):  # on the left, so that all rows go on together
            ids[row, self.prompt - len(prompt) :] = torch.tensor(prompt)
            real[row, self.prompt - len(prompt) : self.prompt] = True
        self.ragged = not bool(real.all())
        self.index[:n].copy_(torch.arange(n))
        self.ids[:n, :, : self.prompt].copy_(ids[:, None])
        self.real[:n].copy_(real[:, None])
        self.positions[:n].copy_(torch.tensor([len(prompt) for prompt in prompts]))
        self.seen[:n].zero_()
        self.seen[:n, :, : self.prompt].copy_(real[:, None, : self.prompt])

    def begin(self) -> torch.Tensor:
        """Run the prompts; return the states (n, 1, D) that predict the first new token."""
        length = self.prompt
        real = self.real[: self.n, 0, :length]
        positions = (real.cumsum(1) - 1).clamp(min=0)
        mask = None
        if length > 1:
            causal = torch.ones(length, length, dtype=torch.bool, device=real.device).tril_()
            itself = torch.eye(length, dtype=torch.bool, device=real.device)
            mask = (causal & real[:, None]) | itself  # padding sees itself: no row is empty
            mask = mask[:, None]
        states = self._states(self.ids[: self.n, 0, :length], positions, 0, length, mask)
        return states[:, -1:]

    def go_on(
        self, step: int, parent: torch.Tensor, word: torch.Tensor, logprob: torch.Tensor
    ) -> None:
        """Continue caption `parent` of each image with a word; all (n, K).

        Args:
            step: New tokens before this one.
            parent: Which caption goes on, 0 to K - 1.
            word: Its next token.
            logprob: Of that token.
        """
        n, end = self.n, self.prompt + step
        if self.many > 1:
            slots = self.prompt + step * self.many
            for buffer, upto in ((self.ids, end), (self.logprobs, step), (self.seen, slots)):
                if upto:
                    chosen = buffer[:n, :, :upto].gather(1, parent[..., None].expand(-1, -1, upto))
                    buffer[:n, :, :upto].copy_(chosen)
        self.ids[:n, :, end].copy_(word)
        self.logprobs[:n, :, step].copy_(logprob)
        first = self.prompt + step * self.many
        self.seen[:n, :, first : first + self.many].copy_(
            torch.eye(self.many, dtype=torch.bool, device=word.device)
        )

    def states(self, step: int) -> torch.Tensor:
        """Run the words of one step; return states (n, K, D) that predict the next."""
        n, first = self.n, self.prompt + step * self.many
        used = first + self.many
        positions = (self.positions[:n] + step)[:, None].expand(-1, self.many)
        alone = self.many == 1 and not self.ragged
        mask = None if alone else self.seen[:n, None, :, :used]
        return self._states(self.ids[:n, :, self.prompt + step], positions, first, used, mask)

    def remove(self, done: torch.Tensor) -> None:
        """Forget the images where `done` (n,) is true; the order of the others may change."""
        left = self.n - int(done.sum())
        holes, movers = done[:left].nonzero()[:, 0], (~done[left:]).nonzero()[:, 0] + left
        for buffer in self._buffers if len(holes) else ():
            buffer[holes] = buffer[movers]
        self.n = left

    def _states(
        self, ids: torch.Tensor, positions: torch.Tensor, first: int, used: int,
        mask: torch.Tensor | None,
    ) -> torch.Tensor:  # fmt: skip
        n, scales = self.n, self.stack.scales

        def attend_self(
            layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
        ) -> torch.Tensor:
            keys, values = self._past[layer]
            keys[:n, :, first:used].copy_(key)
            values[:n, :, first:used].copy_(value)
            return attend(query, keys[:n, :, :used], values[:n, :, :used], scales[layer], mask)

        def attend_image(layer: int, query: torch.Tensor) -> torch.Tensor:
            keys, values = self._images[layer]
            return attend(query, keys[:n], values[:n], scales[layer])

        return self.stack.states(ids, positions, attend_self, attend_image)

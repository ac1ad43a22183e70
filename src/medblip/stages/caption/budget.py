"""What a remote captioner has used, and whether it may use more."""

from __future__ import annotations

from typing import Any

from medblip.errors import RunError, explain
from medblip.settings import RemoteConfig

__all__ = ["Budget"]


class Budget:
    """Tokens and cost so far, earlier calls included, against `remote.max_cost`."""

    def __init__(self, cfg: RemoteConfig) -> None:
        self._cfg = cfg
        self._tokens, self._calls, self._untold = [0, 0], 0, 0

    def add(self, tokens: list[int] | None) -> None:
        """Count an answer; one of no tokens was no call."""
        if tokens is None:
            self._untold += 1
        elif any(tokens):
            self._calls += 1
            self._tokens = [have + more for have, more in zip(self._tokens, tokens, strict=True)]

    @property
    def cost(self) -> float | None:
        """Of all tokens so far, or None without prices."""
        if self._cfg.price_in is None or self._cfg.price_out is None:
            return None
        sent, received = self._tokens
        return (sent * self._cfg.price_in + received * self._cfg.price_out) / 1e6

    def allows(self, flying: int, most: int) -> bool:
        """Whether another image may be asked for while so many are in flight.

        Near the ceiling, and before the cost of the first one is known, one goes alone.

        Raises:
            RunError: None may, and none is in flight whose cost is not known yet.
        """
        if self._cfg.max_cost is None:
            return flying < most
        if flying:
            return flying < most and self._calls > 0 and not self._exceeds(flying + 1)
        if self._untold:
            raise RunError(
                explain(
                    "the cost ceiling cannot be kept",
                    got="an answer that does not say how many tokens were used",
                    expected="usage in every answer, as long as remote.max_cost is set",
                    do="leave remote.max_cost out; the same command goes on",
                )
            )
        if self._exceeds(1):
            raise RunError(
                explain(
                    "the cost ceiling is reached",
                    got=f"{self.cost or 0:.6g} so far, {self._mean:.6g} per image",
                    expected=f"at most {self._cfg.max_cost:g} (remote.max_cost)",
                    do="repeat the command with a higher --set remote.max_cost: it goes on",
                )
            )
        return True

    @property
    def _mean(self) -> float:
        return (self.cost or 0.0) / max(1, self._calls)

    def _exceeds(self, more: int) -> bool:
        """Whether so many further images would probably cost too much."""
        ceiling = self._cfg.max_cost or 0.0
        return (self.cost or 0.0) + self._mean * more > ceiling or not ceiling

    def spent(self) -> str:
        """Return it in a few words."""
        sent, received = self._tokens
        cost = "" if self.cost is None else f", cost {self.cost:.4g}"
        return f"{sent} tokens sent, {received} received{cost}"

    def record(self) -> dict[str, Any]:
        """Return it for the record."""
        sent, received = self._tokens
        return {
            "tokens_in": sent,
            "tokens_out": received,
            "cost": None if self.cost is None else round(self.cost, 9),
            "answers_without_usage": self._untold,
        }

"""What makes a class of settings: typed, frozen, nothing unknown."""

from __future__ import annotations

from typing import Any, TypeVar, dataclass_transform

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass as pydantic_dataclass

__all__ = ["config"]

T = TypeVar("T")


@dataclass_transform(kw_only_default=True, frozen_default=True)
def config(cls: type[T]) -> type[T]:
    """Make a frozen, keyword-only dataclass that refuses unknown keys."""
    decorate: Any = pydantic_dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
    made: type[T] = decorate(cls)
    return made

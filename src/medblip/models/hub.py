"""The hub of models: whether it is there, and what a user reads when a captioner cannot be had."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from pathlib import Path

import torch

from medblip.errors import CheckpointError, explain
from medblip.progress import console

__all__ = ["look_for_hub", "not_loadable"]

#: Patience with the hub's first answer.
_HUB_S = 5.0


@functools.cache
def look_for_hub() -> None:
    """Ask the hub once whether it is there; if not, only what is on this machine is looked at.

    The hub's client would try each file five times, with growing pauses.
    """
    import huggingface_hub
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return
    try:
        huggingface_hub.get_session().head(constants.ENDPOINT, timeout=_HUB_S)
    except Exception as error:  # of whichever HTTP client this huggingface_hub stands on
        console().print(
            f"{constants.ENDPOINT} cannot be reached ({type(error).__name__}): only captioners on "
            "this machine can be used", markup=False, soft_wrap=True,
        )  # fmt: skip
        constants.HF_HUB_OFFLINE = True


def not_loadable(source: str, error: Exception, expected: str) -> CheckpointError:
    """Return what a user reads when transformers cannot load a folder or hub id."""
    if isinstance(error, CheckpointError):
        return error
    for part in _chain(error):
        if (said := _of_the_hub(source, part)) is not None:
            return CheckpointError(said)
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return CheckpointError(
            explain(
                f"{source} needs more memory than there is",
                got=str(error).partition("\n")[0] or type(error).__name__,
                expected="room for all weights",
                do="set model.weights=bf16, name a smaller captioner, or free memory",
            )
        )
    half = list(Path(source).rglob("*.incomplete")) if Path(source).is_dir() else []
    return CheckpointError(
        explain(
            f"{source} cannot be loaded",
            got=f"{type(error).__name__}: {str(error).partition(chr(10))[0]}",
            expected=f"config, model.safetensors, tokenizer and image processor of {expected}",
            do="download it again: a part is missing"
            if half
            else "check the folder, or copy it again",
        )
    )


def _of_the_hub(source: str, error: BaseException) -> str | None:
    """Return what to say where the hub (or the way to it) is the reason."""
    from huggingface_hub import constants, errors

    page = f"{constants.ENDPOINT}/{source}"
    held = "the token of HF_TOKEN" if os.environ.get("HF_TOKEN") else "no token in HF_TOKEN"
    if isinstance(error, errors.GatedRepoError):
        return explain(
            f"{source} is gated",
            got=held,
            expected="the token of an account that has accepted its terms",
            do=f"accept them on {page}, then set HF_TOKEN",
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return explain(
            f"{source} has no such revision",
            got="a revision that the hub does not know",
            expected="a commit, a tag or a branch of it",
            do=f"choose one from {page}/commits/main",
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return explain(
            f"{source} is not on the hub, or is private",
            got=held,
            expected="a hub id that this account may read",
            do="`medblip models` lists what has a name; for a private one set HF_TOKEN",
        )
    if isinstance(error, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled):
        return explain(
            f"{source} is not on this machine, and the hub cannot be reached",
            got="no whole copy in the hub's cache, no network (or HF_HUB_OFFLINE)",
            expected=f"{constants.ENDPOINT}, or a folder",
            do=f"run `hf download {source}` where there is internet, copy the folder, name it",
        )
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it was raised from."""
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        found = found.__cause__ or found.__context__

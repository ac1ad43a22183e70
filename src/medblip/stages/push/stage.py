"""What is pushed where: a run's captioner, card and scores; of a data set, its card alone."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from medblip.data.card import MARK
from medblip.errors import ConfigError, explain
from medblip.rundir import RunDir
from medblip.stages.card.stage import data_card, model_card
from medblip.stages.push.parcel import Item, captioner_files, text_item
from medblip.stages.push.scores import score_texts
from medblip.stages.push.upload import send

__all__ = ["Pushed", "push"]

#: One word or two with a slash; the hub's own rule is narrower and told by it.
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pushed:
    """What was, or would be, pushed.

    Args:
        repo_id: `owner/name`.
        kind: `model` or `dataset`.
        url: Its page; "" for a dry run.
        commit: On the hub; "" for a dry run.
        files: Path in the repository -> bytes.
        sent: The files that differed from what was there, and so were sent.
        deleted: Of an earlier push, no longer part of it.
        card: The text of README.md.
    """

    repo_id: str
    kind: str
    url: str
    commit: str
    files: dict[str, int]
    sent: list[str]
    deleted: list[str]
    card: str


def push(
    source: Path | str,
    repo_id: str,
    *,
    data: Path | str | None = None,
    split: str | None = None,
    comparison: Path | str | None = None,
    licence: str | None = None,
    private: bool = True,
    revision: str | None = None,
    dry_run: bool = False,
    force: bool = False,
) -> Pushed:
    """Publish a run's captioner with its card and scores; of a data set the card, never an image.

    The access token is that of HF_TOKEN or of the hub's login. What is there already is not sent
    again, so a push that broke off is repeated by the same call.

    Args:
        source: Run directory of a finished training, or prepared data set.
        repo_id: `owner/name` on the hub (`HF_ENDPOINT`); made if it is not there.
        data: Where the run's data set is now, for the card; None: where it was.
        split: Whose scores the card shows; None: the first of test, validation, train that has any.
        comparison: JSON file of `compare`, for the card; None: that of the run's study, else
            `comparison.json` beside the run.
        licence: Of the weights, as the hub names licences; None: the base model's.
        private: Make a private repository, and refuse one that is public.
        revision: Branch.
        dry_run: Return what would be pushed; nobody is asked.
        force: Put the files into a repository that medblip has not filled.

    Raises:
        RunError: The run has not finished, or is none.
        CheckpointError: The checkpoint is not whole, or holds what could run code.
        HubError: No token, no answer, or the hub refuses.
        ConfigError: `repo_id` or `licence` is no such name.
        DataError: `source` is a damaged data set.
    """
    if not _NAME.fullmatch(repo_id):
        raise ConfigError(
            explain(
                "not a name for a repository",
                got=repo_id,
                expected="owner/name: letters, digits, -, _ and .",
                do="put your account or organisation before the slash",
            )
        )
    root = Path(source)
    if (root / "manifest.jsonl").exists():
        kind, card = "dataset", data_card(root)
        items: list[Item] = []
    else:
        kind, run = "model", RunDir(root)
        items = captioner_files(run)
        items += [text_item(path, text) for path, text in score_texts(run).items()]
        card = model_card(run.path, name=repo_id, data=data, split=split, comparison=comparison,
                          licence=licence)  # fmt: skip
    items.append(text_item("README.md", card))
    items.sort(key=lambda item: item.path)
    files = {item.path: item.size for item in items}
    if dry_run:
        return Pushed(repo_id=repo_id, kind=kind, url="", commit="", files=files, sent=[],
                      deleted=[], card=card)  # fmt: skip
    done = send(repo_id, items, kind=kind, private=private, revision=revision, mark=MARK,
                force=force)  # fmt: skip
    return Pushed(repo_id=repo_id, kind=kind, url=done.url, commit=done.commit, files=files,
                  sent=done.sent, deleted=done.deleted, card=card)  # fmt: skip

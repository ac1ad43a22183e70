"""One commit on the hub: who we are, what is there already, only what differs is sent."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from medblip.data.hub_http import within
from medblip.errors import HubError, explain
from medblip.stages.push.parcel import Item
from medblip.stages.push.refusal import refusals_told

__all__ = ["Sent", "send"]

#: For a first answer, and for each piece of a later one.
PATIENCE_S = 60.0
#: What an earlier push may have left that this one has not: half of it would be loaded.
_STALE = re.compile(r"[\w-]+\.safetensors(\.index\.json)?|scores/\w+\.json")
#: What a new repository holds.
_FRESH = {".gitattributes", "README.md"}


@dataclasses.dataclass(frozen=True)
class Sent:
    """What was done: the commit, what was sent, what was there already, what was deleted."""

    commit: str
    url: str
    sent: list[str]
    deleted: list[str]


def send(
    name: str,
    items: Sequence[Item],
    *,
    kind: str,
    private: bool,
    revision: str | None,
    mark: str,
    force: bool,
) -> Sent:
    """Make the repository if it is not there, and commit what differs.

    Args:
        name: `owner/name`.
        items: All files of the repository that are ours.
        kind: `model` or `dataset`.
        private: Whether a new repository is private, and an old one has to be.
        revision: Branch; made if it is not there. None: the default one.
        mark: A README without this text is somebody's.
        force: Replace what medblip has not written, too.

    Raises:
        HubError: There is no token, the hub refuses or does not answer, or the repository holds
            what medblip has not written.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants, errors

    token, whose = _token()
    endpoint = constants.ENDPOINT
    with refusals_told(name, endpoint, token, whose), _patience(PATIENCE_S):
        api = HfApi(endpoint=endpoint, token=token)
        _may_write(within(PATIENCE_S, api.whoami), whose)
        try:
            info = api.repo_info(name, repo_type=kind)
        except errors.RepositoryNotFoundError:
            api.create_repo(name, private=private, repo_type=kind, exist_ok=True)
            info = api.repo_info(name, repo_type=kind)
        if private and not info.private:
            raise HubError(
                explain(
                    f"{name} is public",
                    got="a repository that everybody can read",
                    expected="a private one, unless you say otherwise",
                    do="add --public, or make it private in its settings",
                )
            )
        if revision is not None:
            api.create_branch(name, branch=revision, repo_type=kind, exist_ok=True)
        there = _tree(api, name, kind, revision)
        if not force:
            _refuse_foreign(api, name, kind, revision, set(there), mark)
        changed = [item for item in items if there.get(item.path) not in item.digests()]
        stale = sorted(set(there) - {i.path for i in items}) if kind == "model" else []
        stale = [path for path in stale if _STALE.fullmatch(path)]
        commit = str(api.repo_info(name, repo_type=kind, revision=revision).sha)
        if changed or stale:
            add = [CommitOperationAdd(path_in_repo=item.path, path_or_fileobj=item.content)
                   for item in changed]  # fmt: skip
            remove = [CommitOperationDelete(path_in_repo=path) for path in stale]
            done = api.create_commit(
                name, [*add, *remove], commit_message="Push from medblip", repo_type=kind,
                revision=revision,
            )  # fmt: skip
            commit = str(done.oid)
    folder = "datasets/" if kind == "dataset" else ""
    return Sent(commit, f"{endpoint}/{folder}{name}", [item.path for item in changed], stale)


def _token() -> tuple[str, str]:
    """Return the access token and where it is from, in words.

    Raises:
        HubError: There is none, the hub is not to be asked, or it is not a token.
    """
    from huggingface_hub import constants, get_token

    if constants.HF_HUB_OFFLINE:
        raise HubError(
            explain(
                "the hub is not asked: this machine is set to work offline",
                got="HF_HUB_OFFLINE",
                expected="a machine that may reach the hub",
                do="unset HF_HUB_OFFLINE and TRANSFORMERS_OFFLINE; or see --dry-run",
            )
        )
    token = get_token()
    whose = "the token of HF_TOKEN" if os.environ.get("HF_TOKEN") else "the hub's login"
    if token is None or not all("!" <= letter <= "~" for letter in token):
        raise HubError(
            explain(
                "no access token",
                got="HF_TOKEN is not set, and nobody is logged in" if token is None
                else f"{whose}, a text with spaces or special letters",
                expected="a token with write access",
                do=f"make one on {constants.ENDPOINT}/settings/tokens, then set HF_TOKEN or run "
                "`hf auth login`",
            )
        )  # fmt: skip
    return token, whose


def _may_write(who: dict[str, Any], whose: str) -> None:
    """Refuse a token that says itself that it only reads, before anything is made."""
    role = ((who.get("auth") or {}).get("accessToken") or {}).get("role")
    if role == "read":
        raise HubError(
            explain(
                "the token may not write",
                got=f"{whose}, of {who.get('name')}: role read",
                expected="role write, or fine-grained with write access to the repository",
                do="make another token, then set HF_TOKEN or run `hf auth login`",
            )
        )


def _tree(api: Any, name: str, kind: str, revision: str | None) -> dict[str, str]:
    """Return path -> SHA-256 of a large file, SHA-1 of git for a small one."""
    entries = api.list_repo_tree(name, recursive=True, repo_type=kind, revision=revision)
    return {
        entry.path: entry.lfs.sha256 if entry.lfs else entry.blob_id
        for entry in entries
        if hasattr(entry, "blob_id")
    }


def _refuse_foreign(
    api: Any, name: str, kind: str, revision: str | None, there: set[str], mark: str
) -> None:
    """Refuse a repository that somebody has filled otherwise.

    Raises:
        HubError: It has a README that is no card of ours, or other files and no medblip.json.
    """
    other = sorted(there - _FRESH)
    found = f"{other[0]}, and no medblip.json" if other else ""
    if kind == "dataset" or "medblip.json" in there:
        found = ""
    if "README.md" in there and not found:
        with tempfile.TemporaryDirectory() as folder:
            file = api.hf_hub_download(
                name, "README.md", repo_type=kind, revision=revision, local_dir=folder
            )
            ours = mark in Path(file).read_text(encoding="utf-8", errors="replace")
        found = "" if ours else "a README that medblip did not write"
    if found:
        raise HubError(
            explain(
                f"{name} holds something else",
                got=found,
                expected="a new repository, or one that `medblip push` has filled",
                do="choose another name, or add --force to put these files there",
            )
        )


@contextlib.contextmanager
def _patience(seconds: float) -> Iterator[None]:
    """Bound the wait for the next byte, and send large files by the LFS protocol.

    The hub's client has no time limit of its own. Its other way for large files, Xet, was still
    trying after 200 s, without a word, at a hub that does not speak it.
    """
    from huggingface_hub import constants, get_session

    session: Any = get_session()
    before = session.timeout, constants.HF_HUB_DISABLE_XET
    session.timeout, constants.HF_HUB_DISABLE_XET = seconds, True
    try:
        yield
    finally:
        session.timeout, constants.HF_HUB_DISABLE_XET = before

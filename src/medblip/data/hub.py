"""Data sets of the Hugging Face hub: what they hold, and a local folder of them.

The folder is a snapshot in the hub's own cache and is read like any other; nothing here knows what
a row is. Nothing that a data set brings along is run: its scripts are not even downloaded.
"""

from __future__ import annotations

import dataclasses
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from medblip.data.hub_http import Unreachable, download, explained, progress_bar, token, within
from medblip.data.readers.names import IMAGE_SUFFIXES
from medblip.data.readers.parquet import arrow
from medblip.errors import DataError, explain
from medblip.files import explain_os_errors, lock
from medblip.progress import console

__all__ = ["HubPlan", "HubSource", "fetch", "is_hub", "plan"]

#: A hub that has not answered by then is unreachable.
PROBE_S = 3.0
#: For the list of files, a thousand per page.
LIST_S = 120.0
#: Larger files go on after a kill; smaller ones are left to the hub's own client, eight at a time.
BIG_BYTES = 16_000_000
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_USABLE = (
    ".parquet", ".csv", ".tsv", ".jsonl", ".json", ".txt", ".caption", ".zip", ".tar", ".tar.gz",
    ".tgz", ".dcm", *sorted(IMAGE_SUFFIXES), *(s.upper() for s in sorted(IMAGE_SUFFIXES)),
)  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class HubPlan:
    """What a download would be.

    Args:
        name: `hf:owner/name`.
        commit: That the revision means now.
        files: That a reader can use.
        size_bytes: Of these files.
        missing_bytes: Of those that are not in the cache yet.
    """

    name: str
    commit: str
    files: tuple[str, ...]
    size_bytes: int
    missing_bytes: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class HubSource:
    """A data set of the hub on this machine: its folder, `hf:owner/name`, and its commit."""

    folder: Path
    name: str
    commit: str


def is_hub(source: str) -> bool:
    """Whether a source names a data set of the hub.

    >>> is_hub("hf:eltorio/ROCOv2-radiology"), is_hub("hf://datasets/a/b@main"), is_hub("data/x")
    (True, True, False)
    """
    return source.startswith("hf:")


def plan(source: str, *, revision: str | None = None) -> HubPlan:
    """Say what `fetch` would download; without the hub, what is in the cache.

    Raises:
        DataError: As `fetch`.
    """
    repo = _parse(source, revision)
    try:
        return _look(repo).plan
    except Unreachable as reason:
        folder = _cached(repo, str(reason))
    names = list(_names(folder))
    wanted = _wanted(names)
    files = {path: (folder / path).stat().st_size for path in names if path.endswith(wanted)}
    return HubPlan(
        name=repo.label, commit=folder.name, files=tuple(files),
        size_bytes=sum(files.values()), missing_bytes=0,
    )  # fmt: skip


def fetch(source: str, *, revision: str | None = None) -> HubSource:
    """Download a data set, or what is missing of it, and return where it is.

    Of a set with Parquet files nothing else is downloaded. An access token is read from the
    environment (HF_TOKEN), from nowhere else. HF_HUB_OFFLINE, HF_ENDPOINT and HF_HOME mean what
    they mean everywhere.

    Args:
        source: `hf:owner/name`, `hf://datasets/owner/name`, either with `@revision`.
        revision: Commit, tag or branch; default: the newest commit.

    Raises:
        DataError: It is not there, not accessible or holds nothing readable; the hub cannot be
            reached (within 5 s) and the cache has no whole copy; the download broke off.
        RunError: The disk is full, or another process is downloading the same data set.
    """
    repo = _parse(source, revision)
    try:
        listing = _look(repo)
    except Unreachable as reason:
        folder = _cached(repo, str(reason))
        _say(f"{reason}: using the copy of {repo.label} in the cache, commit {folder.name[:12]}")
        return HubSource(folder=folder, name=repo.label, commit=folder.name)
    what = listing.plan
    if _wanted(what.files) != _USABLE:
        arrow()  # said before the download, not after it
    _say(
        f"{repo.label}, commit {what.commit[:12]}: {len(what.files)} files, "
        f"{what.size_bytes / 1e6:,.1f} MB, of which {what.missing_bytes / 1e6:,.1f} MB to download"
    )
    _require_space(repo.cache, what.missing_bytes)
    try:
        with explain_os_errors(repo.cache), explained(repo.name):
            _download_big(repo, listing)
            folder = Path(_snapshot(repo, _patterns(what.files)))
    except Unreachable as reason:
        raise DataError(
            explain(
                f"{repo.label}: the download broke off",
                got=reason,
                expected="a connection that lasts, with pauses",
                do="run the same command again: it goes on where it stopped",
            )
        ) from None
    if folder.name != what.commit:
        raise DataError(
            explain(
                f"{repo.label} was changed on the hub during the download",
                got=f"commit {folder.name[:12]}",
                expected=f"commit {what.commit[:12]}",
                do=f"run again, or hold on to one with --revision {what.commit[:12]}",
            )
        )
    return HubSource(folder=folder, name=repo.label, commit=what.commit)


@dataclasses.dataclass(frozen=True)
class _Repo:
    name: str
    revision: str

    @property
    def label(self) -> str:
        return f"hf:{self.name}"

    @property
    def cache(self) -> Path:
        """Its folder in the hub's cache, whose layout (blobs, refs, snapshots) is documented."""
        from huggingface_hub import constants

        return Path(constants.HF_HUB_CACHE) / f"datasets--{self.name.replace('/', '--')}"


@dataclasses.dataclass(frozen=True)
class _Listing:
    """A plan, and its files that are neither in the cache nor small: path, size, checksum."""

    plan: HubPlan
    big: tuple[tuple[str, int, str], ...]


def _parse(source: str, revision: str | None) -> _Repo:
    rest = re.sub("^hf:(//)?", "", source)
    name, at, told = rest.removeprefix("datasets/").partition("@")
    wrong = not _NAME.fullmatch(name) or (at and not told) or "--" in name or ".." in name
    if wrong or (source.startswith("hf://") and not rest.startswith("datasets/")):
        raise DataError(
            explain(
                "not a data set of the Hugging Face hub",
                got=source,
                expected="hf:owner/name or hf://datasets/owner/name, maybe with @revision",
                do="copy the name from the data set's page",
            )
        )
    if told and revision and told != revision:
        raise DataError(
            explain(
                f"{source}: two revisions",
                got=f"@{told} and --revision {revision}",
                expected="one of them",
                do="leave one out",
            )
        )
    return _Repo(name, told or revision or "main")


def _look(repo: _Repo) -> _Listing:
    """Ask the hub what the revision means and holds."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.hf_api import RepoFile

    if constants.HF_HUB_OFFLINE:
        raise Unreachable("HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set")
    api = HfApi(token=token() or False)
    with explained(repo.name):
        info = within(
            PROBE_S,
            lambda: api.dataset_info(
                repo.name, revision=repo.revision, expand=["sha"], timeout=PROBE_S
            ),
        )
        commit = info.sha
        if not commit:
            raise Unreachable("the answer names no commit")
        tree = within(
            LIST_S,
            lambda: list(
                api.list_repo_tree(repo.name, repo_type="dataset", revision=commit, recursive=True)
            ),
        )
    files = {entry.path: entry for entry in tree if isinstance(entry, RepoFile)}
    wanted = _wanted(files)
    chosen = {path: files[path] for path in sorted(files) if path.endswith(wanted)}
    if not chosen:
        raise DataError(_nothing_readable(repo, list(files)))
    big, missing = [], 0
    for path, entry in chosen.items():
        checksum = entry.lfs.sha256 if entry.lfs else entry.blob_id
        if not re.fullmatch("[0-9a-f]{40,64}", checksum):  # it becomes a file name
            raise Unreachable("the answer has no checksums")
        at = repo.cache / "snapshots" / commit / path
        if at.is_file() or (repo.cache / "blobs" / checksum).is_file():
            continue
        missing += entry.size
        if entry.size >= BIG_BYTES:
            big.append((path, entry.size, checksum))
    total = sum(entry.size for entry in chosen.values())
    return _Listing(
        HubPlan(
            name=repo.label, commit=commit, files=tuple(chosen),
            size_bytes=total, missing_bytes=missing,
        ),
        tuple(big),
    )  # fmt: skip


def _wanted(names: Iterable[str]) -> tuple[str, ...]:
    """Return the endings of the names that are worth having.

    `metadata.parquet` describes image files beside it, as in `datasets`' image folders.
    """
    tables = any(n.endswith(".parquet") and Path(n).name != "metadata.parquet" for n in names)
    return (".parquet",) if tables else _USABLE


def _patterns(names: Iterable[str]) -> list[str]:
    return [f"*{ending}" for ending in _wanted(names)]


def _nothing_readable(repo: _Repo, names: list[str]) -> str:
    scripted = any(name.endswith(".py") for name in names)
    return explain(
        f"{repo.label} holds nothing that medblip reads",
        got=", ".join(sorted(names)[:6]) or "no files",
        expected="Parquet files, a table, images or archives",
        do=f"try {repo.label}@refs/convert/parquet; a data set's script is never run"
        if scripted
        else "choose another data set or another revision",
    )


def _cached(repo: _Repo, reason: str) -> Path:
    """Return the snapshot in the cache, if it is whole."""
    from huggingface_hub import constants
    from huggingface_hub.errors import LocalEntryNotFoundError

    got = reason
    try:
        folder = Path(_snapshot(repo, [], local_files_only=True))
        names = list(_names(folder))
        _snapshot(repo, _patterns(names), local_files_only=True)
        wanted = _wanted(names)
        if any(name.endswith(wanted) for name in names):
            return folder
    except LocalEntryNotFoundError as error:
        if hasattr(error, "snapshot_path"):
            got += "; the copy in the cache is not complete"
    raise DataError(
        explain(
            f"{repo.label}: the Hugging Face hub cannot be reached",
            got=got,
            expected=f"an answer of {constants.ENDPOINT}, or a whole copy of revision "
            f"{repo.revision} in {constants.HF_HUB_CACHE}",
            do="unset it to download the data set"
            if constants.HF_HUB_OFFLINE
            else "check the network, the proxy and HF_ENDPOINT, or download it on another machine "
            "and copy HF_HOME",
        )
    )


def _names(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path.relative_to(folder).as_posix()


def _download_big(repo: _Repo, listing: _Listing) -> None:
    """Put large files where the hub's client looks for them; it then only links them."""
    from huggingface_hub import hf_hub_url

    if not listing.big:
        return
    blobs, torsos = repo.cache / "blobs", repo.cache / "medblip.partial"
    blobs.mkdir(parents=True, exist_ok=True)
    with lock(torsos), progress_bar(sum(size for _, size, _ in listing.big)) as bar:
        for path, size, checksum in listing.big:
            if (blobs / checksum).exists():  # two files with one content
                continue
            url = hf_hub_url(repo.name, path, repo_type="dataset", revision=listing.plan.commit)
            torso = torsos / checksum
            download(url, blobs / checksum, torso, size=size, checksum=checksum, advance=bar.update)


def _require_space(folder: Path, n_bytes: int) -> None:
    existing = next(path for path in [folder, *folder.absolute().parents] if path.exists())
    free = shutil.disk_usage(existing).free
    if free < n_bytes:
        raise DataError(
            explain(
                "not enough disk space for the download",
                got=f"{free / 1e6:,.0f} MB free on the disk of {folder.parent}",
                expected=f"at least {n_bytes / 1e6:,.0f} MB",
                do="free some space, or set HF_HOME to a folder on a larger disk",
            )
        )


def _say(line: str) -> None:
    console().print(line, markup=False, highlight=False, soft_wrap=True)


def _snapshot(repo: _Repo, patterns: list[str], *, local_files_only: bool = False) -> str:
    from huggingface_hub import snapshot_download

    return snapshot_download(
        repo.name,
        repo_type="dataset",
        revision=repo.revision,
        allow_patterns=patterns,
        local_files_only=local_files_only,
        token=token() or False,
    )

"""Data sets of the hub, against a server on loopback that speaks its protocol.

huggingface_hub reads its environment when it is imported: every fetch here is a process of its own.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from medblip.data import hub as client
from medblip.data import hub_http
from medblip.data.raw import ReadOptions
from medblip.data.readers import parquet
from medblip.errors import DataError


def load_server() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "hub_server.py"
    spec = importlib.util.spec_from_file_location("hub_server", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["hub_server"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


hub_server = load_server()
IMPATIENT = "from medblip.data import hub_http; hub_http.PAUSE_S = 0.05"
NAME = "eltorio/ROCOv2-radiology"
BIG = "data/train-00000-of-00001.parquet"
FETCH = """
import json, sys, time
from pathlib import Path
prelude, call, source, revision = sys.argv[1:]
exec(prelude)
from medblip.data import hub
from medblip.errors import MedblipError
began = time.monotonic()
try:
    found = getattr(hub, call)(source, revision=revision or None)
    report = {name: str(value) if isinstance(value, Path) else value
              for name, value in vars(found).items()}
except MedblipError as error:
    report = {"error": str(error), "kind": type(error).__name__}
print(json.dumps(report | {"seconds": time.monotonic() - began}))
"""


@pytest.fixture
def hub() -> Iterator[Any]:
    with hub_server.running() as server:
        yield server


def begin(
    hub: Any,
    home: Path,
    source: str = f"hf:{NAME}",
    *,
    call: str = "fetch",
    revision: str = "",
    prelude: str = "",
    **environment: str,
) -> subprocess.Popen[str]:
    environment = os.environ | hub.environment(home) | environment
    command = [sys.executable, "-c", FETCH, prelude, call, source, revision]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True)


def end(process: subprocess.Popen[str]) -> Any:
    """Return what the process reported; `said` is its standard error."""
    out, said = process.communicate(timeout=60)
    assert out, said
    return json.loads(out.splitlines()[-1]) | {"said": said, "out": out}


def fetch(hub: Any, home: Path, source: str = f"hf:{NAME}", **options: str) -> Any:
    return end(begin(hub, home, source, **options))


def noise(size: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).bytes(size)


def published(names: list[str]) -> tuple[bytes, dict[str, bytes]]:
    """Return a Parquet file as the hub's data sets have, and the images in it."""
    images = {}
    for index, name in enumerate(names):
        file = io.BytesIO()
        pixels = np.random.default_rng(index).integers(0, 255, (24, 24), dtype=np.uint8)
        Image.fromarray(pixels).save(file, "JPEG")
        images[name] = file.getvalue()
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    cells = [{"bytes": data, "path": f"{name}.jpg"} for name, data in images.items()]
    table = {
        "image": pa.array(cells, type=kind),
        "image_id": names,
        "caption": [f"caption {name}" for name in names],
        "cui": [["C0040405"]] * len(names),
    }
    target = io.BytesIO()
    pq.write_table(pa.table(table), target, row_group_size=100)
    return target.getvalue(), images


def test_names() -> None:
    for source in ("hf:a/b", "hf:datasets/a/b", "hf://datasets/a/b"):
        assert client.is_hub(source)
        assert client._parse(source, None) == client._Repo("a/b", "main")
        assert client._parse(f"{source}@refs/convert/parquet", None).revision[:5] == "refs/"
        assert client._parse(source, "v1").revision == "v1"
    assert not client.is_hub("data/hf")
    assert not client.is_hub("./hf:a/b")
    for wrong in (
        "hf:a",
        "hf:a/b@",
        "hf://a/b",
        "hf://models/a/b",
        "hf:../b",
        "hf:a/b/c",
        "hf:a/é",
    ):
        with pytest.raises(DataError, match="not a data set of the Hugging Face hub"):
            client._parse(wrong, None)
    with pytest.raises(DataError, match="two revisions"):
        client._parse("hf:a/b@v1", "v2")


def test_from_the_hub_to_rows(hub: Any, tmp_path: Path) -> None:
    """Listing by pages, resolving, only what is read, the same bytes; the second time nothing."""
    files, images = {}, {}
    for split, count in (("train", 3), ("validation", 1), ("test", 1)):
        for shard in range(count):
            path = f"data/{split}-{shard:05d}-of-{count:05d}.parquet"
            files[path], more = published([f"{split}_{shard}_{n}" for n in range(9)])
            images |= more
    extra = {"README.md": b"# card", "ROCOv2.py": b"raise SystemExit", "other/notes.csv": b"a,b\n"}
    commit = hub.commit(NAME, files | extra)
    hub.page = 3
    planned = fetch(hub, tmp_path, call="plan")
    assert planned["name"] == f"hf:{NAME}"
    assert planned["commit"] == commit
    assert planned["files"] == sorted(files)
    total = sum(map(len, files.values()))
    assert (planned["size_bytes"], planned["missing_bytes"]) == (total, total)
    assert len(hub.asked("/tree/")) == 4
    assert hub.asked("/resolve/") == []

    got = fetch(hub, tmp_path, f"hf://datasets/{NAME}")
    assert (got["name"], got["commit"]) == (f"hf:{NAME}", commit)
    assert (
        f"5 files, {total / 1e6:,.1f} MB, of which {total / 1e6:,.1f} MB to download" in got["said"]
    )
    folder = Path(got["folder"])
    assert sorted(p.name for p in folder.rglob("*") if p.is_file()) == sorted(
        Path(path).name for path in files
    )
    rows = list(parquet.read(folder, ReadOptions()))
    assert {row.id: row.image.open()[1] for row in rows} == images
    assert all(row.split == row.id.split("_")[0] for row in rows)
    assert {row.concepts for row in rows} == {("C0040405",)}

    hub.requests.clear()
    again = fetch(hub, tmp_path)
    assert again["folder"] == got["folder"]
    assert "of which 0.0 MB to download" in again["said"]
    assert [r for r in hub.requests if "/api/" not in r.path] == []


def test_a_broken_connection_goes_on(hub: Any, tmp_path: Path) -> None:
    """Three connections for one large file; the token stays with the hub."""
    data = noise(20_000_000)
    hub.commit(NAME, {BIG: data})
    hub.cuts[BIG] = [5_500_000, 7_000_000]
    hub.tokens.add("hf_secret")
    got = fetch(hub, tmp_path, prelude=IMPATIENT, HF_TOKEN="hf_secret")
    assert Path(got["folder"], BIG).read_bytes() == data
    ranges = [request.headers.get("range") for request in hub.asked(BIG) if request.server == "cdn"]
    piece = hub_http.PIECE_BYTES
    first = 5_500_000 // piece * piece
    second = first + 7_000_000 // piece * piece
    assert ranges == [None, f"bytes={first}-", f"bytes={second}-"]
    tokens = {(r.server, r.headers.get("authorization")) for r in hub.requests}
    assert tokens == {("hub", "Bearer hf_secret"), ("cdn", None)}
    assert "hf_secret" not in got["said"] + got["out"]


def test_a_killed_download_goes_on(hub: Any, tmp_path: Path) -> None:
    data = noise(20_000_000, seed=1)
    hub.commit(NAME, {BIG: data, "data/test-00000-of-00001.parquet": noise(50_000)})
    hub.bytes_per_s = 8e6
    process = begin(hub, tmp_path)
    repo = tmp_path / "hub" / f"datasets--{NAME.replace('/', '--')}"
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        torsos = [p for p in (repo / "medblip.partial").glob("*") if p.name != "LOCK"]
        if torsos and torsos[0].stat().st_size > 4_000_000:
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    have = torsos[0].stat().st_size
    assert 4_000_000 < have < len(data)
    hub.bytes_per_s = None
    hub.requests.clear()
    got = fetch(hub, tmp_path)
    (request,) = (r for r in hub.asked(BIG) if r.server == "cdn")
    assert request.headers["range"] == f"bytes={have}-"
    assert Path(got["folder"], BIG).read_bytes() == data
    assert [p for p in repo.rglob("*") if "partial" in p.name or "incomplete" in p.name] in (
        [], [repo / "medblip.partial"],
    )  # fmt: skip
    assert list((repo / "medblip.partial").glob("*")) == []


def test_files_in_xet_storage_come_by_http(hub: Any, tmp_path: Path) -> None:
    """As most data sets are stored today; the hub's client links what it finds."""
    data = noise(17_000_000)
    hub.commit(NAME, {BIG: data})
    hub.xet = True
    got = fetch(hub, tmp_path, HF_HUB_DISABLE_XET="0")
    assert Path(got["folder"], BIG).read_bytes() == data
    assert [request.method for request in hub.requests if BIG in request.path] == ["GET", "GET"]


@pytest.mark.slow
def test_a_smaller_file_too(hub: Any, tmp_path: Path) -> None:
    """Below 16 MB it is the hub's own client that goes on, at the last 10 MB."""
    data = noise(12_000_000)
    hub.commit(NAME, {BIG: data})
    hub.cuts[BIG] = [11_000_000]
    got = fetch(hub, tmp_path)
    assert Path(got["folder"], BIG).read_bytes() == data
    ranges = [r.headers.get("range") for r in hub.asked(BIG) if r.server == "cdn"]
    assert ranges == [None, "bytes=10485760-"]


@pytest.mark.slow
def test_a_server_without_ranges(hub: Any, tmp_path: Path) -> None:
    data = noise(17_000_000)
    hub.commit(NAME, {BIG: data})
    hub.cuts[BIG], hub.ranges = [5_000_000], False
    got = fetch(hub, tmp_path, prelude=IMPATIENT)
    assert Path(got["folder"], BIG).read_bytes() == data


def test_what_arrives_damaged_is_not_used(hub: Any, tmp_path: Path) -> None:
    data = noise(17_000_000)
    hub.commit(NAME, {BIG: data})
    name = f"datasets--{NAME.replace('/', '--')}"
    torso = tmp_path / "hub" / name / "medblip.partial" / hashlib.sha256(data).hexdigest()
    torso.parent.mkdir(parents=True)
    torso.write_bytes(noise(6_000_000, seed=9))
    got = fetch(hub, tmp_path)
    assert "arrived damaged" in got["error"]
    assert not torso.exists()
    assert Path(fetch(hub, tmp_path)["folder"], BIG).read_bytes() == data


@pytest.mark.slow
def test_a_hub_with_a_cold(hub: Any, tmp_path: Path) -> None:
    """A file's 503 passes; the API's at the start is like no answer."""
    data = noise(17_000_000)
    hub.commit(NAME, {BIG: data})
    hub.failures = [("/resolve/", 503), ("/resolve/", 429)]
    got = fetch(hub, tmp_path, prelude=IMPATIENT)
    assert Path(got["folder"], BIG).read_bytes() == data
    hub.failures = [("/api/", 503)]
    got = fetch(hub, tmp_path / "other")
    assert "the hub answers HTTP 503" in got["error"]
    assert got["seconds"] < 5


def test_a_pinned_revision(hub: Any, tmp_path: Path) -> None:
    old = hub.commit(NAME, {BIG: noise(20_000, seed=1)}, "v1")
    new = hub.commit(NAME, {BIG: noise(20_000, seed=2)})
    newest = fetch(hub, tmp_path)
    assert newest["commit"] == new
    for source, revision in ((f"hf:{NAME}@v1", ""), (f"hf:{NAME}", old), (f"hf:{NAME}@{old}", old)):
        got = fetch(hub, tmp_path, source, revision=revision)
        assert got["commit"] == old
        assert Path(got["folder"], BIG).read_bytes() == noise(20_000, seed=1)
    assert Path(newest["folder"], BIG).read_bytes() == noise(20_000, seed=2)
    offline = fetch(hub, tmp_path, revision=old, HF_HUB_OFFLINE="1")
    assert offline["commit"] == old


@pytest.mark.slow
def test_a_data_set_that_changes_meanwhile(hub: Any, tmp_path: Path) -> None:
    new = hub.commit(NAME, {BIG: noise(20_000, seed=2)})
    old = hub.commit(NAME, {BIG: noise(20_000, seed=1)})
    hub.moves = (NAME, new)
    got = fetch(hub, tmp_path)
    assert f"hf:{NAME} was changed on the hub during the download" in got["error"]
    assert f"--revision {old[:12]}" in got["error"]
    assert fetch(hub, tmp_path)["commit"] == new


def test_offline(hub: Any, tmp_path: Path) -> None:
    files = {f"data/train-{n:05d}-of-00002.parquet": noise(20_000, seed=n) for n in range(2)}
    commit = hub.commit(NAME, files | {"README.md": b"not downloaded"})
    nothing = fetch(hub, tmp_path, HF_HUB_OFFLINE="1")
    assert "HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set" in nothing["error"]
    assert "unset it to download" in nothing["error"]
    assert hub.requests == []
    folder = Path(fetch(hub, tmp_path)["folder"])
    hub.requests.clear()
    got = fetch(hub, tmp_path, HF_HUB_OFFLINE="1")
    assert (got["folder"], got["commit"]) == (str(folder), commit)
    assert "using the copy" in got["said"]
    planned = fetch(hub, tmp_path, call="plan", HF_HUB_OFFLINE="1")
    assert (planned["size_bytes"], planned["missing_bytes"]) == (40_000, 0)
    (folder / "data/train-00001-of-00002.parquet").unlink()
    broken = fetch(hub, tmp_path, HF_HUB_OFFLINE="1")
    assert "the copy in the cache is not complete" in broken["error"]
    assert hub.requests == []


def test_an_unreachable_hub_is_said_within_five_seconds(hub: Any, tmp_path: Path) -> None:
    """Refused; a name that does not resolve, at once or never; silence; packets that vanish."""
    with socket.socket() as closed, socket.socket() as silent, socket.socket() as full:
        closed.bind(("127.0.0.1", 0))
        silent.bind(("127.0.0.1", 0))
        silent.listen(5)  # accepts, never answers
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(3)]
        for one in waiting:  # the queue is full: the kernel drops what comes now
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        ports = {name: s.getsockname()[1] for name, s in
                 (("refused", closed), ("silent", silent), ("dropped", full))}  # fmt: skip
        fail = "raise socket.gaierror(-2, 'Name or service not known')"
        resolver = "import socket, time\ndef look(*a, **k): {}\nsocket.getaddrinfo = look\n"
        loaded = "from huggingface_hub import HfApi, snapshot_download"  # 0.1 s on an idle core
        processes = {
            name: begin(hub, tmp_path / name, prelude=loaded, HF_ENDPOINT=f"http://127.0.0.1:{port}")
            for name, port in ports.items()
        } | {
            name: begin(
                hub, tmp_path / name, prelude=resolver.format(what) + loaded,
                HF_ENDPOINT="http://hub.invalid",
            )
            for name, what in (("no name", fail), ("no resolver", "time.sleep(60)"))
        }  # fmt: skip
        reports = {name: end(process) for name, process in processes.items()}
        for one in waiting:
            one.close()
    for name, report in reports.items():
        assert report["seconds"] < 5, name
        assert "hub cannot be reached" in report["error"], name
        assert "check the network" in report["error"], name
    assert "Connection refused" in reports["refused"]["error"]
    assert "Name or service not known" in reports["no name"]["error"]
    assert "within 3 s" in reports["no resolver"]["error"]


def test_an_unreachable_hub_with_a_copy(hub: Any, tmp_path: Path) -> None:
    commit = hub.commit(NAME, {BIG: noise(20_000)})
    first = fetch(hub, tmp_path)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
        got = fetch(hub, tmp_path, HF_ENDPOINT=endpoint)
        other = fetch(hub, tmp_path, revision="v9", HF_ENDPOINT=endpoint)
    assert (got["folder"], got["commit"]) == (first["folder"], commit)
    assert f"using the copy of hf:{NAME} in the cache, commit {commit[:12]}" in got["said"]
    assert "a whole copy of revision v9" in other["error"]


def test_something_else_answers(hub: Any, tmp_path: Path) -> None:
    hub.commit(NAME, {BIG: noise(20_000)})
    for page in (b"<html>Please log in</html>", b"[]", b"{}"):
        hub.portal = page
        got = fetch(hub, tmp_path)
        assert "hub cannot be reached" in got["error"]
        assert "answer" in got["error"]


@pytest.mark.parametrize("size", [20_000, 17_000_000])
def test_a_gated_data_set(hub: Any, tmp_path: Path, size: int) -> None:
    hub.commit(NAME, {BIG: noise(size)})
    hub.repos[NAME].gated = True
    hub.tokens.add("hf_good")
    got = fetch(hub, tmp_path)
    assert got["kind"] == "DataError"
    assert f"hf:{NAME} is gated" in got["error"]
    assert "no token (HF_TOKEN is not set)" in got["error"]
    assert f"accept them on {hub.endpoint}/datasets/{NAME}, then set HF_TOKEN" in got["error"]
    assert fetch(hub, tmp_path, HF_TOKEN=" hf_good\n")["name"] == f"hf:{NAME}"


def test_refusals(hub: Any, tmp_path: Path) -> None:
    hub.commit(NAME, {BIG: noise(20_000)})
    hub.commit("someone/private", {BIG: noise(20_000)})
    hub.repos["someone/private"].private = True
    hub.tokens.add("hf_good")
    cases = [
        ("hf:no/body", "", "is not there, or is private"),
        ("hf:no/body", "hf_good", "HTTP 404, with the token of HF_TOKEN"),
        ("hf:someone/private", "", "for a private one set HF_TOKEN"),
        (f"hf:{NAME}@v7", "", "has no such revision"),
        (f"hf:{NAME}", "hf_stale", "renew the token"),
        (f"hf:{NAME}", "hf_torn\nhf_apart", "HF_TOKEN holds no access token"),
    ]
    processes = [begin(hub, tmp_path, source, HF_TOKEN=token) for source, token, _ in cases]
    for process, (_, token, message) in zip(processes, cases, strict=True):
        got = end(process)
        assert message in got["error"]
        assert got["seconds"] < 5
        for part in token.split():
            assert part not in got["out"] + got["said"]
    assert fetch(hub, tmp_path, "hf:someone/private", HF_TOKEN="hf_good")["commit"]


def test_a_stored_login_is_not_used(hub: Any, tmp_path: Path) -> None:
    hub.commit(NAME, {BIG: noise(20_000)})
    tmp_path.joinpath("token").write_text("hf_stored")
    assert fetch(hub, tmp_path)["name"] == f"hf:{NAME}"
    assert all("authorization" not in request.headers for request in hub.requests)


def test_what_is_not_parquet(hub: Any, tmp_path: Path) -> None:
    """A script is never downloaded; tables are, and images, as metadata.parquet names them."""
    files = {"train/metadata.parquet": noise(500), "train/a.JPG": noise(500), "b/c.csv": b"x"}
    hub.commit(
        "a/images", files | {"images.py": b"raise SystemExit", "x.bin": b"", "README.md": b""}
    )
    got = fetch(hub, tmp_path, "hf:a/images")
    folder = Path(got["folder"])
    assert {p.relative_to(folder).as_posix() for p in folder.rglob("*.*")} == set(files)
    hub.commit("a/script", {"script.py": b"raise SystemExit", "README.md": b""})
    got = fetch(hub, tmp_path, "hf:a/script")
    assert "hf:a/script holds nothing that medblip reads" in got["error"]
    assert "hf:a/script@refs/convert/parquet; a data set's script is never run" in got["error"]
    assert hub.asked(".py") == []


def test_the_disk_and_the_lock(hub: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="set HF_HOME to a folder on a larger disk"):
        client._require_space(tmp_path / "hub" / "x", 10**18)
    hub.commit(NAME, {BIG: noise(17_000_000)})
    torsos = tmp_path / "hub" / f"datasets--{NAME.replace('/', '--')}" / "medblip.partial"
    torsos.mkdir(parents=True)
    (torsos / "LOCK").write_text(f"{os.getpid()} {socket.gethostname()}")
    got = fetch(hub, tmp_path)
    assert got["kind"] == "LockedError"


def test_without_pyarrow_nothing_is_downloaded(hub: Any, tmp_path: Path) -> None:
    hub.commit(NAME, {BIG: noise(20_000)})
    got = fetch(hub, tmp_path, prelude="sys.modules['pyarrow'] = None")
    assert "pip install 'medblip[hf]'" in got["error"]
    assert hub.asked("/resolve/") == []

"""Remote captioners, against the two wire formats on loopback: every promise of the docs."""

from __future__ import annotations

import datetime
import email.utils
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import remote_server
from PIL import Image
from remote_server import Server

from medblip.config import ModelConfig, load
from medblip.errors import CheckpointError, ConfigError, DataError, RunError
from medblip.files import read_json
from medblip.models.captioner import load_captioner
from medblip.remote import client as client_module
from medblip.remote.names import is_loopback, remote_of
from medblip.remote.picture import encoded
from medblip.schema import Example, dump_jsonl
from medblip.stages.caption import Captioned, caption
from medblip.stages.caption.sources import FileSource

KEY = "sk-test-0123456789-never-shown"
BOTH = pytest.mark.parametrize("kind", ["openai", "gemini"])


@pytest.fixture
def server() -> Iterator[Server]:
    with remote_server.running() as running:
        yield running


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "PAUSE_S", 0.02)
    for name in ("OPENAI_API_KEY", "GEMINI_API_KEY", "TEST_KEY"):
        monkeypatch.delenv(name, raising=False)
    # a proxy that would see everything; loopback must not go through it
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")


def grey(path: Path, number: int, size: tuple[int, int] = (40, 30)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, number * 4).save(path)
    return path


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for number in range(1, 7):
        grey(tmp_path / "img" / f"{number}.png", number)
    return tmp_path / "img"


def data_set(root: Path, count: int = 6) -> Path:
    for number in range(1, count + 1):
        grey(root / "images" / f"{number}.png", number)
    rows = [
        Example(id=f"id-{n}", image=f"images/{n}.png", split="test", captions=("a",))
        for n in range(1, count + 1)
    ]
    (root / "manifest.jsonl").write_text(dump_jsonl(rows))
    return root


def options(server: Server, kind: str = "openai", *more: str) -> list[str]:
    url = f"{server.url}/v1" if kind == "openai" else server.url
    return [f"remote.url={url}", "remote.per_minute=60000", *more]


def ask(server: Server, images: Path, out: Path, *more: str, kind: str = "openai") -> Captioned:
    overrides = options(server, kind, *more)
    return caption(f"{kind}:my-model", images=[str(images)], overrides=overrides, out=out)


def rows_in(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_names() -> None:
    gemini = remote_of("gemini")
    assert gemini is not None
    assert gemini.kind == "gemini"
    assert remote_of("gemini:models/x") == remote_of("gemini:x")
    assert remote_of("openai:org/model-7b:free") is not None
    for name in ("bundled", "./gemini", "openai:", "openai", "Salesforce/blip", "blip-base"):
        assert remote_of(name) is None
    for name in ("gemini", "openai:x"):
        with pytest.raises(CheckpointError, match="can only caption"):
            load_captioner(ModelConfig(name=name))
    local = ("http://127.0.0.1:1/v1", "http://localhost", "http://[::1]:80", "http://127.9.9.9")
    assert all(map(is_loopback, local))
    others = ("https://api.openai.com/v1", "http://localhost.example.org", "http://10.0.0.1")
    assert not any(map(is_loopback, others))


@BOTH
def test_a_split(
    server: Server, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = data_set(tmp_path / "data")
    prices = ("remote.price_in=2", "remote.price_out=10", "remote.max_cost=1")
    result = caption(
        tmp_path / "run", root, model=f"{kind}:my-model", overrides=options(server, kind, *prices)
    )
    path = tmp_path / "run" / "predictions" / "test.jsonl"
    assert (result.predictions, result.images, result.rejected) == (str(path), 6, 0)
    assert rows_in(path) == [{"id": f"id-{n}", "caption": f"caption {n}"} for n in range(1, 7)]
    record = read_json(path.with_suffix(".json"))
    assert (record["provider"], record["remote_model"]) == (kind, "my-model")
    assert record["host"] == server.url.removeprefix("http://")
    assert "radiology" in record["prompt"]
    assert record["usage"] == {
        "tokens_in": 600, "tokens_out": 60, "cost": 0.0018, "answers_without_usage": 0,
    }  # fmt: skip
    assert record["refused"] == []
    assert not list(path.parent.glob("*.unfinished"))
    told = capsys.readouterr().err
    assert "6 images are shown to 127.0.0.1" in told
    assert "1024" in told
    assert "at most 1000 images" in told
    body = server.requests[0].body
    if kind == "openai":
        assert body["max_tokens"] == 64
        assert (body["temperature"], body["seed"]) == (0, 0)
    else:
        assert body["generationConfig"] == {"maxOutputTokens": 64, "seed": 0, "temperature": 0}


@pytest.mark.parametrize("form", ["jsonl", "csv", "txt"])
def test_standard_output_keeps_the_order(
    server: Server, images: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    server.script[1] = [503]  # the first answer comes last
    (images / "0.png").write_bytes(b"<html>")
    result = caption("openai:my-model", images=[str(images)], form=form, overrides=options(server))
    out, err = capsys.readouterr()
    assert (result.predictions, result.images, result.rejected) == ("", 6, 1)
    expected = {
        "jsonl": '{{"id": "{n}.png", "caption": "caption {n}"}}\n',
        "csv": "{n}.png,caption {n},\n",
        "txt": "caption {n}\n",
    }[form]
    head = "id,caption,logprob\n" if form == "csv" else ""
    assert out == head + "".join(expected.format(n=n) for n in range(1, 7))
    assert "0.png: not an image: a web page" in err


def test_only_pixels_are_sent(server: Server, tmp_path: Path) -> None:
    """Neither names nor EXIF nor comments; geometry is kept, nothing is enlarged."""
    folder = tmp_path / "MUSTERMANN"
    folder.mkdir()
    wide = Image.new("RGB", (3000, 1000), (40, 40, 40))
    exif = Image.Exif()
    exif[0x010E] = "PATIENT-SECRET"
    wide.save(folder / "MUSTERMANN-wide.jpg", exif=exif, comment=b"PATIENT-SECRET")
    grey(folder / "MUSTERMANN-small.png", 20, (60, 90))
    ask(server, folder, tmp_path / "c.jsonl", "remote.image_side=600")
    assert sorted(seen.image.size for seen in server.requests) == [(60, 90), (600, 200)]
    for seen in server.requests:
        everything = seen.raw + seen.data + seen.path.encode() + str(seen.headers).encode()
        for secret in (b"MUSTERMANN", b"PATIENT-SECRET", b"jpg"):
            assert secret not in everything
        assert not seen.image.getexif()
        assert set(seen.image.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}


def test_large_pictures_become_jpeg() -> None:
    noise = Image.effect_noise((2400, 2400), 90)
    noise.info["comment"] = b"secret"
    picture = encoded(noise, 4096)
    assert picture.mime == "image/jpeg"
    assert b"secret" not in picture.data


def test_dicom_is_rendered_and_its_name_stays_here(server: Server, tmp_path: Path) -> None:
    pydicom = pytest.importorskip("pydicom")
    examples = pytest.importorskip("pydicom.data")
    source = Path(examples.get_testdata_file("CT_small.dcm"))
    patient = str(pydicom.dcmread(source).PatientID)
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / f"{patient}.dcm").write_bytes(source.read_bytes())
    ask(server, tmp_path / "d", tmp_path / "c.jsonl")
    (row,) = rows_in(tmp_path / "c.jsonl")
    assert row["id"] == "image-00001"
    assert patient.encode() not in server.requests[0].raw + server.requests[0].data
    assert server.requests[0].image.size == (128, 128)


def test_nothing_leaves_without_permission(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def touched(*_: Any, **__: Any) -> Any:
        raise AssertionError("an image was read, or a connection made")

    for name in ("OPENAI_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.setenv(name, KEY)
    with monkeypatch.context() as patch:
        patch.setattr(FileSource, "__init__", touched)
        patch.setattr(socket, "create_connection", touched)
        for model, more in (
            ("gemini", []),
            ("openai:x", []),
            ("openai:x", ["remote.url=http://10.0.0.1/v1"]),
            ("openai:x", ["remote.url=http://localhost.example.org/v1"]),
        ):
            with pytest.raises(ConfigError, match="--allow-upload"):
                caption(model, images=[str(images)], overrides=more, out=tmp_path / "c.jsonl")
            assert not list(tmp_path.glob("c.jsonl*"))
        # with permission the next step is taken
        with pytest.raises(AssertionError):
            caption("gemini", images=[str(images)], out=tmp_path / "c.jsonl", allow_upload=True)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_are_not_followed(
    server: Server, images: Path, tmp_path: Path, status: int
) -> None:
    with remote_server.running() as other:
        where = {"Location": f"{other.url}/v1/chat/completions"}
        server.script = {n: [(status, where, {})] for n in range(1, 7)}
        with pytest.raises(RunError, match="without a redirect"):
            ask(server, images, tmp_path / "c.jsonl")
        assert not other.requests


@BOTH
def test_the_key_is_shown_nowhere(
    server: Server, images: Path, tmp_path: Path, kind: str, capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    server.key = "another-key"  # the server repeats the wrong key in its message
    monkeypatch.setenv("TEST_KEY", KEY)
    how = ("remote.key_env=TEST_KEY", "remote.concurrency=1")
    with pytest.raises(RunError, match="a valid key into TEST_KEY") as refused:
        ask(server, images, tmp_path / "a.jsonl", *how, kind=kind)
    assert len(server.requests) == 1, "a wrong key is not tried again"
    shown = str(refused.value) + repr(refused.value)
    server.key = KEY
    said = {"error": {"message": f"quota of {KEY} {'x' * 280} {KEY}"}}
    server.script[2] = [(418, {}, said)]
    with pytest.raises(RunError, match="quota of \\*\\*\\*") as refused:
        ask(server, images, tmp_path / "b.jsonl", *how, kind=kind)
    shown += str(refused.value)
    root = data_set(tmp_path / "data")
    model = f"{kind}:my-model"
    caption(tmp_path / "run", root, model=model, overrides=options(server, kind, *how))
    shown += "".join(capfd.readouterr())
    for file in tmp_path.rglob("*"):
        if file.is_file():
            shown += file.read_bytes().decode("latin-1")
    assert "unfinished" in str(list(tmp_path.rglob("*"))), "the journal was among them"
    assert KEY not in shown
    assert KEY[:16] not in shown
    monkeypatch.setenv("TEST_KEY", KEY + "\nX-Evil: 1")
    with pytest.raises(ConfigError) as odd:
        ask(server, images, tmp_path / "d.jsonl", *how, kind=kind)
    assert KEY not in str(odd.value)


def test_the_providers_key_goes_to_the_provider_alone(
    server: Server, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="OPENAI_API_KEY is not set"):
        caption("openai:x", images=[str(images)], out=tmp_path / "c.jsonl", allow_upload=True)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    ask(server, images, tmp_path / "c.jsonl")
    assert not any("authorization" in seen.headers for seen in server.requests)


@pytest.mark.parametrize("moves", [[503, 500], ["reset"], ["malformed"], ["portal"], [408, 409]])
@BOTH
def test_passing_failures_are_tried_again(
    server: Server, images: Path, tmp_path: Path, kind: str, moves: list[Any]
) -> None:
    server.script[3] = list(moves)
    ask(server, images, tmp_path / "c.jsonl", kind=kind)
    assert [row["caption"] for row in rows_in(tmp_path / "c.jsonl")] == [
        f"caption {n}" for n in range(1, 7)
    ]
    assert sum(seen.number == 3 for seen in server.requests) == len(moves) + 1


def test_a_server_that_hangs(server: Server, images: Path, tmp_path: Path) -> None:
    server.script[3] = ["hang"]
    begun = time.monotonic()
    ask(server, images, tmp_path / "c.jsonl", "remote.timeout_s=0.5")
    assert time.monotonic() - begun < 5
    server.script[3] = ["hang", "hang"]
    with pytest.raises(RunError, match=r"no answer within 0.3 s, 2 times"):
        ask(server, images, tmp_path / "d.jsonl", "remote.timeout_s=0.3", "remote.retries=1")


def wait_of(kind: str) -> tuple[dict[str, str], dict[str, Any]]:
    """Return headers and record that ask for a pause of one second or a little more."""
    if kind == "seconds":
        return {"Retry-After": "1"}, {}
    if kind == "date":
        then = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=2)
        return {"Retry-After": email.utils.format_datetime(then, usegmt=True)}, {}
    info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1.2s"}
    return {}, {"error": {"message": "quota", "details": [{"@type": "x"}, info]}}


@pytest.mark.parametrize("kind", ["seconds", "date", "RetryInfo"])
def test_the_server_says_how_long_to_wait(
    server: Server, images: Path, tmp_path: Path, kind: str
) -> None:
    """And all threads wait, not only the one that was told."""
    headers, record = wait_of(kind)
    server.script[1] = [(429, headers, record)]
    ask(server, images, tmp_path / "c.jsonl", "remote.concurrency=1")
    first, second = server.requests[:2]
    assert first.number == second.number == 1
    assert 0.9 <= second.begun - first.begun < 4


@pytest.mark.parametrize(
    ("answer", "match"),
    [
        ((429, {"Retry-After": "86400"}, {}), "to be tried again in 86400 s"),
        ((429, {}, {"error": {"message": "no money", "code": "insufficient_quota"}}), "no money"),
        ((400, {}, {"error": {"message": "Unsupported value: temperature"}}), "Unsupported value"),
        ((400, {}, {"error": {"message": "API key not valid. Please pass one"}}), "a key that"),
        ((403, {}, {}), "a key that"),
    ],
)
def test_what_is_not_tried_again(
    server: Server, images: Path, tmp_path: Path, answer: Any, match: str
) -> None:
    server.script[1] = [answer]
    with pytest.raises(RunError, match=match):
        ask(server, images, tmp_path / "c.jsonl", "remote.concurrency=1")
    assert len(server.requests) == 1


@BOTH
def test_unknown_models(server: Server, images: Path, tmp_path: Path, kind: str) -> None:
    with pytest.raises(RunError, match="correct the name after the colon"):
        caption(
            f"{kind}:unknown-model", images=[str(images)], out=tmp_path / "c.jsonl",
            overrides=options(server, kind, "remote.concurrency=1"),
        )  # fmt: skip
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("kind", "moves", "reasons"),
    [
        (
            "openai",
            {1: "refusal", 2: "content_filter", 4: "empty", 5: "cut"},
            ["refused: I can't", "content_filter", "empty answer", "cut at the limit"],
        ),
        (
            "gemini",
            {1: "SAFETY", 2: "RECITATION", 3: "blocked", 4: "empty", 5: "cut"},
            ["SAFETY", "RECITATION", "blocked: PROHIBITED_CONTENT", "empty answer", "cut at the"],
        ),
    ],
)
def test_refusals_are_empty_captions(
    server: Server, images: Path, tmp_path: Path, kind: str, moves: dict[int, str],
    reasons: list[str], capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    server.script = {number: [move] for number, move in moves.items()}
    result = ask(server, images, tmp_path / "c.jsonl", kind=kind)
    assert result.images == 6
    captions = {row["id"]: row["caption"] for row in rows_in(tmp_path / "c.jsonl")}
    assert captions == {f"{n}.png": "" if n in moves else f"caption {n}" for n in range(1, 7)}
    refused = read_json(tmp_path / "c.jsonl.meta.json")["refused"]
    assert [one["id"] for one in refused] == [f"{n}.png" for n in sorted(moves)]
    for one, reason in zip(refused, reasons, strict=True):
        assert reason in one["reason"]
    assert f"{len(moves)} images have no caption" in capsys.readouterr().err
    assert set(server.paid.values()) == {1}, "a refusal is not asked again"


def test_ceilings(server: Server, images: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"remote\.max_images=6"):
        ask(server, images, tmp_path / "c.jsonl", "remote.max_images=5")
    assert not server.requests
    # 0.0003 per image: three of them are below 0.001, a fourth would exceed it
    prices = ("remote.price_in=2", "remote.price_out=10")
    with pytest.raises(RunError, match=r"higher --set remote\.max_cost"):
        ask(server, images, tmp_path / "c.jsonl", *prices, "remote.max_cost=0.001")
    assert len(server.requests) == 3, "the ceiling holds with several in flight"
    with pytest.raises(RunError, match=r"higher --set remote\.max_cost"):
        ask(server, images, tmp_path / "c.jsonl", *prices, "remote.max_cost=0.001")
    assert len(server.requests) == 3, "what earlier calls cost counts"
    result = ask(server, images, tmp_path / "c.jsonl", *prices, "remote.max_cost=0.01")
    assert (result.images, result.resumed) == (6, 3)
    assert set(server.paid.values()) == {1}
    assert read_json(tmp_path / "c.jsonl.meta.json")["usage"]["cost"] == 0.0018
    server.usage = False
    with pytest.raises(RunError, match="does not say how many tokens"):
        ask(server, images, tmp_path / "d.jsonl", *prices, "remote.max_cost=1")
    assert len(server.requests) == 7
    with pytest.raises(ConfigError, match=r"needs remote\.price_in"):
        load(None, ["remote.max_cost=1"])


def test_the_rate_holds_over_all_threads(server: Server, images: Path, tmp_path: Path) -> None:
    ask(server, images, tmp_path / "c.jsonl", "remote.per_minute=600", "remote.concurrency=6")
    times = sorted(seen.begun for seen in server.requests)
    assert times[-1] - times[0] >= 0.45, "six turns are five gaps of 0.1 s"


def test_several_are_in_flight(server: Server, images: Path, tmp_path: Path) -> None:
    server.delay_s = 0.2
    ask(server, images, tmp_path / "c.jsonl", "remote.concurrency=3")
    assert server.most_flying == 3


def test_a_fatal_error_keeps_what_succeeded(
    server: Server, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those in flight are awaited and kept; none is begun after."""
    server.delay_s, server.delays = 0.7, {1: 0.1}
    server.script[1] = [404]
    with pytest.raises(RunError, match="gives no caption"):
        ask(server, images, tmp_path / "c.jsonl", "remote.concurrency=3")
    assert sorted(seen.number for seen in server.requests) == [1, 2, 3]
    assert "2 of 6 images are kept" in capsys.readouterr().err
    with pytest.raises(RunError, match="other settings"):
        ask(server, images, tmp_path / "c.jsonl", "remote.prompt=Other words")
    server.delay_s = 0
    result = ask(server, images, tmp_path / "c.jsonl")
    assert (result.images, result.resumed) == (6, 2)
    assert set(server.paid.values()) == {1}


def test_a_fatal_error_ends_the_pauses(server: Server, images: Path, tmp_path: Path) -> None:
    server.delays = {1: 0.5}
    server.script = {1: [404], 2: [(429, {"Retry-After": "30"}, {})]}
    begun = time.monotonic()
    with pytest.raises(RunError, match="gives no caption"):
        ask(server, images, tmp_path / "c.jsonl", "remote.concurrency=2")
    assert time.monotonic() - begun < 10


def test_a_killed_call_pays_for_nothing_twice(server: Server, tmp_path: Path) -> None:
    """But for what was in flight when it was killed."""
    root = data_set(tmp_path / "data", 24)
    server.delay_s = 0.1
    command = [
        sys.executable, "-m", "medblip", "caption", str(tmp_path / "run"), "--model",
        "openai:my-model", "--data", str(root),
    ]  # fmt: skip
    for override in options(server, "openai", "remote.concurrency=2"):
        command += ["--set", override]
    journal = tmp_path / "run" / "predictions" / "test.jsonl.unfinished" / "rows-0.jsonl"
    flying = 0
    for kept in (5, 12):
        process = subprocess.Popen(command, env=os.environ, stderr=subprocess.PIPE)
        limit = time.monotonic() + 20
        while not journal.exists() or journal.read_bytes().count(b"\n") < kept:
            assert time.monotonic() < limit, process.communicate()[1]
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        time.sleep(0.3)
        flying += sum(server.paid.values()) - flying - journal.read_bytes().count(b"\n")
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    path = tmp_path / "run" / "predictions" / "test.jsonl"
    assert [row["caption"] for row in rows_in(path)] == [f"caption {n}" for n in range(1, 25)]
    assert sum(server.paid.values()) == 24 + flying
    assert flying <= 4, "two kills, two in flight each"
    assert max(server.paid.values()) <= 3
    assert read_json(path.with_suffix(".json"))["usage"]["tokens_in"] == 2400


def test_ctrl_c_keeps_those_in_flight(server: Server, images: Path, tmp_path: Path) -> None:
    server.delay_s = 0.5
    command = [
        sys.executable, "-m", "medblip", "caption", "openai:my-model", str(images), "--out",
        str(tmp_path / "c.jsonl"),
    ]  # fmt: skip
    for override in options(server, "openai", "remote.concurrency=2"):
        command += ["--set", override]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    limit = time.monotonic() + 20
    while len(server.requests) < 2:
        assert time.monotonic() < limit
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "2 of 6 images are kept" in told
    assert sum(server.paid.values()) == 2


def test_torch_stays_out(server: Server, images: Path, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom medblip import caption\n"
        f"caption('openai:m', images=[{str(images)!r}], overrides={options(server)!r},"
        f" out={str(tmp_path / 'c.jsonl')!r})\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_what_makes_no_sense_is_refused(
    server: Server, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = ("decode.num_captions=2", "decode.num_beams=2")
    with pytest.raises(ConfigError, match="one caption per image"):
        ask(server, images, tmp_path / "c.jsonl", *two)
    with monkeypatch.context() as patch:
        patch.setenv("WORLD_SIZE", "2")
        with pytest.raises(ConfigError, match="asked by one process"):
            ask(server, images, tmp_path / "c.jsonl")
    for url in ("ftp://x", "http://user:hunter2@host/v1", "https://host/v1?key=hunter2"):
        with pytest.raises(ConfigError, match=r"remote\.url") as refused:
            load(None, [f"remote.url={url}"])
        assert "hunter2" not in str(refused.value)
    assert not server.requests


def test_a_prepared_image_that_cannot_be_read_is_an_error(server: Server, tmp_path: Path) -> None:
    root = data_set(tmp_path / "data")
    (root / "images" / "2.png").write_bytes(b"<html>")
    with pytest.raises(DataError, match="a web page"):
        caption(tmp_path / "run", root, model="openai:my-model", overrides=options(server))


def test_settings_reach_the_request(
    server: Server, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = (
        "remote.token_field=max_completion_tokens", "remote.thinking_tokens=500",
        "decode.max_new_tokens=40", "remote.prompt=Say what you see.", "decode.seed=3",
    )  # fmt: skip
    ask(server, images, tmp_path / "c.jsonl", *more)
    body = server.requests[0].body
    assert body["max_completion_tokens"] == 540
    assert "max_tokens" not in body
    assert body["seed"] == 3
    assert body["messages"][0]["content"][0]["text"] == "Say what you see."
    line = json.dumps({"image": str(images / "1.png"), "id": "one", "prompt": "Only this one."})
    (tmp_path / "list").write_text(line)
    with (tmp_path / "list").open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        caption("openai:m", images=["-"], overrides=options(server), out=tmp_path / "d.jsonl")
    assert server.requests[-1].body["messages"][0]["content"][0]["text"] == "Only this one."


@pytest.mark.parametrize("name", ["gemini", "openai_compatible"])
def test_the_recipes(server: Server, tmp_path: Path, name: str) -> None:
    recipe = Path(__file__).resolve().parents[3] / "configs" / f"{name}.toml"
    cfg = load(recipe)
    assert remote_of(cfg.model.name) is not None
    root = data_set(tmp_path / "data")
    kind = cfg.model.name.partition(":")[0]
    caption(tmp_path / "run", root, config=recipe, overrides=options(server, kind))
    assert len(rows_in(tmp_path / "run" / "predictions" / "test.jsonl")) == 6

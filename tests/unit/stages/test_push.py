"""Publishing, against a hub on loopback that speaks the client's own protocol."""

from __future__ import annotations

import json
import shutil
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hub_uploads
import published_run
import pytest
from hub_uploads import TOKEN, UploadHub

import medblip
from medblip.data.card import MARK
from medblip.errors import CheckpointError, ConfigError, HubError, MedblipError, RunError
from medblip.schema import read_predictions
from medblip.stages.push import upload
from medblip.stages.push.scores import published_scores

NAME = "ann/captioner"
#: huggingface_hub's own call of its HTTP client
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Path:
    return published_run.make(tmp_path_factory.mktemp("study"), tiny_folder)


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made / "run", tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[UploadHub]:
    from huggingface_hub import constants
    from huggingface_hub.utils import _http as client

    with hub_uploads.running() as hub:
        addresses = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, hub.endpoint)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", addresses)
        monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)  # as it comes
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        quick = {**vars(time), "sleep": lambda seconds: None}  # between the client's attempts
        monkeypatch.setattr(client, "time", types.SimpleNamespace(**quick))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub


def bytes_of(run: Path) -> dict[str, bytes]:
    """Return what a repository should hold, but for the card."""
    best = run / "checkpoints" / "best"
    found = {p.relative_to(best).as_posix(): p.read_bytes() for p in best.rglob("*") if p.is_file()}
    del found["COMPLETE"]
    scores = json.loads((run / "scores" / "test.json").read_text())
    told = {"schema_version": 1} | published_scores(scores)
    return found | {"scores/test.json": (json.dumps(told, indent=1) + "\n").encode()}


def uploads(hub: UploadHub) -> int:
    return len([r for r in hub.requests if r.method == "PUT"])


def refused(run: Path, *, kind: type[MedblipError] = HubError, **more: Any) -> str:
    with pytest.raises(kind) as caught:
        medblip.push(run, NAME, **more)
    text = str(caught.value)
    for part in ("got:", "expected:", "do:"):
        assert part in text
    assert TOKEN not in text
    return text


def test_what_arrives_is_what_the_run_has(run: Path, hub: UploadHub) -> None:
    done = medblip.push(run, NAME)
    there = hub.files(NAME)
    card = there.pop("README.md").decode()
    assert there.pop(".gitattributes")
    assert there == bytes_of(run)
    assert card == done.card
    assert card.startswith("---\nlicense: unknown\n")
    assert f"from_pretrained('{NAME}')" in card
    assert hub.repos[NAME].private
    assert done.url == f"{hub.endpoint}/{NAME}"
    assert done.commit == hub.repos[NAME].refs["main"]
    assert sorted(done.sent) == sorted(done.files) == sorted([*there, "README.md"])
    assert done.files["model.safetensors"] == len(there["model.safetensors"])
    sent = b"".join(json.dumps(body).encode() for bodies in hub.posted.values() for body in bodies)
    assert str(run.parent).encode() not in sent  # no path of this machine either


def test_no_id_and_no_piece_of_a_caption_leaves(run: Path, hub: UploadHub, made: Path) -> None:
    """An id is a file name, which may be a patient's; `clinical` names images and their words."""
    file = run / "scores" / "test.json"
    scores = json.loads(file.read_text())
    assert scores["clinical"]["missed"]
    secret = "MUELLER_HANS_1950-01-54"
    for kind in ("missed", "hallucinations"):
        scores["clinical"][kind].append(
            {"kind": "wrong-severity", "name": secret, "count": 1, "ids": [secret]}
        )
    scores |= {"unavailable": {"BERTScore": f"no /data/{secret}"}, "notes": [secret],
               "failed": {secret: 1}, "later": secret}  # fmt: skip
    scores["clinical"] |= {"later": {secret: 1}}
    scores["metrics"]["BLEU-1"]["worst"] = secret
    scores["clinical"]["totals"]["side"]["worst"] = secret
    file.write_text(json.dumps(scores))
    medblip.push(run, NAME)
    told = json.loads(hub.files(NAME)["scores/test.json"])
    assert secret not in json.dumps(told)
    ids = [row["id"] for row in map(json.loads, (made / "data" / "manifest.jsonl").open())]
    sent = b"".join(data for name, data in hub.files(NAME).items() if name.startswith("scores/"))
    assert [one for one in ids if f'"{one}"'.encode() in sent] == []
    del scores["metrics"]["BLEU-1"]["worst"], scores["clinical"]["totals"]["side"]["worst"]
    for part in ("split", "n", "protocol", "metrics", "degeneration"):
        assert told[part] == scores[part], part  # and what is told is told as it is
    for part in ("totals", "statements"):
        assert told["clinical"][part] == scores["clinical"][part]
    assert set(told["clinical"]) == {"totals", "statements"}


def test_a_large_file_goes_in_parts(run: Path, hub: UploadHub) -> None:
    hub.part_bytes = 50_000
    medblip.push(run, NAME)
    assert len(hub.parts) > 3
    assert {n: d for n, d in hub.files(NAME).items() if n in bytes_of(run)} == bytes_of(run)


def test_the_token_goes_to_the_hub_alone(run: Path, hub: UploadHub) -> None:
    medblip.push(run, NAME)
    assert any(r.server == "cdn" for r in hub.requests)
    for request in hub.requests:
        given = request.headers.get("authorization")
        assert given == (None if request.server == "cdn" else f"Bearer {TOKEN}"), request.path
        assert TOKEN not in request.path


def test_from_the_hub_it_captions_as_the_run_did(
    run: Path, hub: UploadHub, made: Path, tmp_path: Path
) -> None:
    from huggingface_hub import snapshot_download

    medblip.push(run, NAME)
    folder = snapshot_download(
        NAME, endpoint=hub.endpoint, local_dir=tmp_path / "back", token=TOKEN
    )
    medblip.caption(tmp_path / "again", made / "data", model=folder, device="cpu",
                    overrides=["decode.max_new_tokens=8"])  # fmt: skip
    captions, again = (
        [(p.id, p.caption) for p in read_predictions(where / "predictions" / "test.jsonl")]
        for where in (run, tmp_path / "again")
    )
    assert again == captions
    assert len(captions) == 4


def test_a_second_push_sends_nothing(run: Path, hub: UploadHub) -> None:
    first = medblip.push(run, NAME)
    before = uploads(hub)
    again = medblip.push(run, NAME)
    assert again.sent == []
    assert again.commit == first.commit
    assert uploads(hub) == before
    assert len(hub.posted["commit"]) == 1


def test_a_new_score_is_sent_without_the_weights(run: Path, hub: UploadHub) -> None:
    medblip.push(run, NAME)
    before = uploads(hub)
    scores = json.loads((run / "scores" / "test.json").read_text())
    scores["metrics"]["BLEU-4"]["value"] = 0.98765
    (run / "scores" / "test.json").write_text(json.dumps(scores))
    again = medblip.push(run, NAME)
    assert again.sent == ["README.md", "scores/test.json"]
    assert uploads(hub) == before + (again.files["README.md"] >= 10_000) + (
        again.files["scores/test.json"] >= 10_000
    )
    assert b"value: 0.98765" in hub.files(NAME)["README.md"]


def test_a_push_that_broke_off_goes_on(run: Path, hub: UploadHub) -> None:
    hub.failures = [("/commit/", 500)]
    text = refused(run)
    assert "the hub fails" in text
    assert "run the same command again" in text
    first = uploads(hub)
    assert first
    assert set(hub.files(NAME)) == {".gitattributes"}
    done = medblip.push(run, NAME)
    assert uploads(hub) == first  # the large files had arrived
    assert {name: data for name, data in hub.files(NAME).items() if name in bytes_of(run)} == (
        bytes_of(run)
    )
    assert set(done.sent) == set(done.files)


def test_a_connection_that_is_cut_is_tried_again(run: Path, hub: UploadHub) -> None:
    hub.upload_cuts = [1000, 5000]
    medblip.push(run, NAME)
    assert hub.files(NAME)["model.safetensors"] == bytes_of(run)["model.safetensors"]
    assert hub.upload_cuts == []


def test_a_connection_that_is_always_cut_is_told(run: Path, hub: UploadHub) -> None:
    hub.upload_cuts = [1000] * 100
    assert "does not answer" in refused(run)
    hub.upload_cuts = []
    medblip.push(run, NAME)
    assert hub.files(NAME)["model.safetensors"] == bytes_of(run)["model.safetensors"]


@pytest.mark.parametrize(
    ("where", "status", "said"),
    [
        ("whoami", 401, "does not know the token"),
        ("repos/create", 403, "may not write there"),
        ("preupload", 403, "may not write there"),
        ("/commit/", 409, "changed by somebody else"),
        ("/commit/", 412, "changed by somebody else"),
        ("objects/batch", 413, "too large for the hub"),
        ("repos/create", 402, "too large for the hub"),
        ("whoami", 429, "asks to slow down"),
        ("whoami", 500, "the hub fails"),
        ("/commit/", 400, "refuses the request"),
        ("/commit/", 404, "is not there, or is hidden"),
    ],
)
def test_what_the_hub_refuses_is_told(
    run: Path, hub: UploadHub, where: str, status: int, said: str
) -> None:
    hub.failures = [(where, status)]
    hub.words = f"because of {TOKEN}\nand more"
    text = refused(run)
    assert said in text
    assert f"HTTP {status}, with the token of HF_TOKEN" in text
    assert "because of ..." in text
    assert not hub.failures
    medblip.push(run, NAME)  # and nothing is broken by it


def test_a_hub_that_is_ill_for_long(run: Path, hub: UploadHub) -> None:
    hub.failures = [("preupload", 503)] * 50
    assert "HTTP 503" in refused(run)


@pytest.mark.parametrize("where", ["whoami", "preupload"])
def test_a_hub_that_does_not_answer(
    run: Path, hub: UploadHub, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setattr(upload, "PATIENCE_S", 0.2)
    hub.late = (where, 0.6)
    assert "does not answer" in refused(run)


def test_a_hub_that_is_not_there(
    run: Path, hub: UploadHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    assert "http://127.0.0.1:1 does not answer" in refused(run)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "work offline" in refused(run)
    assert hub.requests == []


def test_without_a_token_nobody_is_asked(
    run: Path, hub: UploadHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    text = refused(run)
    assert "nobody is logged in" in text
    assert "hf auth login" in text
    monkeypatch.setenv("HF_TOKEN", "no token but words")
    assert "no token but words" not in refused(run)
    assert hub.requests == []


def test_the_token_of_the_login_serves_too(
    run: Path, hub: UploadHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    (tmp_path / "no-token").write_text(TOKEN)
    medblip.push(run, NAME)
    hub.failures = [("whoami", 401)]
    assert "with the hub's login" in refused(run)


def test_a_token_that_only_reads_makes_nothing(run: Path, hub: UploadHub) -> None:
    hub.role = "read"
    assert "role read" in refused(run)
    assert hub.repos == {}


def test_an_owner_that_is_not_ours(run: Path, hub: UploadHub) -> None:
    with pytest.raises(HubError, match="may not write there"):
        medblip.push(run, "stranger/captioner")
    assert hub.repos == {}
    medblip.push(run, "lab/captioner")
    assert "lab/captioner" in hub.repos


@pytest.mark.parametrize("name", ["captioner", "a/b/c", "https://hub/a/b", "../a", "a/..", ""])
def test_a_name_that_is_none(run: Path, hub: UploadHub, name: str) -> None:
    with pytest.raises(ConfigError, match="owner/name"):
        medblip.push(run, name)
    assert hub.requests == []


def test_private_means_private(run: Path, hub: UploadHub) -> None:
    medblip.push(run, NAME, private=False)
    assert not hub.repos[NAME].private
    commit = hub.repos[NAME].refs["main"]
    assert "is public" in refused(run)
    assert hub.repos[NAME].refs["main"] == commit
    medblip.push(run, NAME, private=False)


def test_a_branch(run: Path, hub: UploadHub) -> None:
    done = medblip.push(run, NAME, revision="v2")
    assert set(hub.files(NAME)) == {".gitattributes"}
    assert hub.files(NAME, "v2")["model.safetensors"] == bytes_of(run)["model.safetensors"]
    assert done.commit == hub.repos[NAME].refs["v2"]
    assert medblip.push(run, NAME, revision="v2").sent == []


def test_what_an_earlier_push_left_is_taken_away(run: Path, hub: UploadHub) -> None:
    medblip.push(run, NAME)
    files = hub.files(NAME)
    old = {"model-00001-of-00002.safetensors": b"x" * 20_000, "scores/validation.json": b"{}",
           "model.safetensors.index.json": b"{}", "notes.txt": b"mine"}  # fmt: skip
    hub.commit(NAME, files | old)
    done = medblip.push(run, NAME)
    assert done.deleted == sorted(set(old) - {"notes.txt"})
    assert set(hub.files(NAME)) == set(files) | {"notes.txt"}


@pytest.mark.parametrize("found", [{"README.md": b"# My work"}, {"pytorch_model.bin": b"x"}])
def test_somebody_s_repository_is_left_alone(
    run: Path, hub: UploadHub, found: dict[str, bytes]
) -> None:
    hub.commit(NAME, found)
    hub.repos[NAME].private = True
    assert "holds something else" in refused(run)
    assert hub.files(NAME) == found
    medblip.push(run, NAME, force=True)
    assert MARK.encode() in hub.files(NAME)["README.md"]


def test_a_dry_run_asks_nobody(run: Path, hub: UploadHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    done = medblip.push(run, NAME, dry_run=True)
    assert hub.requests == []
    assert done.files == {**{n: len(d) for n, d in bytes_of(run).items()},
                          "README.md": len(done.card.encode())}  # fmt: skip
    assert (done.url, done.commit, done.sent) == ("", "", [])


def damage(run: Path, how: str) -> None:
    best = run / "checkpoints" / "best"
    weights = best / "model.safetensors"
    if how == "cut":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif how == "flipped":
        data = bytearray(weights.read_bytes())
        data[-7] ^= 1
        weights.unlink()  # a hard link of the step's
        weights.write_bytes(data)
    elif how == "absent":
        (best / "config.json").unlink()
    elif how == "extra":
        (best / "other.json").write_text("{}")
    elif how == "pickle":
        (best / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    elif how == "code":
        (best / "modeling.py").write_text("import os")
    elif how == "link":
        (best / "secret.txt").symlink_to("/etc/hostname")


@pytest.mark.parametrize("how", ["cut", "flipped", "absent", "extra", "pickle", "code", "link"])
def test_a_checkpoint_that_is_not_whole_is_refused(run: Path, hub: UploadHub, how: str) -> None:
    damage(run, how)
    refused(run, kind=CheckpointError)
    refused(run, kind=CheckpointError, dry_run=True)
    assert hub.requests == []


@pytest.mark.parametrize("how", ["cut", "absent"])
def test_of_a_run_without_checksums_what_the_files_tell_is_read(
    run: Path, hub: UploadHub, how: str
) -> None:
    (run / "checkpoints" / "best" / "COMPLETE").unlink()
    medblip.push(run, NAME, dry_run=True)
    damage(run, how)
    refused(run, kind=CheckpointError)


@pytest.mark.parametrize("name", ["patients.txt", "captions.json", "notes.jinja", "x.safetensors"])
def test_of_a_run_without_checksums_only_what_a_captioner_is_saved_as_leaves(
    run: Path, hub: UploadHub, name: str
) -> None:
    best = run / "checkpoints" / "best"
    (best / "COMPLETE").unlink()
    if name.endswith("safetensors"):
        shutil.copy(best / "model.safetensors", best / name)
    else:
        (best / name).write_text("[]")
    assert f"got: {name}" in " ".join(refused(run, kind=CheckpointError).split())
    (best / name).unlink()
    (best / "qformer_tokenizer").mkdir()
    for saved in ("vocab.txt", "qformer_tokenizer/vocab.txt", "special_tokens_map.json",
                  "spiece.model", "chat_template.jinja", "bottlenecks.safetensors"):  # fmt: skip
        source = best / ("model.safetensors" if saved.endswith("rs") else "config.json")
        shutil.copy(source, best / saved)
    assert "qformer_tokenizer/vocab.txt" in medblip.push(run, NAME, dry_run=True).files


def test_an_unfinished_run_is_refused(run: Path, hub: UploadHub) -> None:
    (run / "train.json").unlink()
    assert "no train.json" in refused(run, kind=RunError)
    assert hub.requests == []


def test_of_a_data_set_only_the_card_leaves(made: Path, tmp_path: Path, hub: UploadHub) -> None:
    table = made / "data" / "manifest.jsonl"
    rows = [json.loads(line) for line in table.read_text().splitlines()]
    source = made / "data" / "captions.jsonl"
    source.write_text("".join(json.dumps(r | {"caption": r["captions"][0]}) + "\n" for r in rows))
    medblip.prepare(source, tmp_path / "x", size=0)
    done = medblip.push(tmp_path / "x", "ann/data")
    assert done.kind == "dataset"
    assert done.sent == ["README.md"]
    assert set(hub.files("ann/data")) == {".gitattributes", "README.md"}
    assert hub.files("ann/data")["README.md"].decode() == (tmp_path / "x" / "README.md").read_text()
    assert done.url == f"{hub.endpoint}/datasets/ann/data"
    assert medblip.push(tmp_path / "x", "ann/data").sent == []

"""The ready adapters: their table, what is said when something is missing, and their glue.

The packages are stand-ins with the real ones' calls: weights are not here. What is tested is that
an adapter calls them as they are called, and that its result follows the contract.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from pathlib import Path

import pytest

from medblip.metrics.external import (
    ScorerResult,
    ScorerRow,
    ScorerSpec,
    load_scorers,
    parse_scorer,
    preflight,
    run_scorer,
)

READY = load_scorers()

ROWS = (
    ScorerRow(id="a", hyp="left effusion", refs=("right effusion", "left effusion")),
    ScorerRow(id="b", hyp="nodule", refs=("normal chest",)),
    ScorerRow(id="c", hyp=" . ", refs=("nodule",)),
    ScorerRow(id="d", hyp="bad caption", refs=("nodule",)),
)

#: Share of the reference's words that the caption has; `bad` makes the package raise.
OVERLAP = """
def overlap(hyp, ref):
    if "bad" in hyp: raise ValueError("cannot read it")
    return len(set(hyp.split()) & set(ref.split())) / len(set(ref.split()))
"""

PACKAGES = {
    "torch": "class cuda:\n    is_available = staticmethod(lambda: False)\n"
    "import contextlib\nno_grad = contextlib.nullcontext\n",
    "radgraph": OVERLAP + """
class F1RadGraph:
    def __init__(self, reward_level, model_type=None, **kwargs):
        assert (reward_level, model_type, kwargs) == ("all", "radgraph-xl", {"cuda": -1})
        print("Using device: cpu")
    def __call__(self, refs, hyps):
        one = [overlap(h, r) for h, r in zip(hyps, refs)]
        return (0.0, 0.0, 0.0), (one, [v / 2 for v in one], [v / 4 for v in one]), [], []
""",
    "f1chexbert": """
class F1CheXbert:
    target_names = ["Cardiomegaly", "Pleural Effusion", "No Finding"]
    target_names_5 = ["Cardiomegaly", "Pleural Effusion"]
    def __init__(self, refs_filename=None, hyps_filename=None, device=None):
        assert device == "cpu"
    def get_label(self, report, mode="rrg"):
        if "bad" in report: raise ValueError("cannot read it")
        return [0, int("effusion" in report), int("effusion" not in report)]
""",
    "RaTEScore": OVERLAP + """
class RaTEScore:
    def __init__(self, bert_model="", eval_model="", batch_size=1, use_gpu=True,
                 visualization_path=None, affinity_matrix="long"):
        assert not use_gpu and bert_model == "Angelakeke/RaTE-NER-Deberta"
    def compute_score(self, candidate_list, reference_list):
        assert len(candidate_list) == 1  # more would be misaligned
        return [overlap(*pair) for pair in zip(candidate_list, reference_list)]
""",
    "green_score": OVERLAP + """
import os
class GREEN:
    def __init__(self, model_name=None, output_dir=".", cpu=False):
        assert cpu and model_name == "StanfordAIMI/GREEN-radllama2-7b" and output_dir != "."
    def __call__(self, refs, hyps):
        scores = [overlap(h, r) for h, r in zip(hyps, refs)]
        return 0.0, 0.0, scores, None, None
""",
    "alignscore": OVERLAP + """
class AlignScore:
    def __init__(self, model, batch_size, device, ckpt_path, evaluation_mode="", verbose=True):
        assert (model, device, evaluation_mode) == ("roberta-large", "cpu", "nli_sp")
        assert batch_size == 32 and ckpt_path.endswith("AlignScore-large.ckpt")
    def score(self, contexts, claims):
        return [overlap(h, r) for h, r in zip(claims, contexts)]
""",
    "bleurt_pytorch": OVERLAP + """
class Config:
    max_position_embeddings = 512
class BleurtConfig:
    from_pretrained = staticmethod(lambda name: Config())
class Values(list):
    flatten = tolist = lambda self: self
class Output:
    def __init__(self, values): self.logits = Values(values)
class Inputs(dict):
    to = lambda self, device: self
class BleurtTokenizer:
    from_pretrained = staticmethod(lambda name: BleurtTokenizer())
    def __call__(self, references, candidates, padding, truncation, max_length, return_tensors):
        return Inputs(pairs=list(zip(candidates, references)))
class BleurtForSequenceClassification:
    from_pretrained = staticmethod(lambda name, config: BleurtForSequenceClassification())
    to = lambda self, device: self
    eval = lambda self: self
    def __call__(self, pairs):
        return Output([overlap(*pair) for pair in pairs])
""",
    "medcat": "",
    "medcat/cat.py": """
class CAT:
    load_model_pack = staticmethod(lambda path: CAT())
    def get_entities(self, text):
        if "bad" in text: raise ValueError("cannot read it")
        found = [{"pretty_name": w, "cui": "C" + w, "type_ids": ["T1"]} for w in text.split()]
        return {"entities": dict(enumerate(found))} if text else {}
""",
    "radeval": OVERLAP + """
class RadEval:
    def __init__(self, metrics=None, per_sample=False, show_progress=True):
        assert metrics == ["radcliq", "other"] and per_sample and not show_progress
    def __call__(self, refs, hyps):
        one = [overlap(h, r) for h, r in zip(hyps, refs)]
        return {"radcliq_v1": [1 - v for v in one], "other": one}
""",
    "radeval/metrics/_registry.py": """
def get_metric_class(name):
    return type(name, (), {"is_api_based": name == "crimson"})
""",
    "pycocoevalcap": "",
}  # fmt: skip

#: A program called java: answers -version, and gives every image SPICE .5, the second one none.
JAVA = f"""#!{sys.executable}
import json, sys
if "-version" in sys.argv:
    print('openjdk version "17.0.15"', file=sys.stderr); sys.exit()
at = sys.argv.index("-jar")
assert sys.argv[at + 1].endswith("spice/spice-1.0.jar") and sys.argv[at + 3] == "-out"
rows = json.load(open(sys.argv[at + 2]))
f = lambda row: float("nan") if row["test"] == "nodule" else 0.5
out = [{{"image_id": r["image_id"], "scores": {{"All": {{"f": f(r)}}}}}} for r in rows]
json.dump(out, open(sys.argv[at + 4], "w"))
"""


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of stand-in packages, and the weights that the adapters look at."""
    folder = tmp_path_factory.mktemp("packages")
    for name, text in PACKAGES.items():
        path = folder / (name if name.endswith(".py") else f"{name}/__init__.py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for module in {
        module for spec in READY.values() if spec.ready for module in spec.ready.modules
    }:
        path = folder / module / "__init__.py"
        if not path.exists():
            path.parent.mkdir()
            path.write_text("raise RuntimeError('preflight must not import me')")
    for file in ("radgraph/unknown/radgraph-xl/weights.th", "chexbert/chexbert.pth"):
        (folder / "cache" / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / "cache" / file).write_text(file)
    (folder / "AlignScore-large.ckpt").write_text("")
    (folder / "pack.zip").write_text("")
    (folder / "bin").mkdir()
    (folder / "bin" / "java").write_text(JAVA)
    (folder / "bin" / "java").chmod(0o755)
    for jar in ("stanford-corenlp-3.6.0", "stanford-corenlp-3.6.0-models"):
        path = folder / "pycocoevalcap/spice/lib" / f"{jar}.jar"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    for spec in READY.values():
        for weights in spec.ready.weights if spec.ready else ():
            if "hub" in weights:
                model = folder / "hub" / ("models--" + weights["hub"].replace("/", "--"))
                (model / "snapshots" / "c1").mkdir(parents=True, exist_ok=True)
                (model / "snapshots" / "c1" / weights.get("file", "x")).write_text("")
                (model / "refs").mkdir(exist_ok=True)
                (model / "refs" / "main").write_text("c1\n")
            if "nltk" in weights:
                (folder / "nltk" / weights["nltk"]).mkdir(parents=True)
    return folder


def named(name: str, packages: Path, *args: str) -> ScorerSpec:
    env = {
        "PYTHONPATH": str(packages),
        "HF_HUB_CACHE": str(packages / "hub"),
        "XDG_CACHE_HOME": str(packages / "cache"),
        "NLTK_DATA": str(packages / "nltk"),
        "ALIGNSCORE_CKPT": str(packages / "AlignScore-large.ckpt"),
        "MEDCAT_MODEL_PACK": str(packages / "pack.zip"),
        "PATH": f"{packages / 'bin'}{os.pathsep}{os.environ['PATH']}",
    }
    return dataclasses.replace(READY[name], python=sys.executable, args=args, env=env)


def score(name: str, packages: Path, *args: str) -> ScorerResult:
    result = run_scorer(named(name, packages, *args), ROWS, timeout_s=60)
    assert result.unavailable is None, result.unavailable
    return result


def column(result: ScorerResult, name: str) -> list[float | None]:
    values = result.families[name].values
    return [float(value) if n else None for value, n in values]


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("radgraph", ["radgraph-simple", "radgraph-partial", "radgraph-complete"]),
        ("ratescore", ["RaTEScore"]),
        ("green", ["GREEN"]),
        ("alignscore", ["AlignScore"]),
        ("bleurt", ["BLEURT"]),
    ],
)
def test_a_pair_scorer(name: str, columns: list[str], packages: Path) -> None:
    result = score(name, packages)
    assert list(result.families) == columns
    assert column(result, columns[0]) == [1.0, 0.0, 0.0, None]  # best reference; empty is 0
    assert result.failed == {"d": "ValueError: cannot read it"}
    assert result.notes[0] == READY[name].ready.domain  # type: ignore[union-attr]
    if len(columns) > 1:
        assert column(result, columns[2]) == [0.25, 0.0, 0.0, None]


def test_models_are_named_with_their_revision(packages: Path) -> None:
    assert score("ratescore", packages).models["embedding"] == "FremyCompany/BioLORD-2023-C@c1"
    assert score("alignscore", packages).models == {
        "checkpoint": "AlignScore-large.ckpt sha256:e3b0c44298fc1c14",
        "backbone": "roberta-large",
        "mode": "nli_sp",
    }


def test_chexbert_counts_labels(packages: Path) -> None:
    result = score("chexbert", packages)
    assert result.families["chexbert-14"].values.tolist() == [
        [1, 1, 1], [1, 1, 1], [0, 0, 1], [0, 0, 0],
    ]  # fmt: skip
    assert result.families["chexbert-5"].values.tolist() == [
        [1, 1, 1], [0, 0, 0], [0, 0, 0], [0, 0, 0],
    ]  # fmt: skip
    assert set(result.failed) == {"d"}


def test_medcat_counts_concepts(packages: Path) -> None:
    result = score("medcat", packages)
    assert column(result, "medcat-image-F1") == [1.0, 0.0, 0.0, None]
    assert result.families["medcat-concepts"].values.tolist()[0] == [2, 2, 2]
    none = score("medcat", packages, "--types", "T2")
    assert none.families["medcat-concepts"].values.sum() == 0


def test_spice_starts_the_jar(packages: Path) -> None:
    result = score("spice", packages)
    assert column(result, "SPICE") == [0.5, None, 0.0, 0.5]
    assert result.failed == {"b": "SPICE gave no value"}


def test_radeval_knows_where_lower_is_better(packages: Path) -> None:
    result = score("radeval", packages, "--metrics", "radcliq,other")
    assert column(result, "radeval-radcliq_v1") == [0.0, 1.0, 1.0, None]
    assert column(result, "radeval-other") == [1.0, 0.0, 0.0, None]
    assert result.lower_is_better == {"radeval-radcliq_v1"}
    refused = run_scorer(named("radeval", packages, "--metrics", "crimson"), ROWS)
    assert "sends captions to a service" in str(refused.unavailable)


def test_where_no_image_can_be_scored_the_error_is_the_reason(packages: Path) -> None:
    rows = [dataclasses.replace(row, hyp="bad") for row in ROWS]
    for name in ("radgraph", "chexbert"):
        result = run_scorer(named(name, packages), rows)
        assert "no image could be scored" in str(result.unavailable)
        assert "cannot read it" in str(result.unavailable)


# What is missing


def quickest(spec: ScorerSpec) -> tuple[str, float]:
    """Return the reason, and the seconds; again where other work made a start slow."""
    for _ in range(3):
        started = time.perf_counter()
        reason = preflight(spec)
        seconds = time.perf_counter() - started
        if seconds < 1:
            break
    assert reason is not None
    return reason, seconds


@pytest.mark.parametrize("name", READY)
def test_without_an_environment_it_says_how_to_make_one(name: str) -> None:
    reason, seconds = quickest(READY[name])
    assert seconds < 1
    assert f"-m venv ~/envs/{name}" in reason
    assert f"--scorer {name}=~/envs/{name}/bin/python" in reason
    assert "ENV/" not in reason.split("do:")[1]
    assert run_scorer(READY[name], ROWS).unavailable == reason


@pytest.mark.parametrize("name", READY)
def test_missing_modules_and_weights_are_said_in_under_a_second(name: str, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin" / "python"
    python.symlink_to(sys.executable)  # outside its environment: only the standard library
    env = {"HF_HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "NLTK_DATA": str(tmp_path)}
    spec = dataclasses.replace(READY[name], python=str(python), env=env)
    reason, seconds = quickest(spec)
    assert seconds < 1
    for module in spec.ready.modules if spec.ready else ():
        assert f"module {module} (in {python})" in reason
    assert f"{tmp_path}/bin/pip install" in reason
    assert "-m venv" not in reason


def test_missing_weights_are_said_with_their_place(packages: Path, tmp_path: Path) -> None:
    spec = named("radgraph", packages)
    assert preflight(spec) is None
    spec = dataclasses.replace(spec, env={**spec.env, "XDG_CACHE_HOME": str(tmp_path)})
    reason, seconds = quickest(spec)
    assert seconds < 1
    assert f"{tmp_path}/radgraph/unknown/radgraph-xl/weights.th" in reason
    assert "from radgraph import RadGraph" in reason
    assert "pip install" not in reason
    assert "licence not verified" in reason
    own = dataclasses.replace(spec, args=("--model", "radgraph"))  # other weights: not our business
    assert preflight(own) is None


def test_every_need_is_found_where_it_lies_without_an_import(packages: Path) -> None:
    for name in READY:
        assert preflight(named(name, packages)) is None, name


def test_a_missing_variable_program_or_interpreter_is_said(packages: Path, tmp_path: Path) -> None:
    spec = named("medcat", packages)
    env = {key: value for key, value in spec.env.items() if key != "MEDCAT_MODEL_PACK"}
    reason = str(preflight(dataclasses.replace(spec, env=env)))
    assert "environment variable MEDCAT_MODEL_PACK is not set" in reason
    spec = named("spice", packages)
    reason = str(preflight(dataclasses.replace(spec, env={**spec.env, "PATH": str(tmp_path)})))
    assert "program java" in reason
    reason = str(preflight(parse_scorer("spice=/no/such/python")))
    assert "no interpreter at /no/such/python" in reason
    reason = str(preflight(parse_scorer("radgraph=/usr/bin/python3")))
    assert "/usr/bin/pip" not in reason  # never into the system's Python
    assert "python3.11 -m venv ~/envs/radgraph" in reason
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'cannot start' >&2\nexit 1\n")
    broken.chmod(0o755)
    assert "cannot start" in str(preflight(parse_scorer(f"spice={broken}")))

"""Ablations: what a file says, what is trained, what is kept, and what comes out."""

from __future__ import annotations

import csv
import dataclasses
import functools
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import medblip
from medblip.data.phantoms.generate import generate
from medblip.errors import ConfigError, DataError, MetricError, RunError
from medblip.stages.ablate.grid import read_grid
from medblip.stamps import folder_stamp

#: Java takes seconds to start, for each run.
ablate = functools.partial(medblip.ablate, meteor=False)

TWO = """
seeds = [0, 1]
[train]
epochs = 1
[[variant]]
name = "as it is"
zero_shot = true
[[variant]]
name = "decoder"
set = { "freeze.preset" = "decoder" }
"""


def grid(tmp_path: Path, text: str) -> Any:
    file = tmp_path / "ablation.toml"
    file.write_text(text)
    return read_grid(file)


def test_a_grid_is_every_combination(tmp_path: Path) -> None:
    found = grid(
        tmp_path,
        "[train]\nepochs = 2\n"
        '[grid]\n"freeze.preset" = ["full", "decoder"]\n"optim.lr" = [1e-3, 1e-4]',
    )
    assert [v.name for v in found.variants] == [
        "full, lr 0.001", "full, lr 0.0001", "decoder, lr 0.001", "decoder, lr 0.0001",
    ]  # fmt: skip
    assert found.baseline == "full, lr 0.001"
    assert found.variants[3].cfg.freeze.preset == "decoder"
    assert found.variants[3].cfg.optim.lr == 1e-4
    assert {v.cfg.train.epochs for v in found.variants} == {2}
    assert found.variants[2].folder(7) == "decoder-lr-0.001-7"


def test_a_base_file_is_below_and_the_variants_above(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text("[optim]\nlr = 0.5\nweight_decay = 0.25\n")
    found = grid(
        tmp_path,
        'base = "base.toml"\n[optim]\nlr = 0.125\n'
        '[[variant]]\nname = "a"\n[[variant]]\nname = "b"\nset = { "optim.warmup" = 0.5 }\n',
    )
    one, other = (variant.cfg.optim for variant in found.variants)
    assert (one.lr, one.weight_decay) == (0.125, 0.25)
    assert (other.lr, other.warmup) == (0.125, 0.5)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x = 1", "unknown key x"),
        ("sedes = [1]", "did you mean seeds"),
        ('[[variant]]\nname = "a"', "1 variants"),
        (
            '[[variant]]\nname = "a"\n[[variant]]\nname = "a"\nset = {"optim.lr" = 1.0}',
            "two variants",
        ),
        ('[[variant]]\nname = "a"\n[[variant]]\nname = "b"', "same recipe"),
        ('[[variant]]\nname = "a"\nsett = 1', "did you mean set"),
        ("[[variant]]\nset = {}", "without a name"),
        ('[[variant]]\nname = "a"\nset = {"optm.lr" = 1.0}', "did you mean optim"),
        ('[[variant]]\nname = "a"\nset = {"optim.lrr" = 1.0}', "did you mean lr"),
        ('[[variant]]\nname = "a"\nset = {"train.seed" = 1}', "seeds = "),
        ('[grid]\n"optim.lr" = 0.1', "a list of values"),
        (TWO.replace("[0, 1]", "[1, 1]"), "different whole numbers"),
        ('baseline = "x"\n' + TWO, "baseline x"),
        ("[[variant", "cannot be read"),
        ("seeds = 3\n", "a list of whole numbers"),
        ("seeds = [-1]\n" + TWO.replace("seeds = [0, 1]", ""), "numbers from 0"),
        ("base = 3", "the name of a TOML file"),
        ("grid = 3", "a [grid] table"),
        ('[variant]\nname = "a"', "two brackets"),
        ("[[variant]]\nname = 5", "a text"),
        ('[[variant]]\nname = "a"\nset = "x"', "settings"),
        ('[[variant]]\nname = "a"\nzero_shot = "no"', "true or false"),
        (TWO.replace("as it is", "decoder-0"), "a folder of its own"),
        (TWO.replace("as it is", "recipes"), "a folder of its own"),
    ],
)
def test_what_is_no_ablation_is_told(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigError, match="(?s)" + told.replace("[", r"\[")):
        grid(tmp_path, text)


def test_every_ablation_that_ships_can_be_read() -> None:
    root = Path(__file__).resolve().parents[3]
    package = root / "src" / "medblip" / "stages" / "reproduce"
    demo, base = (read_grid(package / f"{name}.toml") for name in ("demo", "base"))
    for found in (demo, base):
        assert [v.name for v in found.variants] == ["zero-shot", "full", "decoder", "encoder"]
        assert found.baseline == "zero-shot"
    published = medblip.config.load(root / "configs" / "blip_base.toml")
    recipe = base.variants[1].cfg
    for section in ("data", "model", "optim", "train", "decode", "freeze"):
        assert getattr(recipe, section) == getattr(published, section), section
    for file in sorted((root / "configs").glob("ablation_*.toml")):
        assert len(read_grid(file).variants) > 1


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate(tmp_path_factory.mktemp("phantoms") / "data", images=80, seed=0, force=True)


@pytest.fixture(scope="module")
def done(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ablation")
    (root / "a.toml").write_text(TWO)
    ablate(root / "a.toml", data, root / "out", resamples=200)
    return root


def test_the_table_holds_what_the_runs_hold(done: Path) -> None:
    record = json.loads((done / "out" / "ablation.json").read_text())
    assert (record["n"], record["seeds"], record["baseline"]) == (8, [0, 1], "as it is")
    zero, decoder = record["variants"]
    assert zero["runs"] == ["as-it-is"]
    assert decoder["runs"] == ["decoder-0", "decoder-1"]
    each = [
        json.loads((done / "out" / run / "scores" / "test.json").read_text())["metrics"]["CIDEr-D"]
        for run in decoder["runs"]
    ]
    score = decoder["metrics"]["CIDEr-D"]
    assert score["per_seed"] == pytest.approx([one["value"] for one in each])
    assert score["value"] == pytest.approx(sum(score["per_seed"]) / 2)
    assert score["ci"][0] <= score["value"] <= score["ci"][1]
    assert zero["metrics"]["CIDEr-D"]["sd_seeds"] is None
    trained = [
        json.loads((done / "out" / run / "train.json").read_text()) for run in decoder["runs"]
    ]
    spent = [one["seconds"] + one["feature_pass_seconds"] for one in trained]
    assert decoder["seconds"] == pytest.approx(sum(spent) / 2, abs=2e-3)
    assert decoder["parameters_trainable"] == trained[0]["parameters_trainable"]
    assert 0 < decoder["seconds_to_best"] <= decoder["seconds"]
    assert decoder["gflop_per_step"] > 0
    assert decoder["energy_wh"] is None  # a CPU has no counter
    assert zero["seconds"] is None
    test = next(row for row in record["tests"] if row["metric"] == "CIDEr-D")
    assert test["difference"] == pytest.approx(score["value"] - zero["metrics"]["CIDEr-D"]["value"])
    assert all(row["p"] <= row["p_holm"] for row in record["tests"])


def test_the_csv_and_the_chart_say_the_same(done: Path) -> None:
    record = json.loads((done / "out" / "ablation.json").read_text())
    with (done / "out" / "ablation.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row, one in zip(rows, record["variants"], strict=True):
        assert row["variant"] == one["name"]
        assert float(row["CIDEr-D"]) == one["metrics"]["CIDEr-D"]["value"]
    chart = (done / "out" / "ablation.svg").read_text()
    assert ">decoder<" in chart
    assert "CIDEr-D" in chart


def test_a_frozen_encoders_features_are_made_once(done: Path) -> None:
    shared = [
        json.loads((done / "out" / f"decoder-{seed}" / "train.json").read_text()) for seed in (0, 1)
    ]
    assert shared[0]["seconds_in_features"] > 0
    assert shared[1]["seconds_in_features"] < 0.5 * shared[0]["seconds_in_features"]
    assert shared[1]["feature_pass_seconds"] == shared[0]["feature_pass_seconds"] > 0


def test_each_training_is_charged_with_the_encoders_pass(done: Path) -> None:
    """Whoever found the features done would not have had them alone."""
    record = json.loads((done / "out" / "ablation.json").read_text())
    decoder = next(one for one in record["variants"] if one["name"] == "decoder")
    for seed, seconds in enumerate(decoder["seconds_per_seed"]):
        made = json.loads((done / "out" / f"decoder-{seed}" / "train.json").read_text())
        assert seconds == pytest.approx(made["seconds"] + made["feature_pass_seconds"], abs=2e-3)
    assert decoder["seconds_to_best"] < decoder["seconds"]


def test_what_is_done_stays(done: Path, data: Path) -> None:
    kept = {file: file.stat().st_mtime_ns for file in done.rglob("test.jsonl")}
    before = (done / "out" / "ablation.json").read_text()
    ablate(done / "a.toml", data, done / "out", resamples=200)
    assert {file: file.stat().st_mtime_ns for file in kept} == kept
    assert (done / "out" / "ablation.json").read_text() == before


def test_another_recipe_in_the_same_folder_is_refused(done: Path, data: Path) -> None:
    other = done / "b.toml"
    other.write_text(TWO.replace("epochs = 1", "epochs = 2"))
    with pytest.raises(
        RunError, match=r"decoder \(seed 0\), decoder \(seed 1\).*another recipe|failed"
    ):
        ablate(other, data, done / "out", resamples=50)
    assert json.loads((done / "out" / "decoder-0" / "train.json").read_text())["steps"] == 8


def test_a_run_that_was_killed_before_its_captions_is_no_other_recipes(
    done: Path, data: Path, tmp_path: Path
) -> None:
    """Trained, then killed; the file is edited: the run must not pass for the new recipe's."""
    shutil.copytree(done / "out", tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / "decoder-0" / "predictions")
    (tmp_path / "b.toml").write_text(TWO.replace("epochs = 1", "epochs = 2"))
    with pytest.raises(RunError, match="decoder"):
        ablate(tmp_path / "b.toml", data, tmp_path / "out", resamples=50)
    assert not (tmp_path / "out" / "decoder-0" / "predictions").exists()


def test_a_forced_run_that_failed_does_not_pass_for_the_new_recipe(
    done: Path, data: Path, tmp_path: Path
) -> None:
    """The note is the new recipe's already, the training still the old one's."""
    shutil.copytree(done / "out", tmp_path / "out")
    (tmp_path / "b.toml").write_text(TWO.replace("epochs = 1", "epochs = 2"))
    with pytest.raises(RunError, match="failed"):
        ablate(tmp_path / "b.toml", data, tmp_path / "out", force=True, device="cuda:99")
    assert json.loads((tmp_path / "out" / "decoder-0" / "train.json").read_text())["steps"] == 8
    ablate(tmp_path / "b.toml", data, tmp_path / "out", resamples=50)
    assert json.loads((tmp_path / "out" / "decoder-0" / "train.json").read_text())["steps"] == 16


def test_other_images_are_another_recipe(done: Path, data: Path, tmp_path: Path) -> None:
    shutil.copytree(data, tmp_path / "data")
    shutil.copytree(done / "out", tmp_path / "out")
    ablate(done / "a.toml", tmp_path / "data", tmp_path / "out", resamples=50)
    manifest = tmp_path / "data" / "manifest.jsonl"
    rows = manifest.read_text().splitlines()
    test = [row for row in rows if json.loads(row)["split"] == "test"]
    manifest.write_text("\n".join(row for row in rows if row not in test[:3]) + "\n")
    with pytest.raises(RunError, match="other images or captions"):
        ablate(done / "a.toml", tmp_path / "data", tmp_path / "out", resamples=50)


def test_variants_that_were_scored_on_other_images_are_not_compared(
    done: Path, data: Path, tmp_path: Path
) -> None:
    from medblip.rundir import RunDir
    from medblip.stages.ablate.figures import quality

    shutil.copytree(done / "out", tmp_path / "out")
    fewer = {"id": [], "caption": []}
    for line in (tmp_path / "out/as-it-is/predictions/test.jsonl").read_text().splitlines()[:5]:
        for key, kept in fewer.items():
            kept.append(json.loads(line)[key])
    table, references = tmp_path / "c.csv", tmp_path / "r.csv"
    for file in (table, references):
        with file.open("w", newline="") as opened:
            csv.writer(opened).writerows([fewer, *zip(*fewer.values(), strict=True)])
    scores = tmp_path / "out" / "as-it-is" / "scores" / "test.json"
    medblip.evaluate(table, references, out=scores, force=True, meteor=False)
    found = read_grid(done / "a.toml")
    runs = {
        one.name: [
            RunDir(tmp_path / "out" / one.folder(seed))
            for seed in (found.seeds[:1] if one.zero_shot else found.seeds)
        ]
        for one in found.variants
    }
    with pytest.raises(MetricError, match="same images"):
        quality(found, runs, ["CIDEr-D"], split="test", resamples=20, seed=0)


def test_a_run_of_somebody_else_is_not_taken(done: Path, data: Path, tmp_path: Path) -> None:
    shutil.copytree(done / "out" / "decoder-1", tmp_path / "out" / "decoder-0")
    (tmp_path / "out" / "decoder-0" / "thesis.txt").write_text("mine")
    for force in (False, True):
        with pytest.raises(RunError, match="did not make"):
            ablate(done / "a.toml", data, tmp_path / "out", seeds=[0], resamples=50, force=force)
    assert (tmp_path / "out" / "decoder-0" / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize("name", ["ablation.json", "ablation.csv", "ablation.svg", ""])
def test_tables_of_somebody_else_are_not_written_over(
    done: Path, data: Path, tmp_path: Path, name: str
) -> None:
    file = tmp_path / "out" / name if name else tmp_path / "out"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text('{"schema_version": 1, "mine": 1}')
    with pytest.raises(RunError, match="taken"):
        ablate(done / "a.toml", data, tmp_path / "out", resamples=50, force=True)
    assert "mine" in file.read_text()


def test_a_first_run_that_fails_stops_no_other(done: Path, data: Path, tmp_path: Path) -> None:
    shutil.copytree(done / "out", tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / "decoder-1")
    (tmp_path / "out" / "recipes" / "as-it-is.json").write_text(
        '{"schema_version": 1, "name": "x"}'
    )
    with pytest.raises(RunError, match="1 of 1 runs failed"):
        ablate(done / "a.toml", data, tmp_path / "out", metrics=["BLEU-1"], resamples=50)
    assert (tmp_path / "out" / "decoder-1" / "scores" / "test.json").exists()


def test_other_weights_at_the_same_place_are_another_recipe(
    done: Path, data: Path, tmp_path: Path
) -> None:
    shutil.copytree(done / "out" / "decoder-0" / "checkpoints" / "best", tmp_path / "captioner")
    grid_file = tmp_path / "a.toml"
    grid_file.write_text(TWO.replace("[train]", f'[model]\nname = "{tmp_path}/captioner"\n[train]'))
    arguments: dict[str, Any] = {"seeds": [0], "resamples": 50}
    ablate(grid_file, data, tmp_path / "out", **arguments)
    ablate(grid_file, data, tmp_path / "out", **arguments)  # what is done stays
    weights = tmp_path / "captioner" / "model.safetensors"
    weights.write_bytes((done / "out/decoder-1/checkpoints/best/model.safetensors").read_bytes())
    with pytest.raises(RunError, match="other weights"):
        ablate(grid_file, data, tmp_path / "out", **arguments)


def test_an_unknown_metric_and_too_many_at_once(done: Path, data: Path) -> None:
    with pytest.raises(MetricError, match="SPICE"):
        ablate(done / "a.toml", data, done / "out", metrics=["SPICE"], resamples=50)
    with pytest.raises(ConfigError, match="at once"):
        ablate(done / "a.toml", data, done / "out", jobs="many")


def test_a_split_that_is_missing_is_told_before_anything_trains(
    done: Path, data: Path, tmp_path: Path
) -> None:
    kept = [line for line in (data / "manifest.jsonl").read_text().splitlines() if "train" in line]
    (tmp_path / "manifest.jsonl").write_text("\n".join(kept) + "\n")
    with pytest.raises(DataError, match="no validation split"):
        ablate(done / "a.toml", tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_numbers_are_checked_before_anything_trains(done: Path, data: Path, tmp_path: Path) -> None:
    for options in ({"resamples": 0}, {"seeds": [-1]}, {"seeds": [0, 0]}):
        with pytest.raises(ConfigError):
            ablate(done / "a.toml", data, tmp_path / "out", **options)  # type: ignore[arg-type]  # keywords of several types
    assert not (tmp_path / "out").exists()


def test_a_dry_run_writes_nothing(done: Path, data: Path, tmp_path: Path) -> None:
    planned = ablate(done / "a.toml", data, tmp_path / "out", dry_run=True)
    assert planned.runs == 2
    assert planned.variants[1]["seconds_per_step"] > 0
    assert not (tmp_path / "out").exists()


def test_a_branch_is_no_other_recipe_than_its_commit(
    done: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training notes the commit that a branch was: asked again, it is the same recipe."""
    from medblip.models import captioner
    from medblip.stages.ablate import trainings

    work = trainings.jobs_of(read_grid(done / "a.toml"), data, done / "out", None)
    job = next(one for one in work if not one.variant.zero_shot)

    def asked(revision: str) -> trainings.Job:
        model = dataclasses.replace(job.cfg.model, revision=revision)
        return dataclasses.replace(job, cfg=dataclasses.replace(job.cfg, model=model))

    shutil.copytree(job.run.path, tmp_path / "run")
    made = dataclasses.replace(job, run=trainings.RunDir(tmp_path / "run"))
    record = json.loads(made.run.config.read_text())
    record["model"]["revision"] = "a" * 40
    made.run.config.write_text(json.dumps(record))
    commits = {"main": "a" * 40, "old": "b" * 40}
    monkeypatch.setattr(
        captioner, "settled",
        lambda model: dataclasses.replace(
            model, revision=commits[model.revision], prompt=record["model"]["prompt"]
        ),
    )  # fmt: skip
    for revision, same in (("main", True), ("a" * 40, True), ("old", False)):
        again = dataclasses.replace(asked(revision), run=made.run)
        assert trainings._is_of(again) is same, revision


def test_a_forced_run_killed_as_it_began_gives_the_old_one_back(
    done: Path, data: Path, tmp_path: Path
) -> None:
    shutil.copytree(done / "out", tmp_path / "out")
    run = tmp_path / "out" / "decoder-0"
    run.rename(run.with_name("decoder-0.old.partial"))
    run.mkdir()
    before = (tmp_path / "out" / "ablation.json").read_text()
    ablate(done / "a.toml", data, tmp_path / "out", resamples=200)
    assert (tmp_path / "out" / "ablation.json").read_text() == before
    assert not run.with_name("decoder-0.old.partial").exists()


def test_one_metric_is_then_the_headline(done: Path, data: Path, tmp_path: Path) -> None:
    shutil.copytree(done / "out", tmp_path / "out")
    result = ablate(
        done / "a.toml", data, tmp_path / "out", metrics=["BLEU-4", "BLEU-4"], resamples=50
    )
    assert result.headline == "BLEU-4"
    assert [row["metric"] for row in result.tests] == ["BLEU-4"]
    chart = (tmp_path / "out" / "ablation.svg").read_text()
    assert "BLEU-4" in chart
    assert ">decoder<" in chart


def test_an_older_note_and_copied_weights_are_the_same_recipe(
    done: Path, data: Path, tmp_path: Path
) -> None:
    """A setting that came later had its default; a copy has other times."""
    shutil.copytree(done / "out", tmp_path / "out")
    for note in (tmp_path / "out" / "recipes").iterdir():
        record = json.loads(note.read_text())
        record.pop("weights")
        del record["settings"]["decode"]["close_up"]
        note.write_text(json.dumps(record))
    made = (tmp_path / "out" / "decoder-0" / "train.json").stat().st_mtime_ns
    ablate(done / "a.toml", data, tmp_path / "out", resamples=50)
    assert (tmp_path / "out" / "decoder-0" / "train.json").stat().st_mtime_ns == made
    best = done / "out" / "decoder-0" / "checkpoints" / "best"
    shutil.copytree(best, tmp_path / "a", copy_function=shutil.copyfile)
    assert folder_stamp(best) == folder_stamp(tmp_path / "a") != ""
    weights = tmp_path / "a" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert folder_stamp(best) != folder_stamp(tmp_path / "a")


def test_a_dotted_key_needs_no_quotes(tmp_path: Path) -> None:
    found = grid(
        tmp_path,
        '[grid]\nfreeze.preset = ["full", "decoder"]\n'
        '[[variant]]\nname = "x"\nset = { freeze.preset = "encoder" }\n',
    )
    assert [one.cfg.freeze.preset for one in found.variants] == ["encoder", "full", "decoder"]
    assert found.variants[0].set == {"freeze.preset": "encoder"}


def test_a_name_with_dollars_is_no_formula(done: Path) -> None:
    from medblip.stages.ablate.chart import quality_against_cost

    record = json.loads((done / "out" / "ablation.json").read_text())
    record["variants"][1]["name"] = r"$\foo$"
    assert r"$\foo$" in quality_against_cost(record)


def test_the_test_says_how_few_seeds_there_are(done: Path, data: Path, tmp_path: Path) -> None:
    assert "2: few" in json.loads((done / "out" / "ablation.json").read_text())["test"]
    shutil.copytree(done / "out", tmp_path / "out")
    one = ablate(done / "a.toml", data, tmp_path / "out", seeds=[0], resamples=50)
    assert "one seed" in one.test


@pytest.mark.parametrize(
    "text", ["[train]\nepochs = 2020-01-01", "[grid]\n'train.epochs' = [2020-01-01, 2]"]
)
def test_a_date_is_no_setting(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="epochs"):
        grid(tmp_path, text + "\n[[variant]]\nname = 'a'\n[[variant]]\nname = 'b'\n")


@pytest.mark.slow
def test_two_at_once_give_the_same(done: Path, data: Path, tmp_path: Path) -> None:
    ablate(done / "a.toml", data, tmp_path / "out", jobs=2, resamples=200)
    for name in ("as-it-is", "decoder-0", "decoder-1"):
        one, other = (
            (root / name / "scores" / "test.json").read_text()
            for root in (tmp_path / "out", done / "out")
        )
        assert one == other


def test_an_interruption_begins_no_further_run(monkeypatch: pytest.MonkeyPatch) -> None:
    from medblip.stages.ablate import trainings

    begun: list[int] = []
    told: list[int] = []

    class Child:
        def send_signal(self, number: int) -> None:
            told.append(number)

    monkeypatch.setattr(trainings, "_RUNNING", {Child()})

    def work(job: int) -> None:
        begun.append(job)
        time.sleep(0.05)
        if job == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainings._in_threads(work, list(range(50)), 2)  # type: ignore[arg-type]  # numbers for jobs
    assert len(begun) < 10
    assert told == [signal.SIGINT]


@pytest.mark.slow
def test_killed_and_started_again_it_ends_with_the_same_table(
    done: Path, data: Path, tmp_path: Path
) -> None:
    command = [
        sys.executable, "-m", "medblip", "ablate", str(done / "a.toml"), "--data", str(data),
        "--no-meteor",
        "--out", str(tmp_path / "out"), "--resamples", "200",
    ]  # fmt: skip
    for seconds in (6.0, 7.0, 8.0, 9.0):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
    subprocess.run(command, check=True, capture_output=True)
    one, other = (
        json.loads((root / "ablation.json").read_text())
        for root in (tmp_path / "out", done / "out")
    )
    assert one["tests"] == other["tests"]
    assert [v["metrics"] for v in one["variants"]] == [v["metrics"] for v in other["variants"]]

"""Preparing and reading a data set, against the bare work and against transformers.

    python benchmarks/data_bench.py --images 80000 --folder /big/disk   # ROCO's size: 25 GB, 15 min
    python benchmarks/data_bench.py                                     # 4,000 images

Draws JPEG files of ROCO's size and shape, then measures, in this order and on all cores:

1. bare: open, convert to RGB, bicubic to 384 x 384; nothing is kept. Threads and processes are
   both tried, the faster counts.
2. prepare: `medblip data prepare`, a process of its own (start-up included); its peak memory; then
   the same with `--link`.
3. the same on a part of the images, killed at random moments and started again: same bytes?
4. store: shuffled batches of 64 out of the pixel store, as uint8 and normalised to float32.
5. stock: the same images, opened and put through transformers' BlipImageProcessorPil.

Ends with one JSON line.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 384
BATCH = 64


def draw(folder: Path, count: int, seed: int) -> None:
    """Write JPEG files about 600 x 500, a tenth in colour, half of the grey ones stored as RGB."""
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(seed)
    fields = []
    for _ in range(24):  # smooth shapes with grain: about 65 kB as JPEG, as figures of papers are
        coarse = Image.fromarray(rng.integers(0, 255, (9, 11), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((1000, 900), Image.Resampling.BICUBIC), np.int16)
        fields.append(smooth + rng.normal(0, 5, smooth.shape).astype(np.int16))

    def one(index: int) -> None:
        local = np.random.default_rng([seed, index])
        height, width = int(local.integers(380, 620)), int(local.integers(440, 760))
        top, left = int(local.integers(0, 900 - height)), int(local.integers(0, 1000 - width))
        part = fields[index % len(fields)][top : top + height, left : left + width]
        grey = np.clip(part + int(local.integers(-40, 40)), 0, 255).astype(np.uint8)
        image = Image.fromarray(grey)
        kind = index % 20
        if kind < 2:  # a colour Doppler, a PET overlay
            other = Image.fromarray(np.roll(grey, 40, axis=1))
            image = Image.merge("RGB", (image, other, image))
        elif kind % 2:
            image = image.convert("RGB")
        image.save(folder / "images" / f"{index:06d}.jpg", quality=int(local.integers(80, 93)))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(one, range(count)))
    rows = (f"{index:06d}.jpg,Axial image number {index} of a series.\n" for index in range(count))
    (folder / "captions.csv").write_text("image,caption\n" + "".join(rows))


def decode_rgb(path: str) -> int:
    """Do what the model needs, and no more."""
    with Image.open(path) as image:
        image.load()
        return image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC).width


def decode_as_stored(path: str) -> int:
    """Resize grey files as grey: less than the model needs, but the least there can be."""
    with Image.open(path) as image:
        image.load()
        return image.resize((SIDE, SIDE), Image.Resampling.BICUBIC).width


def bare(paths: list[str], work: Callable[[str], int]) -> float:
    """Return images/s of the bare work on all cores, the better of threads and processes."""
    best = 0.0
    pools: tuple[type[Executor], ...] = (ThreadPoolExecutor, ProcessPoolExecutor)
    for kind in pools:
        with kind(os.cpu_count()) as pool:
            list(pool.map(work, paths[:64], chunksize=8))  # workers have started
            begun = time.perf_counter()
            list(pool.map(work, paths, chunksize=64))
            best = max(best, len(paths) / (time.perf_counter() - begun))
    return best


def prepare(
    source: Path, out: Path, kill_after: float | None = None, options: tuple[str, ...] = ()
) -> float:
    """Run the command; return seconds."""
    command = [sys.executable, "-m", "medblip", "data", "prepare", str(source), "--out", str(out)]
    command += options
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        _, errors = process.communicate(timeout=kill_after)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return time.perf_counter() - begun
    if process.returncode:
        sys.exit(errors.decode())
    return time.perf_counter() - begun


def digest(folder: Path) -> str:
    """Return a hash of every file of a data set, names included."""
    total = hashlib.blake2b()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        total.update(path.relative_to(folder).as_posix().encode())
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "blake2b").digest())
    return total.hexdigest()


def killed(source: Path, whole: Path, out: Path, kills: int, seconds: float) -> tuple[bool, int]:
    """Kill `prepare` at random moments, let it finish; whether the result is the same, kills."""
    moments = random.Random(0)
    done = 0
    for _ in range(kills):
        prepare(source, out, kill_after=moments.uniform(0.3, max(0.5, seconds)))
        if out.exists():  # it was quicker than the kill
            shutil.rmtree(out)
        else:
            done += 1
    prepare(source, out)
    return digest(out) == digest(whole), done


def subset(source: Path, target: Path, count: int) -> None:
    """Make a source of the first images of another."""
    (target / "images").mkdir(parents=True)
    lines = (source / "captions.csv").read_text().splitlines()[: count + 1]
    (target / "captions.csv").write_text("\n".join(lines) + "\n")
    for line in lines[1:]:
        name = line.partition(",")[0]
        os.link(source / "images" / name, target / "images" / name)


def read_store(data: Path, seconds: float) -> tuple[float, float]:
    """Return images/s of shuffled uint8 batches, and of the same normalised to float32."""
    from medblip.data.loader import Pixels, epoch_order
    from medblip.data.store import Resize
    from medblip.schema import read_examples

    examples = read_examples(data / "manifest.jsonl")
    pixels = Pixels(examples, data, Resize(SIDE, SIDE), build=False)
    mean, std = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)

    def rate(work: Callable[[np.ndarray], object]) -> float:
        begun, count = time.perf_counter(), 0
        for epoch in range(10**6):
            order = epoch_order(len(examples), seed=0, epoch=epoch)
            for start in range(0, len(order) - BATCH, BATCH):
                work(order[start : start + BATCH])
                count += BATCH
                if time.perf_counter() - begun > seconds:
                    return count / (time.perf_counter() - begun)
        raise AssertionError

    rate(pixels.raw_batch)  # the page cache is warm, as in every epoch but the first
    return rate(pixels.raw_batch), rate(lambda rows: pixels.pixel_batch(rows, mean, std))


def stock_processor(paths: list[str], seconds: float) -> float:
    """Return images/s of opening files and running them through transformers' own processor."""
    from transformers import BlipImageProcessorPil

    processor = BlipImageProcessorPil(size={"height": SIDE, "width": SIDE})
    order = np.random.default_rng(0).permutation(len(paths))
    begun, count = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds:
        rows = [paths[i] for i in np.take(order, range(count, count + BATCH), mode="wrap")]
        images = [Image.open(path).convert("RGB") for path in rows]
        processor(images, return_tensors="pt")
        count += BATCH
    return count / (time.perf_counter() - begun)


def main() -> None:
    """Print what is measured as it comes, and one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--folder", type=Path, help="with room for 310 kB per image")
    parser.add_argument("--kills", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each reading")
    told = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=told.folder, prefix="data-bench-") as place:
        source, data = Path(place, "source"), Path(place, "data")
        draw(source, told.images, seed=0)
        paths = sorted(map(str, (source / "images").iterdir()))
        size = sum(os.path.getsize(path) for path in paths) / len(paths)
        print(f"{len(paths)} JPEG files, mean {size / 1000:.0f} kB, {os.cpu_count()} cores")
        part = paths[: max(2000, len(paths) // 8)]
        result = {
            "bare_images_per_s": bare(part, decode_rgb),
            "bare_as_stored_images_per_s": bare(part, decode_as_stored),
        }
        seconds = prepare(source, data)
        result["prepare_images_per_s"] = len(paths) / seconds
        result["peak_mb"] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        print(f"prepare: {seconds:.1f} s, {result}", flush=True)
        shutil.rmtree(data)
        linked = prepare(source, data, options=("--link",))
        result["prepare_linked_images_per_s"] = len(paths) / linked
        print(f"with --link: {linked:.1f} s", flush=True)
        small, count = Path(place, "small"), min(len(paths), 4000)
        subset(source, small, count)
        whole = Path(place, "whole")
        alone = prepare(small, whole)
        same, kills = killed(small, whole, Path(place, "killed"), told.kills, alone)
        print(f"{count} images, killed {kills} times: {'identical' if same else 'DIFFERENT'}")
        raw, normalised = read_store(data, told.seconds)
        result["store_images_per_s"], result["store_normalised_images_per_s"] = raw, normalised
        result["stock_processor_images_per_s"] = stock_processor(paths, told.seconds)
    pixels = SIDE * SIDE
    print(
        f"a grey image is {pixels / 1000:.0f} kB in the store: {raw:.0f} images/s are "
        f"{raw * pixels / 1e9:.2f} GB/s or more, of memory's 5 to 20 per core"
    )
    record = {name: round(value, 1) for name, value in result.items()}
    record |= {
        "images": len(paths),
        "prepare_to_bare": round(record["prepare_images_per_s"] / record["bare_images_per_s"], 3),
        "linked_to_bare": round(
            record["prepare_linked_images_per_s"] / record["bare_images_per_s"], 3
        ),
        "store_to_stock": round(raw / record["stock_processor_images_per_s"], 1),
        "killed": kills,
        "identical_after_kills": same,
        "cores": os.cpu_count(),
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()

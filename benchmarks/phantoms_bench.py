"""How many phantoms one core draws per second. Goal: 150 at 128 pixels.

Whatever the drawing, an image needs its noise and its PNG; that floor is measured beside it.
The last line is one JSON object.
"""

from __future__ import annotations

import io
import json
import platform
import time

import numpy as np
from PIL import Image

from medblip.data.phantoms.generate import render

IMAGES, SIZE, ROUNDS = 400, 128, 3


def encode(pixels: np.ndarray) -> int:
    """Return the size of the PNG, compressed as `data phantoms` does."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.tell()


def cpu_seconds(work: object) -> float:
    """Return the CPU seconds of the fastest of three rounds; this process has one thread."""
    best = float("inf")
    for _ in range(ROUNDS):
        begun = time.process_time()
        work()  # type: ignore[operator]
        best = min(best, time.process_time() - begun)
    return best


def main() -> None:
    """Measure, print."""
    noisy = (np.random.default_rng(0).normal(90, 25, (SIZE, SIZE)).clip(0, 255)).astype(np.uint8)
    rng = np.random.default_rng(0)

    def everything() -> None:
        for index in range(IMAGES):
            encode(render(0, index, SIZE)[0])

    def floor() -> None:
        for _ in range(IMAGES):
            rng.standard_normal((SIZE, SIZE), dtype=np.float32)
            encode(noisy)

    whole, least = cpu_seconds(everything), cpu_seconds(floor)
    print(f"{IMAGES / whole:.0f} phantoms per second and core; noise and PNG {least / whole:.0%}")
    print(
        json.dumps(
            {
                "benchmark": "phantoms",
                "size": SIZE,
                "images_per_s_per_core": round(IMAGES / whole, 1),
                "ms_per_image": round(1000 * whole / IMAGES, 3),
                "floor_ms_per_image": round(1000 * least / IMAGES, 3),
                "machine": platform.machine(),
                "numpy": np.__version__,
            }
        )
    )


if __name__ == "__main__":
    main()

"""Training steps as `train.compile = true` runs them on a GPU: layers compiled, passes recorded.

    python benchmarks/train_graphs.py --device cuda --precision bf16 --batch 64 --steps 6

The network, batches and clock of train_bench.py; each regime's passes are recorded as CUDA graphs
by `medblip.stages.train.graphs` and replayed. Without a GPU nothing is recorded: the same code runs
as it is (`--tiny` tries the script). JSON line last.
"""

from __future__ import annotations

import argparse
import json
import statistics
from typing import Any

import torch
from train_bench import EPOCH, RULES, Bench, gpu_limit, model_gflop

from medblip.config import OptimConfig, RunConfig, TrainConfig
from medblip.data.store import normalised_on
from medblip.engine import Engine
from medblip.stages.train.feed import Micro
from medblip.stages.train.graphs import Graphs

CASES = {
    "decoder_only_cached": ("decoder", True), "decoder_only": ("decoder", False),
    "full": ("full", False), "encoder_only": ("encoder", False),
}  # fmt: skip


class BenchPart:
    """The bench's batch as the part of a training split that recorded passes ask for."""

    def __init__(self, bench: Bench, cached: bool) -> None:
        self.token_ids, self._bench = bench.token_ids, bench
        self.features = bench.features if cached else None

    def read(self, indices: list[int]) -> torch.Tensor:
        """Return row numbers of the features, or raw pixels."""
        if self.features is None:
            return self._bench.raw[indices]
        return torch.randint(len(self.features), (len(indices),))

    def images_on(self, captioner: Any, read: torch.Tensor) -> torch.Tensor:
        """Return features or normalised pixels on the device."""
        if self.features is not None:
            return self.features[read.to(captioner.device)]
        mean, std = captioner.image_mean, captioner.image_std
        return normalised_on(captioner.device, read, mean, std)


def seconds_of(bench: Bench, cfg: RunConfig, engine: Engine, rules: str, cached: bool) -> float:
    """Return the median seconds per step of one regime."""
    optimizer = bench.choose(rules)
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    part: Any = BenchPart(bench, cached)
    many = bench.args.batch
    graphs = Graphs(cfg, bench.captioner, engine, part, many, trained)
    scale = 1 / len(bench.texts.targets)

    def step() -> None:
        graphs.run(Micro(list(range(many)), part.read(list(range(many)))), scale)
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)

    repeat = 5 if bench.device.type == "cuda" else 1
    spent = [bench._clock(step, repeat) for _ in range(bench.args.steps + 1)][1:]
    bench.captioner.network.zero_grad(set_to_none=True)
    return statistics.median(spent)


def main() -> None:
    """Measure each regime, print milliseconds and what they mean."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--tokens", type=float, default=40)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--tiny", action="store_true")
    args = parser.parse_args()
    args.notebook = False
    bench = Bench(args)
    cfg = RunConfig(
        optim=OptimConfig(label_smoothing=0.0),
        train=TrainConfig(device=args.device, precision=args.precision, compile=True),
    )
    engine = Engine(cfg.train)
    if bench.device.type == "cuda":
        bench.captioner.compile()
    assert {rules for rules, _ in CASES.values()} == set(RULES)
    seconds = {}
    for name, case in CASES.items():  # told as they come: compiling takes its time
        seconds[name] = seconds_of(bench, cfg, engine, *case)
        print(f"{name:24} {1e3 * seconds[name]:9.2f} ms per step", flush=True)
    result: dict[str, Any] = {f"{name}_s": round(value, 5) for name, value in seconds.items()}
    result["epoch_of_65000_s"] = {
        name: round(value * EPOCH / args.batch, 1) for name, value in seconds.items()
    }
    if bench.device.type == "cuda":
        tokens = sum(map(len, bench.token_ids)) / args.batch
        by_hand = model_gflop(bench.captioner.network.config, tokens)
        limit = gpu_limit()
        result["mfu"] = {
            name: round(by_hand[name] * args.batch / value / 1e3 / limit["bf16_tflops"], 3)
            for name, value in seconds.items()
        }
        result |= {"limit": limit, "device": torch.cuda.get_device_name()}
    print(json.dumps(result))


if __name__ == "__main__":
    main()

"""What one optimizer step costs in each regime, beside stock transformers, at BLIP-base's shapes.

    python benchmarks/train_bench.py                                        # CPU, fp32, batch 4
    python benchmarks/train_bench.py --device cuda --precision bf16 --batch 64 --steps 20

Random weights of BlipConfig's defaults (ViT-B/16 at 384 px, 577 image tokens; 12 decoder layers;
30,524 words), the same batches of ragged captions for all, one process, interleaved rounds.

- stock_full: BlipForConditionalGeneration as transformers runs it, eager attention, pads masked in
  the labels, AdamW on everything. stock_decoder_only: the same with `vision_model` frozen.
- stock_notebook: the widely copied recipe: captions padded to 512, pads trained on (`--notebook`).
- full, decoder_only, encoder_only: ours, pixels in. decoder_only_cached: ours, features in (fp16).

Memory is what one forward pass keeps for the backward pass, counted by storage. Operations are
counted by torch (a multiply-add is two) and by hand. Ends with one JSON line.
"""

from __future__ import annotations

import argparse
import copy
import datetime
import gc
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import transformers
from transformers import (
    BertTokenizer,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessorPil,
    BlipProcessor,
)

from medblip.config import RunConfig
from medblip.flops import flop_counter
from medblip.models.blip import BlipCaptioner
from medblip.models.blip_patches import stock_attention
from medblip.models.freeze import apply_rules, eval_frozen, parameter_groups

START, END, WORDS = 30522, 102, 30524  # as the published BLIP-base
EPOCH = 65_000  # ROCO's training images
RULES: dict[str, list[tuple[str, float | str]]] = {
    "full": [(".", 1e-5)],
    "decoder": [("vision_model", "frozen"), (".", 1e-5)],
    "encoder": [("vision_model", 1e-5), (".", "frozen")],
}


def network_of(tiny: bool) -> Any:
    """Return BLIP with random weights, in transformers' own shape."""
    config = BlipConfig()
    if tiny:
        small = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
                 "num_attention_heads": 4, "projection_dim": 64}  # fmt: skip
        config = BlipConfig(
            text_config={**small, "encoder_hidden_size": 64},
            vision_config={**small, "image_size": 64},
        )
    config.vision_config.initializer_range = 0.02  # its own 1e-10 makes every image look alike
    torch.manual_seed(0)
    return BlipForConditionalGeneration(config)


def processor_of(side: int) -> BlipProcessor:
    """Return a processor whose vocabulary has BLIP's size and special tokens."""
    names = [f"w{i}" for i in range(WORDS)]
    for place, name in ((0, "[PAD]"), (100, "[UNK]"), (101, "[CLS]"), (END, "[SEP]"),
                        (103, "[MASK]"), (START, "[DEC]")):  # fmt: skip
        names[place] = name
    tokenizer = BertTokenizer(vocab={name: i for i, name in enumerate(names)})
    return BlipProcessor(BlipImageProcessorPil(size={"height": side, "width": side}), tokenizer)


def captions_of(batch: int, mean: float, seed: int) -> list[list[int]]:
    """Return token ids of one bucket of captions: nearly as long as each other."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.empty(batch).log_normal_(0, 0.12, generator=generator)
    lengths = (lengths / lengths.mean() * mean).round().clamp(4, 64).int().tolist()
    return [
        [START, *torch.randint(1000, 30000, (n - 2,), generator=generator).tolist(), END]
        for n in lengths
    ]


class Bench:
    """One copy of the weights and one batch; regimes take turns on it."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.device = torch.device(args.device)
        network = network_of(args.tiny)
        side = network.config.vision_config.image_size
        self.captioner = BlipCaptioner(network.to(self.device), processor_of(side))
        self.token_ids = captions_of(args.batch, args.tokens, seed=1)
        self.texts = self.captioner.collate(self.token_ids)
        generator = torch.Generator().manual_seed(2)
        raw = torch.randint(0, 256, (args.batch, 1, side, side), generator=generator)
        self.raw = raw.to(torch.uint8)
        if self.device.type == "cuda":
            self.raw = self.raw.pin_memory()
        self.pixels = self._pixels()
        with torch.no_grad(), self.autocast():
            kept = self.captioner.encode(self.pixels).half()
        many = 8000 if self.device.type == "cuda" and not args.tiny else args.batch
        self.features = kept.repeat(-(-many // args.batch), 1, 1)[:many]
        self.optimizers: dict[str, torch.optim.Optimizer] = {}

    def autocast(self) -> Any:
        """Return the precision's context."""
        return torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.args.precision == "bf16"
        )

    def _pixels(self) -> torch.Tensor:
        from medblip.data.store import normalised_on

        captioner = self.captioner
        return normalised_on(self.device, self.raw, captioner.image_mean, captioner.image_std)

    def choose(self, rules: str) -> torch.optim.Optimizer:
        """Freeze, and return the optimizer of that regime; only one has a state at a time."""
        _, rates = apply_rules(self.captioner.network, RULES[rules])
        self.captioner.network.train()
        eval_frozen(self.captioner.network)
        if rules not in self.optimizers:
            self.optimizers.clear()
            groups = parameter_groups(self.captioner.network, rates, 0.05)
            self.optimizers[rules] = torch.optim.AdamW(groups, fused=True)
        return self.optimizers[rules]

    def stock_loss(self, padded: int = 0) -> torch.Tensor:
        """Return transformers' own loss; `padded`: the notebook's captions, pads trained on."""
        ids, mask, labels = self.texts.input_ids, self.texts.attention_mask, self.texts.labels
        if padded:
            ids = torch.nn.functional.pad(ids, (0, padded - ids.shape[1]))
            mask = torch.nn.functional.pad(mask, (0, padded - mask.shape[1]))
            labels = ids
        return self.captioner.network(
            pixel_values=self.pixels, input_ids=ids, attention_mask=mask, labels=labels
        ).loss

    def our_loss(self, cached: bool) -> torch.Tensor:
        """Return our loss per token, of pixels or of features."""
        if cached:
            rows = torch.randint(len(self.features), (self.args.batch,), device=self.device)
            embeds = self.features[rows]
        else:
            embeds = self.captioner.encode(self._pixels())
        return self.captioner.token_losses(embeds, self.texts, 0.0) / len(self.texts.targets)

    def step(self, loss: Callable[[], torch.Tensor], optimizer: torch.optim.Optimizer) -> None:
        """Do what a training does between two batches."""
        with self.autocast():
            value = loss()
        value.backward()
        trained = [p for group in optimizer.param_groups for p in group["params"]]
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def cases(self) -> dict[str, tuple[str, bool, Callable[[], torch.Tensor]]]:
        """Return name -> (regime, whether attention is stock, loss)."""
        found = {
            "stock_full": ("full", True, self.stock_loss),
            "full": ("full", False, lambda: self.our_loss(False)),
            "stock_decoder_only": ("decoder", True, self.stock_loss),
            "decoder_only": ("decoder", False, lambda: self.our_loss(False)),
            "decoder_only_cached": ("decoder", False, lambda: self.our_loss(True)),
            "encoder_only": ("encoder", False, lambda: self.our_loss(False)),
        }
        if self.args.notebook:
            found["stock_notebook"] = ("full", True, lambda: self.stock_loss(512))
        return found

    def timed(self) -> dict[str, float]:
        """Return the median seconds per step; regimes with one optimizer are interleaved."""
        seconds: dict[str, list[float]] = {}
        rounds = self.args.steps + 1
        for regime in RULES:
            own = {n: c for n, c in self.cases().items() if c[0] == regime}
            for number in range(rounds):
                for name, (rules, stock, loss) in own.items():
                    optimizer = self.choose(rules)
                    spent = self._one(loss, optimizer, stock)
                    if number:
                        seconds.setdefault(name, []).append(spent)
        return {name: statistics.median(values) for name, values in seconds.items()}

    def _one(self, loss: Any, optimizer: torch.optim.Optimizer, stock: bool) -> float:
        repeat = 5 if self.device.type == "cuda" else 1  # so that the queue is full, as in training
        if stock:
            eager = torch.compiler.set_stance("force_eager")
            with stock_attention(self.captioner.network), eager:
                return self._clock(lambda: self.step(loss, optimizer), repeat)
        return self._clock(lambda: self.step(loss, optimizer), repeat)

    def _clock(self, call: Callable[[], None], repeat: int) -> float:
        self.finish()
        begun = time.perf_counter()
        for _ in range(repeat):
            call()
        self.finish()
        return (time.perf_counter() - begun) / repeat

    def finish(self) -> None:
        """Wait for a GPU."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def kept_mb(self, loss: Callable[[], torch.Tensor], stock: bool) -> float:
        """Return what a forward pass keeps for the backward pass, parameters left out."""
        self.choose("full")
        parameters = {p.untyped_storage().data_ptr() for p in self.captioner.network.parameters()}
        kept: dict[int, int] = {}
        alive = []  # or a freed block would be counted as the next one's

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in parameters:
                kept[storage.data_ptr()] = storage.nbytes()
                alive.append(tensor)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x), self.autocast():
            if stock:
                with stock_attention(self.captioner.network):
                    loss()
            else:
                loss()
        return sum(kept.values()) / 1e6

    def peak_mb(self, stock: bool) -> float:
        """Return the GPU's peak during one full step, beyond weights and optimizer."""
        optimizer = self.choose("full")
        _, _, loss = self.cases()["stock_full" if stock else "full"]
        self._one(loss, optimizer, stock)
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        self._one(loss, optimizer, stock)
        return (torch.cuda.max_memory_allocated() - before) / 1e6

    def gflop(self, name: str) -> float:
        """Return GFLOP per image of a step's forward and backward passes, as torch counts them."""
        rules, stock, loss = self.cases()[name]
        self.choose(rules)
        counter = flop_counter()
        with counter:
            with self.autocast():
                if stock:
                    with stock_attention(self.captioner.network):
                        value = loss()
                else:
                    value = loss()
            value.backward()
        self.captioner.network.zero_grad(set_to_none=True)
        return counter.get_total_flops() / 1e9 / self.args.batch

    def agreement(self) -> dict[str, float]:
        """Return how far our loss and gradients are from transformers' own, at the start."""
        self.choose("full")
        network = self.captioner.network
        found = []
        for stock in (True, False):
            loss = self.stock_loss if stock else lambda: self.our_loss(False)
            with self.autocast():
                if stock:
                    with stock_attention(network):
                        value = loss()
                else:
                    value = loss()
            value.backward()
            norms = torch.stack([p.grad.norm() for p in network.parameters() if p.grad is not None])
            found.append((value.item(), norms.norm().item()))
            network.zero_grad(set_to_none=True)
        (stock_loss, stock_norm), (loss_value, norm) = found
        return {"loss": abs(loss_value - stock_loss), "norm": abs(norm / stock_norm - 1)}


def model_gflop(config: Any, tokens: float) -> dict[str, float]:
    """Return GFLOP per image by hand: 2 per multiply-add, backward twice forward if it trains."""
    vision, text = config.vision_config, config.text_config
    d, layers, ff = vision.hidden_size, vision.num_hidden_layers, vision.intermediate_size
    p = (vision.image_size // vision.patch_size) ** 2 + 1
    encoder = layers * 2 * (p * (4 * d * d + 2 * d * ff) + 2 * p * p * d)
    encoder += 2 * (p - 1) * 3 * vision.patch_size**2 * d
    e, t = text.hidden_size, tokens
    layer = t * (4 * e * e + 2 * e * text.intermediate_size) + 2 * t * t * e  # self, feed forward
    layer += t * 2 * e * e + 2 * t * p * e  # cross-attention of the caption's side
    pairs = 2 * p * d * e  # keys and values of the image's side
    head = (t - 1) * e * text.vocab_size + (t - 1) * e * e
    decoder = 2 * (text.num_hidden_layers * layer + head)
    pairs = 2 * text.num_hidden_layers * pairs
    return {
        "full": (3 * encoder + 3 * decoder + 3 * pairs) / 1e9,
        "decoder_only": (encoder + 3 * decoder + 2 * pairs) / 1e9,
        "decoder_only_cached": (3 * decoder + 2 * pairs) / 1e9,
        "encoder_only": (3 * encoder + 2 * decoder + 2 * pairs) / 1e9,
    }


def gpu_limit() -> dict[str, float]:
    """Return the bf16 matrix rate (TFLOP/s) and the copy rate (GB/s) of this GPU, measured."""
    a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    big = torch.empty(2**30, device="cuda", dtype=torch.uint8)
    other = torch.empty_like(big)
    rates = []
    for call, amount in ((lambda: a @ a, 2 * 8192**3), (lambda: other.copy_(big), 2**31)):
        for _ in range(5):
            call()
        torch.cuda.synchronize()
        begun = time.perf_counter()
        for _ in range(30):
            call()
        torch.cuda.synchronize()
        rates.append(amount * 30 / (time.perf_counter() - begun))
    return {"bf16_tflops": rates[0] / 1e12, "copy_gb_per_s": rates[1] / 1e9}


def main() -> None:
    """Measure, print, end with one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--tokens", type=float, default=40, help="per caption, on average")
    parser.add_argument("--steps", type=int, default=3, help="timed, after one that warms up")
    parser.add_argument("--notebook", action="store_true", help="also time the notebook's recipe")
    parser.add_argument("--compile", action="store_true", help="ours: torch.compile per layer")
    parser.add_argument("--tiny", action="store_true", help="seconds instead of minutes")
    args = parser.parse_args()
    RunConfig()
    bench = Bench(args)
    config = copy.deepcopy(bench.captioner.network.config)
    agreement = bench.agreement()
    names = [name for name in bench.cases() if name != "stock_notebook"]
    counted = {name: round(bench.gflop(name), 1) for name in names}
    tokens = sum(map(len, bench.token_ids)) / args.batch
    by_hand = model_gflop(config, tokens)
    memory = {
        "stock_full_activation_mb": bench.kept_mb(bench.stock_loss, True),
        "full_activation_mb": bench.kept_mb(lambda: bench.our_loss(False), False),
    }
    gc.collect()
    if args.compile:
        bench.captioner.compile()
    seconds = bench.timed()
    full, stock = seconds["full"], seconds["stock_full"]
    ratios = {
        "stock_full / full": stock / full,
        "full / decoder_only": full / seconds["decoder_only"],
        "full / decoder_only_cached": full / seconds["decoder_only_cached"],
        "full / encoder_only": full / seconds["encoder_only"],
        "stock_decoder_only / decoder_only_cached": seconds["stock_decoder_only"]
        / seconds["decoder_only_cached"],
        "activations kept": memory["full_activation_mb"] / memory["stock_full_activation_mb"],
    }
    result: dict[str, Any] = {f"{name}_s": round(value, 5) for name, value in seconds.items()}
    result |= {name: round(value, 1) for name, value in memory.items()}
    result |= {
        "gflop_per_image": counted,
        "gflop_per_image_by_hand": {name: round(value, 1) for name, value in by_hand.items()},
        "ratios": {name: round(value, 3) for name, value in ratios.items()},
        "first_loss_differs_by": agreement["loss"],
        "first_gradient_norm_differs_by": agreement["norm"],
        "compiled": args.compile, "batch": args.batch, "tokens": tokens,
        "precision": args.precision,
    }  # fmt: skip
    if bench.device.type == "cuda":
        limit = gpu_limit()
        result["limit"] = {name: round(value, 1) for name, value in limit.items()}
        result["mfu"] = {
            name: round(by_hand[name] * args.batch / seconds[name] / 1e3 / limit["bf16_tflops"], 3)
            for name in by_hand
        }
        result["epoch_of_65000_s"] = {
            name: round(seconds[name] * EPOCH / args.batch, 1) for name in seconds
        }
        result["peak_mb"] = {"stock_full": round(bench.peak_mb(True), 0),
                             "full": round(bench.peak_mb(False), 0)}  # fmt: skip
        device = torch.cuda.get_device_name()
    else:
        device = f"CPU, {torch.get_num_threads()} threads"
    for name, value in seconds.items():
        print(
            f"{name:24} {value:9.4f} s per step {counted.get(name, float('nan')):8.1f} GFLOP/image"
        )
    for name, value in ratios.items():
        print(f"{name:44} {value:6.2f}")
    result |= {"device": device, "torch": torch.__version__}
    result |= {"transformers": transformers.__version__, "date": f"{datetime.date.today()}"}
    print(json.dumps(result))


if __name__ == "__main__":
    main()

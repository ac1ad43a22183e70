"""On a GPU steps are recorded: the captions stay. Not run where there is none."""

from __future__ import annotations

import warnings

import pytest
import torch
from tiny_decoders import blip_network, check_same, images, ours, stock, ved_network

from medblip.config import DecodeConfig
from medblip.models.decode import Search, Special
from medblip.models.decode.blip import BlipStack

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]


@pytest.mark.parametrize("family", ["blip", "vit-gpt2"])
@pytest.mark.parametrize("beams", [1, 3, 5])
def test_tokens_equal_transformers(family: str, beams: int) -> None:
    network = (blip_network(4, end_bias=2) if family == "blip" else ved_network(0)).cuda()
    decode = DecodeConfig(num_beams=beams, max_new_tokens=24, num_captions=beams)
    pixels = images(16, 16).cuda()
    check_same(ours(network, pixels, decode), stock(network, pixels, decode))


@pytest.mark.parametrize(
    "decode",
    [
        DecodeConfig(max_new_tokens=24),
        DecodeConfig(max_new_tokens=24, repetition_penalty=1.3, no_repeat_ngram_size=2),
        DecodeConfig(max_new_tokens=24, num_beams=1),
        DecodeConfig(max_new_tokens=24, num_beams=1, sample=True, num_captions=3, top_p=0.9),
    ],
    ids=["beams", "rules", "greedy", "draws"],
)
def test_recorded_steps_say_what_plain_ones_say(decode: DecodeConfig) -> None:
    network = blip_network(4, end_bias=2).cuda()
    stack = BlipStack(network.text_decoder)
    with torch.inference_mode():
        batches = [
            network.vision_model(pixel_values=images(n, seed).cuda()).last_hidden_state
            for seed, n in enumerate((16, 16, 16, 5, 5, 5))
        ]
        search = Search(
            stack, decode, Special(3, 0), room=16, image_tokens=17, prompt=2, like=batches[0]
        )
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for embeds in batches:
                names = [str(i) for i in range(len(embeds))]
                heads = [[5, 9], [5, 9]] * 8 if len(embeds) > 5 else [[5], [5, 9], [5], [5], [5, 9]]
                heads = heads[: len(embeds)]  # of one length, then of two: two recordings
                fresh = Search(
                    stack, decode, Special(3, 0), room=16, image_tokens=17, prompt=2, like=embeds
                ).run(embeds, heads, names)
                check_same(search.run(embeds, heads, names), fresh)
    assert any(search._replays._graphs.values()), "nothing was recorded"

"""The lines of Python that caption an image with what a run saved, per family of transformers."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from medblip.config import DecodeConfig

__all__ = ["family_name", "overrides", "snippet", "unlike"]

#: `model_type` -> the network that asks a Q-Former, as transformers names it.
_QFORMERS = {
    "blip-2": "Blip2ForConditionalGeneration",
    "instructblip": "InstructBlipForConditionalGeneration",
}
#: What `generate` does where neither the call nor generation_config.json says anything.
_STOCK = {
    "do_sample": False, "min_new_tokens": 0, "repetition_penalty": 1.0, "no_repeat_ngram_size": 0,
    "length_penalty": 1.0, "early_stopping": False, "temperature": 1.0, "top_k": 50, "top_p": 1.0,
}  # fmt: skip
#: Settings of `[decode]` that change no caption: how many are computed at a time, and are kept.
_SILENT = {"batch_size", "num_captions"}
_NAMES = {
    "blip": "BLIP", "blip-2": "BLIP-2", "instructblip": "InstructBLIP",
    "vision-encoder-decoder": "vision encoder and text decoder",
}  # fmt: skip


def family_name(model_type: str) -> str:
    """Return what a family is called in words."""
    return _NAMES.get(model_type, model_type)


def overrides(decode: dict[str, Any]) -> list[str]:
    """Return the settings that medblip would not take by itself, as its `overrides`."""
    usual = dataclasses.asdict(DecodeConfig())
    return [
        f"decode.{key}={json.dumps(value)}"
        for key, value in decode.items()
        if key in usual
        and value != usual[key]
        and (key not in _SILENT or (key == "num_captions" and decode.get("sample")))
    ]


def unlike(decode: dict[str, Any]) -> list[str]:
    """Return, in words, what of the settings transformers has no setting for."""
    found = []
    if decode.get("sample"):
        found.append(
            "The captions that were scored are drawn: medblip's draws are decided by `decode.seed` "
            "and the image's id. Plain transformers has no such setting, and words an image "
            "otherwise at each call."
        )
        if decode.get("num_captions", 1) > 1:
            found.append(f"The caption is the likeliest of {int(decode['num_captions'])} draws; "
                         "the lines for plain transformers draw one.")  # fmt: skip
    if decode.get("close_up"):
        found.append("`decode.close_up` took out blanks inside words (x - ray: x-ray); the lines "
                     "for plain transformers leave them.")  # fmt: skip
    if decode.get("precision") == "bf16":
        found.append("They were written in bf16; the lines for plain transformers compute in fp32, "
                     "and word some captions otherwise.")  # fmt: skip
    return found


def snippet(
    where: str, model_type: str, prompt: str, decode: dict[str, Any], *, chats: bool = True,
    stored: dict[str, Any] | None = None,
) -> str:  # fmt: skip
    """Return Python that captions `image.png`.

    Args:
        where: Hub id or folder.
        model_type: Of the saved network.
        prompt: That it was trained with.
        decode: The run's decoding settings.
        chats: Whether its processor has a template for conversations; base models have none.
        stored: Content of generation_config.json, which `generate` obeys and medblip does not.
    """
    options = _options(decode, stored or {})
    if model_type == "vision-encoder-decoder":
        return _encoder_decoder(where, options)
    if model_type in _QFORMERS:
        return _qformer(where, _QFORMERS[model_type], prompt, options)
    if model_type == "blip":
        ask = f"text={prompt!r}, " if prompt else ""
        return "\n".join([
            "from PIL import Image",
            "from transformers import BlipForConditionalGeneration, BlipProcessor",
            "",
            f"processor = BlipProcessor.from_pretrained({where!r})",
            f"model = BlipForConditionalGeneration.from_pretrained({where!r}).eval()",
            'image = Image.open("image.png").convert("RGB")',
            f'inputs = processor(images=image, {ask}return_tensors="pt")',
            f"ids = model.generate(**inputs, {options})",
            "print(processor.decode(ids[0], skip_special_tokens=True))",
        ])  # fmt: skip
    return _conversation(where, prompt, options, chats)


def _options(decode: dict[str, Any], stored: dict[str, Any]) -> str:
    """Return the arguments of `generate`: every setting that it would not take by itself."""
    given = dataclasses.asdict(DecodeConfig()) | decode
    how = {
        "do_sample": given["sample"], "min_new_tokens": given["min_new_tokens"],
        "repetition_penalty": given["repetition_penalty"],
        "no_repeat_ngram_size": given["no_repeat_ngram_size"],
    }  # fmt: skip
    if given["num_beams"] > 1:
        how |= {"length_penalty": given["length_penalty"], "early_stopping": False}
    if given["sample"]:
        how |= {key: given[key] for key in ("temperature", "top_k", "top_p")}
    by_itself = _STOCK | {key: value for key, value in stored.items() if value is not None}
    always = {key: int(given[key]) for key in ("num_beams", "max_new_tokens")}
    more = {key: value for key, value in how.items() if value != by_itself[key]}
    return ", ".join(f"{key}={value!r}" for key, value in (always | more).items())


def _conversation(where: str, prompt: str, options: str, chats: bool) -> str:
    said = [
        f'turn = [{{"type": "image"}}, {{"type": "text", "text": {prompt!r}}}]',
        'chat = [{"role": "user", "content": turn}]',
        "text = processor.apply_chat_template(chat, add_generation_prompt=True)",
    ] if chats else [
        f'text = getattr(processor, "image_token", "<image>") + {prompt!r}',
    ]  # fmt: skip
    return "\n".join([
        "from PIL import Image",
        "from transformers import AutoModelForImageTextToText, AutoProcessor",
        "",
        f"processor = AutoProcessor.from_pretrained({where!r})",
        f"model = AutoModelForImageTextToText.from_pretrained({where!r}).eval()",
        'image = Image.open("image.png").convert("RGB")',
        *said,
        'inputs = processor(images=image, text=text, return_tensors="pt")',
        f"ids = model.generate(**inputs, {options})[:, inputs['input_ids'].shape[1] :]",
        "print(processor.batch_decode(ids, skip_special_tokens=True)[0])",
    ])  # fmt: skip


def _encoder_decoder(where: str, options: str) -> str:
    return "\n".join([
        "from PIL import Image",
        "from transformers import AutoImageProcessor, AutoTokenizer, VisionEncoderDecoderModel",
        "",
        f"images = AutoImageProcessor.from_pretrained({where!r})",
        f"tokenizer = AutoTokenizer.from_pretrained({where!r})",
        f"model = VisionEncoderDecoderModel.from_pretrained({where!r}).eval()",
        'image = Image.open("image.png").convert("RGB")',
        'pixels = images(image, return_tensors="pt").pixel_values',
        f"ids = model.generate(pixels, {options})",
        "print(tokenizer.decode(ids[0], skip_special_tokens=True))",
    ])  # fmt: skip


def _qformer(where: str, network: str, prompt: str, options: str) -> str:
    """Put the places of the image before the prompt, as the run did in training."""
    reads = network.startswith("Instruct")  # the Q-Former reads the prompt as well
    more = [
        f"reader = AutoTokenizer.from_pretrained({where!r}, subfolder='qformer_tokenizer')",
        f"read = reader({prompt!r}, return_tensors='pt')",
        "asked = {'qformer_input_ids': read.input_ids,",
        "         'qformer_attention_mask': read.attention_mask}",
    ] if reads else ["asked = {}"]  # fmt: skip
    return "\n".join([
        "import torch",
        "from PIL import Image",
        f"from transformers import AutoImageProcessor, AutoTokenizer, {network}",
        "",
        f"images = AutoImageProcessor.from_pretrained({where!r})",
        f"tokenizer = AutoTokenizer.from_pretrained({where!r})",
        f"model = {network}.from_pretrained({where!r}).eval()",
        'image = Image.open("image.png").convert("RGB")',
        'pixels = images(image, return_tensors="pt").pixel_values',
        f'words = tokenizer({prompt!r}, return_tensors="pt").input_ids',
        "places = torch.full((1, model.config.num_query_tokens), model.config.image_token_index)",
        "ids = torch.cat((places, words), 1)",
        *more,
        "out = model.generate(pixel_values=pixels, input_ids=ids,",
        f"                     attention_mask=torch.ones_like(ids), **asked, {options})",
        "new = out[0, ids.shape[1] :] if model.config.use_decoder_only_language_model else out[0]",
        "print(tokenizer.decode(new, skip_special_tokens=True))",
    ])  # fmt: skip

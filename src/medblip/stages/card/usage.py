"""The lines of Python that caption an image with what a run saved, per family of transformers."""

from __future__ import annotations

from typing import Any

__all__ = ["family_name", "snippet"]

#: `model_type` -> (what to import, its processor, its network), as transformers names them.
_CLASSES = {
    "blip": ("BlipProcessor", "BlipForConditionalGeneration"),
    "blip-2": ("Blip2Processor", "Blip2ForConditionalGeneration"),
    "instructblip": ("InstructBlipProcessor", "InstructBlipForConditionalGeneration"),
}
_NAMES = {
    "blip": "BLIP", "blip-2": "BLIP-2", "instructblip": "InstructBLIP",
    "vision-encoder-decoder": "vision encoder and text decoder",
}  # fmt: skip


def family_name(model_type: str) -> str:
    """Return what a family is called in words."""
    return _NAMES.get(model_type, model_type)


def snippet(where: str, model_type: str, prompt: str, decode: dict[str, Any]) -> str:
    """Return Python that captions `image.png`.

    Args:
        where: Hub id or folder.
        model_type: Of the saved network.
        prompt: That it was trained with.
        decode: The run's decoding settings.
    """
    options = f"num_beams={int(decode.get('num_beams', 3))}, " \
              f"max_new_tokens={int(decode.get('max_new_tokens', 64))}"  # fmt: skip
    if model_type == "vision-encoder-decoder":
        return _encoder_decoder(where, options)
    if model_type in _CLASSES:
        processor, network = _CLASSES[model_type]
        ask = f"text={prompt!r}, " if prompt or model_type != "blip" else ""
        return "\n".join([
            "from PIL import Image",
            f"from transformers import {network}, {processor}",
            "",
            f"processor = {processor}.from_pretrained({where!r})",
            f"model = {network}.from_pretrained({where!r}).eval()",
            'image = Image.open("image.png").convert("RGB")',
            f'inputs = processor(images=image, {ask}return_tensors="pt")',
            f"ids = model.generate(**inputs, {options})",
            "print(processor.decode(ids[0], skip_special_tokens=True))",
        ])  # fmt: skip
    return "\n".join([
        "from PIL import Image",
        "from transformers import AutoModelForImageTextToText, AutoProcessor",
        "",
        f"processor = AutoProcessor.from_pretrained({where!r})",
        f"model = AutoModelForImageTextToText.from_pretrained({where!r}).eval()",
        'image = Image.open("image.png").convert("RGB")',
        f'turn = [{{"type": "image"}}, {{"type": "text", "text": {prompt!r}}}]',
        'chat = [{"role": "user", "content": turn}]',
        "text = processor.apply_chat_template(chat, add_generation_prompt=True)",
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

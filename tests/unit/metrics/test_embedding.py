"""BERTScore and sentence cosine through tiny random encoders that are built here."""

from __future__ import annotations

import itertools
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from medblip.errors import CheckpointError
from medblip.metrics.embedding import bertscore, encoders
from medblip.metrics.embedding.bertscore import bertscore_statistics
from medblip.metrics.embedding.cosine import cosine_statistics
from medblip.metrics.embedding.encoders import forget_encoders, open_encoder

WORDS = ["chest", "x-ray", "ct", "of", "the", "left", "right", "lung", "with", "nodule", "no",
         "effusion", "normal", "liver", "mri", "knee", "."]  # fmt: skip
HYPOTHESES = [
    "chest x-ray with left nodule", "ct of the liver", "", "normal knee mri", "ct of the liver",
    "no effusion .", "nodule", "chest ct of the right lung with the nodule and unknown words",
]  # fmt: skip
REFERENCES = [
    ["chest x-ray with right nodule", "left lung nodule"], ["mri of the liver"], ["normal chest"],
    [""], ["ct of the liver"], ["no effusion", "", "effusion of the left lung"],
    ["ct of the chest with right lung nodule and effusion of the left lung", "nodule"], ["ct"],
]  # fmt: skip
KINDS = ["bert", "roberta", "deberta", "gpt2", "t5"]


@pytest.fixture(autouse=True)
def _nothing_open() -> None:
    forget_encoders()


def plain_states(folder: Path, kind: str, text: str, layer: int) -> np.ndarray[Any, Any]:
    """Return the hidden states of one text, from the whole network, nothing else in the batch."""
    model = transformers.T5EncoderModel if kind == "t5" else transformers.AutoModel
    network = model.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(text)["input_ids"]
    with torch.inference_mode():
        states = network(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states
    return states[layer][0].numpy().astype(np.float64)


@pytest.mark.parametrize("kind", KINDS)
def test_every_architecture(tiny: Callable[[str], Path], kind: str) -> None:
    """Same captions score 1, empty ones 0, and neither batch nor neighbours change a value."""
    model = str(tiny(kind))
    one = bertscore_statistics(HYPOTHESES, REFERENCES, model=model, batch_size=1).per_image()
    forget_encoders()
    many = bertscore_statistics(HYPOTHESES, REFERENCES, model=model, batch_size=64).per_image()
    forget_encoders()
    alone = [
        bertscore_statistics([said], [captions], model=model).per_image()[0]
        for said, captions in zip(HYPOTHESES, REFERENCES, strict=True)
    ]
    np.testing.assert_allclose(many, one, rtol=0, atol=1e-6)
    np.testing.assert_allclose(many, alone, rtol=0, atol=1e-6)
    np.testing.assert_allclose(many[[4, 6]], 1.0, rtol=0, atol=1e-6)
    assert (many[[2, 3]] == 0).all()
    assert (many[[0, 1, 5, 7], 2] < 0.999).all()
    cosine = cosine_statistics(HYPOTHESES, REFERENCES, model=model, batch_size=3).per_image()[:, 0]
    np.testing.assert_allclose(cosine[[4, 6]], 1.0, rtol=0, atol=1e-6)
    assert (cosine[[2, 3]] == 0).all()
    assert (cosine[[0, 1, 5, 7]] < 0.9999).all()


@pytest.mark.parametrize("kind", ["bert", "deberta"])
@pytest.mark.parametrize("layer", [1, 3, 4])
def test_layer_against_the_whole_network(
    tiny: Callable[[str], Path], kind: str, layer: int
) -> None:
    """The network cut off above a layer gives that layer's states; matching written out."""
    folder = tiny(kind)
    said, true = "chest x-ray with left nodule", "no effusion of the lung"
    found = bertscore_statistics([said], [[true]], model=str(folder), layer=layer).per_image()[0]
    rows = [plain_states(folder, kind, text, layer) for text in (said, true)]
    a, b = (states / np.linalg.norm(states, axis=1, keepdims=True) for states in rows)
    precision = np.mean([max(x @ y for y in b) for x in a[1:-1]])
    recall = np.mean([max(x @ y for x in a) for y in b[1:-1]])
    expected = [precision, recall, 2 * precision * recall / (precision + recall)]
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("kind", ["bert", "roberta", "deberta", "t5"])
@pytest.mark.parametrize("idf", [False, True])
def test_same_as_bert_score(
    tiny: Callable[[str], Path], tmp_path: Path, kind: str, idf: bool
) -> None:
    reference = pytest.importorskip("bert_score", reason="needs bert-score to compare with")
    folder = tmp_path / f"tiny-{kind}"  # bert-score finds a T5 by its path
    shutil.copytree(tiny(kind), folder)
    told = json.loads((folder / "tokenizer_config.json").read_text())
    told["model_max_length"] = 40  # without a limit bert-score fails
    (folder / "tokenizer_config.json").write_text(json.dumps(told))
    if kind == "roberta":  # in transformers 5 a tokenizer is not told by encode(add_prefix_space=)
        spaced = transformers.AutoTokenizer.from_pretrained(folder, add_prefix_space=True)
        spaced.save_pretrained(folder)
    kept = [i for i in range(len(HYPOTHESES)) if HYPOTHESES[i] and all(REFERENCES[i])]
    if kind == "t5":  # one word and </s> are two tokens: an empty text to bert-score
        kept = [i for i in kept if i not in (6, 7)]
    said, true = [HYPOTHESES[i] for i in kept], [REFERENCES[i] for i in kept]
    for layer in (2, 4):
        ours = bertscore_statistics(said, true, model=str(folder), layer=layer, idf=idf)
        theirs = reference.score(
            said, true, model_type=str(folder), num_layers=layer, idf=idf, nthreads=0, device="cpu"
        )
        expected = torch.stack(theirs, dim=1).numpy()
        np.testing.assert_allclose(ours.per_image(), expected, rtol=0, atol=1e-5)


def test_a_negative_similarity_stays_negative() -> None:
    """A padded batch of bert-score makes it 0, and the value depends on the neighbours."""
    said, true = np.array([[1.0, 0.0]], np.float32), np.array([[-0.6, 0.8]], np.float32)
    found = bertscore._match(said, true, np.ones(1), np.ones(1))
    np.testing.assert_allclose(found, [-0.6, -0.6, -0.6], rtol=0, atol=1e-7)


def test_idf_weights_by_hand(tiny: Callable[[str], Path]) -> None:
    encoder = open_encoder(str(tiny("bert")))
    documents = ["ct of the liver", "ct of the knee", "ct ct"]
    ids = encoder.token_ids([*documents, "ct liver mri"])
    found = bertscore._weights(encoder, ids, documents)["ct liver mri"]
    expected = [0, math.log(4 / 4), math.log(4 / 2), math.log(4 / 1), 0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    counted = bertscore._weights(encoder, ids, None)["ct liver mri"]
    assert counted.tolist() == [0, 1, 1, 1, 0]


def test_weights_that_are_all_zero_score_0(tiny: Callable[[str], Path]) -> None:
    """With one reference the idf of its words is log(2 / 2): not a number in bert-score."""
    text = ["ct of the liver"]
    found = bertscore_statistics(text, [text], model=str(tiny("bert")), idf=True)
    assert found.per_image().tolist() == [[0, 0, 0]]


def test_each_value_takes_its_best_reference(tiny: Callable[[str], Path]) -> None:
    model = str(tiny("bert"))
    said = "chest x-ray with left nodule"
    captions = [
        "chest x-ray with left nodule and liver , knee , mri , lung .",
        "chest x-ray",
        "mri",
    ]
    both = bertscore_statistics([said], [captions], model=model, layer=1).per_image()[0]
    single = bertscore_statistics([said] * 3, [[text] for text in captions], model=model, layer=1)
    np.testing.assert_allclose(both, single.per_image().max(axis=0), rtol=0, atol=1e-6)
    assert single.per_image()[:, :2].argmax(axis=0).tolist() == [0, 1]
    cosine = cosine_statistics([said], [captions], model=model).per_image()[0]
    each = cosine_statistics([said] * 3, [[c] for c in captions], model=model).per_image()
    np.testing.assert_allclose(cosine, each.max(axis=0), rtol=0, atol=1e-6)


def test_statistics_carry_means_and_a_signature(tiny: Callable[[str], Path]) -> None:
    model = str(tiny("bert"))
    found = bertscore_statistics(HYPOTHESES, REFERENCES, model=model, idf=True)
    assert found.metric.names == ("BERTScore-P", "BERTScore-R", "BERTScore-F1")
    np.testing.assert_allclose(found.corpus(), found.per_image().mean(axis=0), rtol=0, atol=1e-12)
    version = transformers.__version__
    ends = f"|layer:3|len:40|fp32|transformers:{version}|idf:references|rescale:no"
    assert found.metric.signature.startswith("model:tiny-bert#")
    assert found.metric.signature.endswith(ends)
    cosine = cosine_statistics(HYPOTHESES, REFERENCES, model=model)
    assert cosine.metric.names == ("sentence-cosine",)
    assert cosine.values.shape == (len(HYPOTHESES), 2)
    assert "|pool:mean|" in cosine.metric.signature


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gets the number of texts of each forward pass."""
    calls: list[int] = []
    forward = encoders.Encoder._forward

    def counting(self: encoders.Encoder, ids: Any) -> Any:
        calls.append(len(ids))
        return forward(self, ids)

    monkeypatch.setattr(encoders.Encoder, "_forward", counting)
    return calls


def test_each_text_is_encoded_once(
    tiny: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the blocks; a second system costs its new captions only."""
    calls = counted(monkeypatch)
    model = str(tiny("bert"))
    texts = [" ".join(pair) for pair in itertools.permutations(WORDS[:7], 2)]
    said = [texts[i % 9] for i in range(40)]
    true = [[texts[9 + i], texts[9 + (i * 7) % 25]] for i in range(25)] + [[t] for t in texts[9:24]]
    whole = bertscore_statistics(said, true, model=model).values
    distinct = len({*said, *itertools.chain(*true)})
    assert sum(calls) == distinct
    forget_encoders()
    calls.clear()
    monkeypatch.setattr(bertscore, "_BLOCK_BYTES", 4 * 32 * 30)  # about three images
    np.testing.assert_allclose(
        bertscore_statistics(said, true, model=model).values, whole, rtol=0, atol=1e-6
    )
    assert sum(calls) == distinct
    calls.clear()
    bertscore_statistics(["liver", *said[1:]], true, model=model)
    assert sum(calls) == 1 + len(set(said))  # the references are there already
    calls.clear()
    cosine_statistics(said, true, model=model)
    cosine_statistics(said, true, model=model)
    assert sum(calls) == distinct + len(set(said))


def test_memory_is_bounded(tiny: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    model = str(tiny("bert"))
    whole = bertscore_statistics(HYPOTHESES, REFERENCES, model=model).values
    forget_encoders()
    monkeypatch.setattr(encoders, "_KEPT_BYTES", 2000)
    monkeypatch.setattr(bertscore, "_BLOCK_BYTES", 1)
    again = bertscore_statistics(HYPOTHESES, REFERENCES, model=model).values
    np.testing.assert_allclose(again, whole, rtol=0, atol=1e-6)
    kept = open_encoder(model)._kept
    assert 0 < sum(vectors.nbytes for vectors in kept.values()) <= 2000
    bertscore_statistics(["ct"], [["mri"]], model=model)
    assert list(kept) != list(open_encoder(model)._kept) == ["mri"]  # of the last call only


def test_long_texts_make_smaller_batches(
    tiny: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = counted(monkeypatch)
    monkeypatch.setattr(encoders, "_BATCH_TOKENS", 40)
    long = [f"ct {word} " + "of " * 60 for word in WORDS[:3]]
    found = bertscore_statistics(long + WORDS[:8], [["ct"]] * 11, model=str(tiny("bert")))
    assert calls[:3] == [1, 1, 1]
    assert max(calls) > 5
    assert np.isfinite(found.values).all()


@pytest.mark.parametrize("kind", KINDS)
def test_long_texts_are_cut_at_the_positions(tiny: Callable[[str], Path], kind: str) -> None:
    """RoBERTa's 42 rows are 40 places; the tokenizers here have no limit of their own."""
    encoder = open_encoder(str(tiny(kind)))
    assert encoder.longest == {"bert": 40, "roberta": 40, "t5": 512}.get(kind, 64)
    text = "ct of the liver " * 200
    found = bertscore_statistics([text], [[text + "and knee" * 9]], model=str(tiny(kind)))
    np.testing.assert_allclose(found.per_image()[0], 1.0, rtol=0, atol=1e-6)


def test_spaces_before_the_first_word(tiny: Callable[[str], Path]) -> None:
    """RoBERTa and GPT-2 get one for BERTScore; DeBERTa does not, nor does a sentence vector."""
    space = "Ġ"
    for kind in ("roberta", "gpt2"):
        encoder = open_encoder(str(tiny(kind)))
        ids = encoder.token_ids(["ct", "  ct "])
        assert ids["ct"] == ids["  ct "]
        assert space in encoder.tokenizer.convert_ids_to_tokens(ids["ct"])
    for kind, pooled in (("roberta", True), ("deberta", False), ("gpt2", True)):
        encoder = open_encoder(str(tiny(kind)), pooled=pooled)
        ids = encoder.token_ids(["ct", "  ct "])
        assert ids["ct"] == ids["  ct "]
        assert space not in encoder.tokenizer.convert_ids_to_tokens(ids["ct"])


@pytest.mark.parametrize("kind", KINDS)
def test_odd_texts_give_numbers(tiny: Callable[[str], Path], kind: str) -> None:
    texts = [
        "",
        " \t\n",
        "\u200b",
        "[SEP]",
        "[CLS] [SEP]",
        "\U0001fa7b",
        "ct " * 400,
        "mri of liver",
    ]
    said, true = zip(*itertools.product(texts, texts), strict=True)
    for found in (
        bertscore_statistics(said, [[t] for t in true], model=str(tiny(kind))),
        bertscore_statistics(said, [[t] for t in true], model=str(tiny(kind)), idf=True),
        cosine_statistics(said, [[t] for t in true], model=str(tiny(kind))),
    ):
        assert np.isfinite(found.values).all()
        assert (np.abs(found.values) < 1 + 1e-5).all()


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_cosine_sentence_by_sentence(
    tiny: Callable[[str], Path], tmp_path: Path, pooling: str
) -> None:
    """Pooling as a sentence-transformers folder says, in its old and its new spelling."""
    folder = tmp_path / "sentences"
    shutil.copytree(tiny("bert"), folder)
    (folder / "1_Pooling").mkdir()
    types = ["Transformer", "Pooling", "Normalize"]
    modules = [{"type": f"sentence_transformers.models.{name}"} for name in types]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 6}')
    said, true = "chest x-ray with left nodule of the lung", "no effusion ."
    rows = [
        plain_states(folder, "bert", "chest x-ray", 4),  # six tokens: the rest is cut off
        plain_states(folder, "bert", true, 4),
    ]
    a, b = (states.mean(axis=0) if pooling == "mean" else states[0] for states in rows)
    expected = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    old = {f"pooling_mode_{way}": way.startswith(pooling) for way in ("cls_token", "mean_tokens")}
    for told in (old | {"include_prompt": True}, {"pooling_mode": pooling}):
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(told))
        found = cosine_statistics([said], [[true]], model=str(folder))
        assert found.corpus()[0] == pytest.approx(expected, abs=1e-6)
        assert f"|pool:{pooling}|len:6|" in found.metric.signature
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_max_tokens": true}')
    with pytest.raises(CheckpointError, match="max"):
        cosine_statistics([said], [[true]], model=str(folder))
    modules.append({"type": "sentence_transformers.models.Dense"})
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(CheckpointError, match="Dense"):
        cosine_statistics([said], [[true]], model=str(folder))

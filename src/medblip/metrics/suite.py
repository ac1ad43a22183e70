"""Which metrics a protocol computes, and all of them at once for one system.

A part that cannot be computed here (no Java, no weights, a scorer that failed) is named with its
reason; it never takes the other metrics with it and is never imputed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from medblip.errors import MedblipError, MetricError, explain
from medblip.metrics.base import Floats, Ratio, Statistics, mean_statistics
from medblip.metrics.imageclef import (
    COMPONENTS,
    Year,
    imageclef_statistics,
    normalise,
    with_empty_captions,
)
from medblip.metrics.table import (
    DEFINITIONS,
    TOKENIZERS,
    Tokenizer,
    fact_families,
    lexical_families,
    references_note,
    token_pairs,
)

if TYPE_CHECKING:
    from medblip.metrics.concepts import ConceptTable

__all__ = ["Computed", "Material", "Protocol", "Suite", "compute"]

BERTSCORE = "BERTScore-F1(imageclef)"
_CHALLENGE_ENCODER = "deberta-xlarge-mnli"
#: What an external scorer calls a component of the challenge.
_COMPONENT_OF = {"medcat-image-F1": "MedCAT-F1"}
#: How the scorer of a component is named; for similarity there is no ready adapter.
_SCORER_OF = {
    "BLEURT": "--scorer bleurt=ENV/bin/python",
    "AlignScore": "--scorer alignscore=ENV/bin/python",
    "MedCAT-F1": "--scorer medcat=ENV/bin/python",
    "similarity": "--scorer similarity=COMMAND, your own, with a column `similarity`",
}

Protocol = Literal["caption", "imageclef", "all"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Suite:
    """Which metrics to compute.

    Args:
        protocol: `caption` (overlap and clinical audit), `imageclef` (the challenge's parts) or
            `all`.
        year: Rules of ImageCLEFmedical Caption, 2025 or 2026.
        tokenizer: `ptb`, or `none` where captions and references are tokens already.
        meteor: None: when its extra is installed.
        bertscore: Encoder: preset, local folder or hub id; None: only where the protocol needs it.
        idf: Weight BERTScore's tokens by the references' idf.
        cosine: Encoder for the cosine of sentence embeddings; None: not computed.
        concepts: Table of `fit_concepts`, or its file; None: no concept F1.
        scorers: External scorers as the command line names them, `NAME=PYTHON` or `NAME=COMMAND`.
        scorer_config: TOML file that names scorers and their environments.
        device: Of the encoders.
        force: Score concepts although the table was fitted on these images.
    """

    protocol: Protocol = "caption"
    year: Year = 2026
    tokenizer: Tokenizer = "ptb"
    meteor: bool | None = None
    bertscore: str | None = None
    idf: bool = False
    cosine: str | None = None
    concepts: Path | ConceptTable | None = None
    scorers: tuple[str, ...] = ()
    scorer_config: Path | None = None
    device: str = "auto"
    force: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            MetricError: An unknown protocol, tokenizer or year, or an option without its metric.
        """
        for name, value, known in (
            ("protocol", self.protocol, get_args(Protocol)),
            ("tokenizer", self.tokenizer, get_args(Tokenizer)),
            ("year", self.year, get_args(Year)),
        ):
            if value not in known:
                expected = ", ".join(map(str, known))
                raise MetricError(
                    explain(
                        f"unknown {name}", got=value, expected=expected, do="choose one of these"
                    )
                )
        if self.idf and self.bertscore is None:
            raise MetricError(
                explain(
                    "idf without BERTScore",
                    got="--idf",
                    expected="an encoder, e.g. --bertscore bioclinicalbert",
                    do="name one, or leave --idf out",
                )
            )


@dataclasses.dataclass(frozen=True)
class Material:
    """What is scored; all in the same order.

    Args:
        ids: Image ids.
        captions: One per image.
        references: At least one per image.
        facts: Known facts per image, or None.
        images: Image files, or None.
        concepts: Concepts that are known of each image, or None.
    """

    ids: Sequence[str]
    captions: Sequence[str]
    references: Sequence[Sequence[str]]
    facts: Sequence[dict[str, Any]] | None = None
    images: Sequence[Path] | None = None
    concepts: Sequence[set[str]] | None = None


@dataclasses.dataclass
class Computed:
    """Statistics by family, and why parts are absent.

    Args:
        families: In the order of a table.
        unavailable: Part -> reason, with what to install where that helps.
        failed: Scorer -> image id -> message, where a scorer failed on some images only.
        scored: Metric -> images that have a value, where that is not all of them.
        corpus: Values without any per image: no interval, no test.
        notes: What a reader of the scores must know.
    """

    families: dict[str, Statistics] = dataclasses.field(default_factory=dict)
    unavailable: dict[str, str] = dataclasses.field(default_factory=dict)
    failed: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)
    scored: dict[str, int] = dataclasses.field(default_factory=dict)
    corpus: dict[str, float] = dataclasses.field(default_factory=dict)
    notes: list[str] = dataclasses.field(default_factory=list)


def compute(suite: Suite, material: Material) -> Computed:
    """Compute every family that the suite asks for.

    Raises:
        MetricError: A part that was asked for by name cannot be computed, or the set is empty.
        CheckpointError: An encoder that was asked for by name is not here.
    """
    found = Computed()
    _check_meteor(suite)
    if suite.protocol == "imageclef":
        found.families |= lexical_families(material.captions, material.references, metrics=())
        if suite.meteor:
            _meteor(suite, material, found)
    else:
        _overlap(suite, material, found)
    _encoders(suite, material, found)
    _concepts(suite, material, found)
    scored = _scorers(suite, material, found)
    if suite.protocol != "caption":
        _imageclef(suite, material, found, scored)
    own = f"{references_note(material.references)}|{DEFINITIONS}"
    for name, family in found.families.items():
        if own not in family.context:
            context = "|".join(filter(None, (family.context, own)))
            found.families[name] = Statistics(family.metric, family.values, context)
    return found


def _check_meteor(suite: Suite) -> None:
    """Fail before the long work, not after it, where METEOR was asked for and is not there."""
    from medblip.metrics.meteor import meteor_available

    why = meteor_available() if suite.meteor else None
    if why is not None:
        raise MetricError(
            explain(
                "METEOR was asked for and is not installed",
                got=why.splitlines()[0],
                expected="the published program and a Java",
                do="pip install 'medblip[meteor]', or leave --meteor out",
            )
        )


def _overlap(suite: Suite, material: Material, found: Computed) -> None:
    """BLEU, ROUGE-L, CIDEr, METEOR, known facts and the clinical audit."""
    from medblip.metrics.audit import audit_statistics

    texts = material.captions, material.references
    found.families |= lexical_families(*texts, tokenizer=suite.tokenizer)
    if suite.meteor is not False:
        _meteor(suite, material, found)
    if material.facts is not None:
        found.families |= fact_families(material.captions, material.facts)
    found.families |= audit_statistics(material.captions, material.references)


def _meteor(suite: Suite, material: Material, found: Computed) -> None:
    from medblip.metrics.meteor import meteor_available, meteor_statistics

    why = meteor_available()
    if why is None:
        pairs = token_pairs(material.captions, material.references, suite.tokenizer)
        try:
            meteor = meteor_statistics(pairs.hypotheses, pairs.references)
            context = f"tok:{TOKENIZERS[suite.tokenizer]}"
            found.families["Meteor"] = Statistics(meteor.metric, meteor.values, context)
        except MetricError as error:
            if suite.meteor:
                raise
            why = str(error)
    if why is not None:
        found.unavailable["METEOR"] = why


def _encoders(suite: Suite, material: Material, found: Computed) -> None:
    # In the challenge its own encoder scores normalised text: once is enough.
    if suite.bertscore is not None and not (
        suite.protocol == "imageclef" and _is_of_the_challenge(suite.bertscore)
    ):
        from medblip.metrics.embedding.bertscore import bertscore_statistics

        found.families["BertScore"] = bertscore_statistics(
            material.captions, material.references, model=suite.bertscore, idf=suite.idf,
            device=suite.device,
        )  # fmt: skip
    if suite.cosine is not None:
        from medblip.metrics.embedding.cosine import cosine_statistics

        found.families["Cosine"] = cosine_statistics(
            material.captions, material.references, model=suite.cosine, device=suite.device
        )


def _concepts(suite: Suite, material: Material, found: Computed) -> None:
    from medblip.metrics.concepts import concept_statistics, load_concepts

    table = load_concepts(suite.concepts) if isinstance(suite.concepts, Path) else suite.concepts
    if table is not None:
        table.refuse_seen(material.ids, force=suite.force)
        found.families |= concept_statistics(
            material.captions, material.references, table, reference_concepts=material.concepts
        )


def _scorers(suite: Suite, material: Material, found: Computed) -> dict[str, Floats]:
    """Run external scorers; return value per image by metric, where every image has one."""
    from medblip.metrics.external import ScorerRow, load_scorers, parse_scorer, run_scorer

    complete: dict[str, Floats] = {}
    known = load_scorers(suite.scorer_config)
    images: list[str | None] = [None] * len(material.ids)
    if material.images is not None:
        images = [str(path) for path in material.images]
    for spec in [parse_scorer(text, known) for text in suite.scorers]:
        texts, context = (material.captions, material.references), ""
        if suite.protocol != "caption" and spec.name == "bleurt":  # as the challenge does
            texts, context = _normalised(material), "text:imageclef"
        rows = [
            ScorerRow(id=name, hyp=caption, refs=tuple(references), image=image)
            for name, caption, references, image in zip(material.ids, *texts, images, strict=True)
        ]
        result = run_scorer(spec, rows)
        for name, family in result.families.items():
            found.families[name] = Statistics(family.metric, family.values, context)
            found.scored |= dict.fromkeys(family.metric.names, result.scored[name])
            if result.scored[name] == len(rows):
                columns = zip(family.metric.names, family.per_image().T, strict=True)
                complete |= dict(columns)
        found.corpus |= result.corpus
        found.notes += [
            f"{name} {value:.4f}: of all images together, without an interval"
            for name, value in result.corpus.items()
        ]
        found.notes += [f"{spec.name}: {note}" for note in result.notes]
        if result.unavailable is not None:
            found.unavailable[spec.name] = result.unavailable
        if result.failed:
            found.failed[spec.name] = dict(result.failed)
            names = list(result.failed)
            those = f"{', '.join(names[:3])}{', ...' if names[3:] else ''}"
            found.notes.append(f"{spec.name}: {len(names)} images without a value ({those})")
        found.notes += [f"{name}: lower is better" for name in sorted(result.lower_is_better)]
    return complete


def _imageclef(
    suite: Suite,
    material: Material,
    found: Computed,
    scored: dict[str, Floats],
) -> None:
    """The challenge's components and their means, as far as their parts are there."""
    given = {"ROUGE-1": found.families["Rouge1"].per_image()[:, 0]}
    given |= {_COMPONENT_OF.get(name, name): values for name, values in scored.items()}
    bertscore = _challenge_bertscore(suite, material, found)
    if bertscore is not None:
        given[BERTSCORE] = bertscore.values[:, 2]
    ruled = {
        name: with_empty_captions(
            name, given[name], material.captions, material.references, suite.year
        )
        for name in sorted({part for parts in COMPONENTS[suite.year].values() for part in parts})
        if name in given
    }
    if bertscore is not None:
        metric = Ratio(BERTSCORE, f"text:imageclef|{bertscore.metric.signature}")
        found.families[BERTSCORE] = Statistics(metric, mean_statistics(ruled[BERTSCORE]))
    means, missing = imageclef_statistics(ruled, suite.year)
    found.families |= means
    for part in missing:
        how = _SCORER_OF.get(part, "--scorer")
        why = f"a part of ImageCLEF-style {suite.year}; name its scorer: {how} (docs/scorers.md)"
        found.unavailable.setdefault(part, why)
    for name in ("relevance", "factuality"):
        lacking = [part for part in COMPONENTS[suite.year][name] if part in missing]
        if lacking:
            found.unavailable[name] = f"without {', '.join(lacking)} there is no mean"
            found.unavailable["overall"] = "it is the mean of relevance and factuality"


def _challenge_bertscore(suite: Suite, material: Material, found: Computed) -> Statistics | None:
    """BERTScore as the challenge has it: DeBERTa, normalised text, idf; None if it is not here."""
    from medblip.metrics.embedding.bertscore import bertscore_statistics

    local = suite.bertscore is not None and _is_of_the_challenge(suite.bertscore)
    encoder = str(suite.bertscore) if local else _CHALLENGE_ENCODER
    try:
        return bertscore_statistics(
            *_normalised(material), model=encoder, idf=True, device=suite.device
        )
    except MedblipError as error:
        how = f"--bertscore {_CHALLENGE_ENCODER}=FOLDER takes a local copy"
        found.unavailable[BERTSCORE] = f"{error}\n            {how}"
        return None


def _is_of_the_challenge(encoder: str) -> bool:
    return encoder.partition("=")[0] == _CHALLENGE_ENCODER


def _normalised(material: Material) -> tuple[list[str], list[list[str]]]:
    return (
        [normalise(caption) for caption in material.captions],
        [[normalise(text) for text in texts] for texts in material.references],
    )

"""Agreement of UMLS concepts, by rules learned from the user's own copy of ROCO."""

from medblip.metrics.concepts.table import (
    ConceptTable,
    concept_statistics,
    fit_concepts,
    load_concepts,
)

__all__ = ["ConceptTable", "concept_statistics", "fit_concepts", "load_concepts"]

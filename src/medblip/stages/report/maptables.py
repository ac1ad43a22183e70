"""Tables about the attention maps: do they say where the model looked?"""

from __future__ import annotations

from medblip.stages.report.cells import SYSTEM, Column, Table
from medblip.stages.report.contents import Contents

__all__ = ["faithfulness", "faithfulness_tests"]


def faithfulness(contents: Contents) -> Table | None:
    """Return every measure of every map, one row per measure and map, systems side by side."""
    found = contents.faithfulness
    if not found:
        return None
    rows: dict[tuple[str, str], dict[str, object]] = {}
    for name, record in found.items():
        own = [
            m | {"measure": f"{m['measure']} (own captions)"}
            for m in record.get("own_caption", {}).get("measures", [])
            if m["value"] is not None
        ]
        for m in [*record["measures"], *own]:
            row = rows.setdefault(
                (m["measure"], m["map"]), {"measure": m["measure"], "map": m["map"]}
            )
            row[f"system {name}"] = {"value": m["value"], "ci": m["ci"]}
            row[f"n {name}"] = m["n"]  # own captions of two systems name findings on other images
    columns = [
        Column(key="measure", title="measure"),
        Column(key="map", title="map"),
        *(column for name in found for column in _of(name, alone=len(found) == 1)),
    ]
    return Table(
        name="faithfulness",
        keys=2,
        title="Are the maps true?",
        columns=columns,
        rows=list(rows.values()),
        note="Pointing game and mass in the mask: higher is better. Deletion: lower is better; "
        "insertion: higher. Similarity is to the maps of the same model with random weights: "
        "high means that the maps do not depend on what was learnt.",
    )


def _of(name: str, *, alone: bool) -> tuple[Column, Column]:
    """Return a system's columns: its score, and how many images that score is of."""
    return (
        Column(key=f"system {name}", title=name, kind="score"),
        Column(key=f"n {name}", title="n" if alone else f"n ({name})", kind="count"),
    )


def faithfulness_tests(contents: Contents) -> Table | None:
    """Return the paired tests of the attention maps against the other maps."""
    rows = [
        {"system": name, **test}
        for name, record in contents.faithfulness.items()
        for test in record.get("tests", [])
    ]
    columns = [
        SYSTEM,
        Column(key="measure", title="measure"),
        Column(key="map", title="map"),
        Column(key="baseline", title="against"),
        Column(key="difference", title="difference", kind="signed"),
        Column(key="ci", title="95 % interval", kind="ci"),
        Column(key="n", title="n", kind="count"),
        Column(key="p", title="p", kind="p"),
        Column(key="p_holm", title="p (Holm)", kind="p"),
    ]
    return Table(name="faithfulness-tests", keys=4, title="Maps against baselines", columns=columns,
                 rows=rows, note="Holm's correction is over the tests of one system.")  # fmt: skip

"""A model card in words: each function returns a section's lines. Numbers come from files."""

from __future__ import annotations

from typing import Any

from medblip.markdown import code, escape, table
from medblip.metrics.audit.silent import FEW, images_stating, is_silent
from medblip.power import charged
from medblip.stages.card.collect import Material
from medblip.stages.card.front import base_of, interval_of
from medblip.stages.card.groups import weak_groups
from medblip.stages.card.usage import family_name, overrides, snippet, unlike

__all__ = ["SECTIONS", "introduction"]

#: Below it p is told as a bound: 10,000 resamples cannot give less than 0.0001.
_SMALLEST_P = 0.001
#: Settings of a recipe that a reader asks for first.
_RECIPE = (
    ("freeze", "preset"), ("train", "epochs"), ("train", "batch_size"), ("optim", "lr"),
    ("optim", "vision_factor"), ("optim", "words_factor"), ("optim", "weight_decay"),
    ("optim", "warmup"), ("optim", "label_smoothing"), ("optim", "clip_norm"),
    ("data", "max_tokens"), ("data", "captions"), ("train", "select"), ("train", "seed"),
    ("decode", "num_beams"), ("decode", "max_new_tokens"), ("decode", "length_penalty"),
    ("decode", "repetition_penalty"),
)  # fmt: skip
_COSTS = {
    "seconds": "whole training, a frozen encoder's pass over the images included, s",
    "seconds_per_step": "one optimizer step, s",
    "peak_memory_mb": "peak memory, MB", "device": "device",
    "device_name": "called", "processes": "processes",
    "threads": "threads", "precision": "precision", "energy_wh": "energy, Wh",
}  # fmt: skip


def introduction(found: Material) -> list[str]:
    """What it is, and what it is not."""
    base = base_of(found)
    family = family_name(str(found.network.get("model_type", "")))
    kind = f" ({escape(family)})" if family else ""
    did = "fine-tuned from" if found.trained else "used as it is:"
    return [
        f"# {escape(found.name)}",
        "",
        f"A captioner of radiology images, {did} {escape(base.words)}{kind}, by medblip.",
        "",
        "**Research use only. Not a medical device.** A caption can be fluent and wrong; no metric "
        "here measures clinical safety.",
    ]


def about(found: Material) -> list[str]:
    """Base model, licence, sizes."""
    base, model = base_of(found), found.config.get("model") or {}
    rows = [
        ("base model", escape(base.words)),
        ("its commit", escape(model["revision"]) if model.get("revision") else ""),
        ("its licence", escape(base.licence) if base.licence else "not known here: see its page"),
        ("parameters", _count(found.trained.get("parameters_total"))),
        ("of them trained", _count(found.trained.get("parameters_trainable"))),
        ("prompt", escape(repr(found.prompt)) if found.prompt else "none"),
        ("adapters", "bottlenecks beside the network: only medblip loads them"
         if found.adapted else ""),
    ]  # fmt: skip
    lines = ["## What it is", *table(("", ""), [row for row in rows if row[1]])]
    return [*lines, "", "The base model's terms hold for these weights, too; so may those of the "
            "training images (below)."]  # fmt: skip


def data(found: Material) -> list[str]:
    """Data: counts and licences, from the manifest."""
    trained, source = bool(found.trained), found.data
    lines = ["## Training data" if trained else "## Data", ""]
    if source.name:
        lines.append(f"Data set: {escape(source.name)}.")
    if source.why_not:
        return [*lines, f"Its counts and licences are missing: {source.why_not}."]
    counts = ", ".join(f"{split} {count}" for split, count in source.splits.items())
    lines.append(f"Images: {counts}.")
    if trained:
        lines.append("Trained on the train split; the checkpoint was chosen on the validation "
                     "split; training cannot open the test split.")  # fmt: skip
    names = list(dict.fromkeys(name for part in source.licences.values() for name in part))
    rows = [(escape(name), *(str(part[name]) for part in source.licences.values()))
            for name in names]  # fmt: skip
    lines += ["", "Licences, per image as the source states them:"]
    lines += table(("licence", *source.licences), rows)
    rejects = source.stats.get("rejects")
    if rejects:
        told = ", ".join(f"{escape(why)} {count}" for why, count in rejects.items())
        lines += ["", f"Left out by preparation: {told}."]
    return [*lines, "", "Looked for in it:", "", *_looked_for(source.checked)]


def _looked_for(checked: dict[str, Any] | None) -> list[str]:
    """Return what `medblip data check` found, leaks first; what to do of it is the owner's."""
    if checked is None:
        return ["Not checked for damage, leaks between splits, cut captions and text burnt into "
                "pixels."]  # fmt: skip
    found = sorted(checked["findings"], key=lambda one: not one.get("leak"))
    if not found:
        return ["`medblip data check` found nothing."]
    rows = [(one["level"], escape(one["what"]), str(one["count"])) for one in found]
    return table(("level", "found", "how many"), rows)[1:]


def recipe(found: Material) -> list[str]:
    """How it was trained and how it writes."""
    if not found.config:
        return ["## Recipe", "", "Not recorded."]
    settings = found.config | {"decode": found.decode}
    rows = [
        (code(f"{section}.{key}"), escape(settings[section][key]))
        for section, key in _RECIPE
        if settings.get(section, {}).get(key) is not None and (found.trained or section == "decode")
    ]
    lines = ["## Recipe", *table(("setting", "value"), rows)]
    if found.trained:
        t = found.trained
        lines += ["", f"{t['steps']} steps; the checkpoint of step {t['best_step']} has the best "
                  f"{escape(t['select'])} on the validation split, "
                  f"{t['best_value']:.4f}."]  # fmt: skip
    rules = found.trainable.get("rules", [])
    shown = [
        f"- {code(rule['pattern'])}: {_count(rule['parameters'])}, "
        + ("frozen" if rule["rate"] is None else f"learning rate {rule['rate']:g}")
        for rule in rules
    ]
    return lines + (["", "Parameters by the first pattern that matches:", "", *shown]
                    if shown else [])  # fmt: skip


def results(found: Material) -> list[str]:
    """Scores with intervals and signatures, and paired tests."""
    if not found.scores:
        return ["## Results", "", "Not evaluated."]
    metrics = {
        name: score for name, score in found.scores["metrics"].items()
        if not name.startswith(("audit-", "error-"))
    }  # fmt: skip
    rows = [(escape(name), f"{s['value']:.4f}", _interval(s), str(s["n"]))
            for name, s in metrics.items()]  # fmt: skip
    lines = [
        "## Results",
        "",
        f"On {found.scores['n']} images of the {found.split} split of "
        f"{escape(found.scored_on or 'a data set that is not recorded')}.",
        *table(("metric", "value", "95 % interval", "images"), rows),
    ]
    if found.against.tests:
        tests = [(escape(r["baseline"]), escape(r["metric"]), f"{r['difference']:+.4f}",
                 f"[{r['ci'][0]:+.4f}, {r['ci'][1]:+.4f}]", _p(r["p_holm"]))
                for r in found.against.tests]  # fmt: skip
        lines += ["", f"Against other systems on the same images "
                  f"({escape(found.against.test)}; "
                  f"{escape(found.against.correction)}):"]  # fmt: skip
        lines += table(("against", "metric", "difference", "95 % interval", "p, corrected"), tests)
    lines += ["", "How each was computed:", ""]
    return [*lines, *(f"- {code(score['signature'])}" for score in metrics.values())]


def faults(found: Material) -> list[str]:
    """Degeneration and the clinical audit: what goes wrong, and how often."""
    lines = ["## What goes wrong", ""]
    if not found.scores:
        return [*lines, "Not audited: the run was not evaluated."]
    metrics, signs = found.scores["metrics"], found.scores.get("degeneration", {})
    errors = {name: s for name, s in metrics.items() if name.startswith("error-")}
    audits = {name: s for name, s in metrics.items()
              if name.startswith("audit-") and name.endswith("-F1")}  # fmt: skip
    if errors:
        rows = [(escape(name.removeprefix("error-").replace("-", " ")), f"{100 * s['value']:.1f}",
                 _interval(s, 100, 1)) for name, s in errors.items()]  # fmt: skip
        lines += ["Errors per 100 captions, by an audit of what captions assert against the "
                  "references (rules, no reader):"]  # fmt: skip
        lines += table(("error", "per 100 captions", "95 % interval"), rows)
    if audits:
        lines += _agreement(found.scores, audits)
    if signs:
        shown = [(escape(name.replace("_", " ")), f"{value:g}") for name, value in signs.items()]
        lines += ["", "Signs of captions that do not depend on the image:"]
        lines += table(("sign", "value"), shown)
    how = {s["signature"].partition("|")[2] for s in (errors | audits).values()}
    lines += ["", f"The audit: {', '.join(map(code, sorted(how)))}"] if how else []
    return lines if errors or audits or signs else [*lines, "Not audited."]


def _agreement(scores: dict[str, Any], audits: dict[str, Any]) -> list[str]:
    """F1 per kind of statement; a dash where nobody states any: there is nothing to agree on."""
    rows = []
    for name, score in audits.items():
        stating, kind = images_stating(scores, name), name.removeprefix("audit-")
        few = stating is not None and stating < FEW
        value = ("-", "-") if is_silent(scores, name) else (
            f"{score['value']:.4f}", "-" if few else _interval(score))  # fmt: skip
        told = "not counted" if stating is None else str(stating)
        rows.append((escape(kind.removesuffix("-F1")), *value, told))
    return [
        "", "Agreement with the references, per kind of statement, and on how many images captions "
        "or references make one. A dash for F1: nobody is known to make any; for the interval: "
        f"fewer than {FEW} images.",
        *table(("asserted", "F1", "95 % interval", "images"), rows),
    ]  # fmt: skip


def cost(found: Material) -> list[str]:
    """Hardware, time, energy, versions."""
    spent = found.trained
    if "seconds" in spent:
        spent = spent | {"seconds": round(charged(spent).seconds, 3)}
    rows = [(words, escape(spent[key])) for key, words in _COSTS.items()
            if spent.get(key) is not None]  # fmt: skip
    rate = found.captioned.get("images_per_second")
    rows += [("captioning, images per second", escape(rate))] if rate is not None else []
    machine = found.environment
    rows += [(name, escape(machine[name])) for name in ("gpu", "platform", "cpu_count", "python")
             if machine.get(name) is not None]  # fmt: skip
    rows += [(escape(name), escape(version))
             for name, version in machine.get("versions", {}).items()]  # fmt: skip
    return ["## Hardware, time and versions", *(table(("", ""), rows) if rows else
                                                ["", "Not recorded."])]  # fmt: skip


def limits(found: Material) -> list[str]:
    """Intended use and limits."""
    errors = {name: s for name, s in found.scores.get("metrics", {}).items()
              if name.startswith("error-") and s["value"] > 0}  # fmt: skip
    worst = sorted(errors, key=lambda name: -errors[name]["value"])[:3]
    told = "; ".join(f"{escape(name.removeprefix('error-').replace('-', ' '))} "
                     f"{100 * errors[name]['value']:.1f}" for name in worst)  # fmt: skip
    lines = [
        "## Intended use and limits",
        "",
        "For research on image captioning: to compare methods, to study errors. Not for diagnosis, "
        "triage, treatment or any decision about a patient, with or without a reader.",
        "",
        *_drawn(found),
        f"- The commonest errors of the audit, per 100 captions: {told}."
        if told
        else "- Which errors it makes is not known here: no audit found any, or there was none.",
        "- Metrics compare words with one or few references; a caption that scores well can be "
        "false, and one that scores low can be right.",
        "- Tested on the images named below. Other modalities, devices, populations and languages "
        "were not tested.",
        "- Where a decoder looks (attention) is not why it says what it says.",
    ]
    if found.trained:
        seed = (found.config.get("train") or {}).get("seed", "not recorded")
        lines.append(f"- Trained once (seed {escape(seed)}): another seed gives other figures.")
    lines += [f"- {escape(sentence, 400)}" for sentence in found.truth.get("conclusions", [])]
    return lines + weak_groups(found.against.weakest)


def _drawn(found: Material) -> list[str]:
    """Return what a reader must know before all else, if the images are drawn."""
    if not found.data.synthetic:
        return []
    if found.trained:
        return ["- **Trained on drawn phantoms: it has never seen a patient's image.** No score "
                "here says how well it captions one."]  # fmt: skip
    return ["- **Scored on drawn phantoms, not on patients' images.** No score here says how well "
            "it captions one."]  # fmt: skip


def usage(found: Material) -> list[str]:
    """How to call it."""
    if not found.network:
        return ["## How to use it", "", "The run has no checkpoint of its own."]
    family = str(found.network.get("model_type", ""))
    lines = ["## How to use it", ""]
    if found.place != found.name:
        lines += [f"Where the folder {code(found.name)} lies:", ""]
    if found.adapted:
        lines += ["Plain transformers loads the network without its adapters; use medblip.", ""]
    else:
        text = snippet(found.place, family, found.prompt, found.decode, chats=found.chats,
                       stored=found.generation)  # fmt: skip
        lines += ["```python", text, "```", ""]
        lines += [f"{line}\n" for line in unlike(found.decode)]
    changed = overrides(found.decode)
    more = f", overrides={changed}" if changed else ""
    return [
        *lines, "```python", "import medblip", "",
        f'medblip.caption({found.name!r}, images=["image.png"]{more})', "```",
    ]  # fmt: skip


def citation(found: Material) -> list[str]:
    """What to cite."""
    return [
        "## Citation",
        "",
        "The study that medblip rebuilds: Limbu and Banerjee, *MedBLIP: Fine-tuning BLIP for "
        "Medical Image Captioning*, [arXiv 2505.14726](https://arxiv.org/abs/2505.14726). BLIP: "
        "Li, Li, Xiong and Hoi, *BLIP: Bootstrapping Language-Image Pre-training for Unified "
        "Vision-Language Understanding and Generation*, "
        "[arXiv 2201.12086](https://arxiv.org/abs/2201.12086). Cite the base model and the data "
        "set as well.",
    ]


def missing(found: Material) -> list[str]:
    """What is not there, and why."""
    if not found.missing:
        return []
    return ["## What is missing here", "", *(f"- {line}" for line in found.missing)]


#: In their order.
SECTIONS = (
    about, usage, limits, results, faults, data, recipe, cost, missing, citation,
)  # fmt: skip


def _count(value: Any) -> str:
    return "" if value is None else f"{value:,}"


def _p(value: float) -> str:
    """Return p; the smallest that resamples can give is a bound, not a value."""
    return f"{value:.4f}" if value >= _SMALLEST_P else f"&lt; {_SMALLEST_P}"


def _interval(score: dict[str, Any], factor: float = 1, digits: int = 4) -> str:
    """Return the interval; a dash where none was computed."""
    ends = interval_of(score)
    if ends is None:
        return "-"
    low, high = (factor * end for end in ends)
    return f"[{low:.{digits}f}, {high:.{digits}f}]"

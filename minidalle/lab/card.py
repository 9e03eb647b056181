"""A model card that a reader fills in, and what is missing or wrong in it.

    model_card(directory, licence="MIT", pixels=48, …)      the card, a line for each field

The fields are those of Mitchell and others (2019), shortened. Fields that a program can check are
compared with the bundle: its manifest, its configuration and its weights.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from IPython.display import Markdown

from minidalle.bundle import MODELS, load_bundle
from minidalle.files import MANIFEST

QUESTIONS = {
    "licence": "Under which licence may others use it?",
    "data": "On which pictures was it trained, and who owns them?",
    "pixels": "How many pixels are its pictures across?",
    "parameters": "How many parameters do its three models have, in millions?",
    "codes": "How many codes has its codebook?",
    "bytes": "How many bytes are its files?",
    "fingerprint": "How does the SHA-256 of the prior's weights begin (8 digits or more)?",
    "intended use": "What is it meant for?",
    "out of scope": "What must it not be used for?",
    "evaluation": "How good is it, on what, measured by whom?",
    "bias": "What does it draw more often than its data show it?",
    "limitations": "When does it fail?",
}
FEWEST_WORDS = 3  # of an answer in prose
PROSE = ("data", "intended use", "out of scope", "evaluation", "bias", "limitations")


def measured(bundle: Path) -> dict[str, Any]:
    """The fields that a program knows."""
    files = json.loads((bundle / MANIFEST).read_text(encoding="utf-8"))["files"]
    models = load_bundle(bundle)._asdict()
    parameters = sum(p.numel() for name in MODELS for p in models[name].parameters())
    return {
        "pixels": models["dvae"].config.image_size,
        "parameters": parameters / 1e6,
        "codes": models["dvae"].config.codes,
        "bytes": sum(file["bytes"] for file in files.values()),
        "fingerprint": files["prior.safetensors"]["sha256"],
    }


def problems(bundle: Path, answers: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with a card, by field; empty where nothing is."""
    found, truth = {}, measured(bundle)
    for field in QUESTIONS:
        answer = answers.get(field)
        if answer is None or not str(answer).strip():
            found[field] = "empty"
        elif field in PROSE and len(str(answer).split()) < FEWEST_WORDS:
            found[field] = "too short to mean anything"
        elif field in truth and not _agrees(field, answer, truth[field]):
            found[field] = f"wrong: the bundle says {_text(truth[field])}"
    unknown = set(answers) - set(QUESTIONS)
    return found | dict.fromkeys(sorted(unknown), "no field of the card")


def _agrees(field: str, answer: Any, true: Any) -> bool:
    if field == "fingerprint":
        return len(str(answer)) >= 8 and true.startswith(str(answer).lower())
    try:
        return abs(float(answer) - true) <= (0.05 if field == "parameters" else 0)
    except (TypeError, ValueError):
        return False


def _text(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)[:12]


def model_card(bundle: Path, answers: Mapping[str, Any]) -> Markdown:
    """The card as a table: a field, its answer, and whether it stands."""
    wrong = problems(bundle, answers)
    rows = ["| field | answer | |", "| --- | --- | --- |"]
    for field in [*QUESTIONS, *(field for field in wrong if field not in QUESTIONS)]:
        answer = str(answers.get(field, "")).replace("|", "\\|").replace("\n", " ")
        mark = f"✗ {wrong[field]}" if field in wrong else "✓"
        rows.append(f"| {field} | {answer or QUESTIONS.get(field, '')} | {mark} |")
    state = f"{len(wrong)} of its fields must be mended" if wrong else "complete"
    return Markdown("\n".join([f"**Model card: {state}.**", "", *rows]))

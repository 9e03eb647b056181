"""Refresh the tables of the model card: `python -m tests.benchmarks.card [RUNS] [CURVES.png]`.

The card is data/bundle/README.md. Its tables stand between `<!-- NAME -->` and `<!-- /NAME -->` and
come from the reports in data/reports (`minidalle evaluate --json`). All other text is left alone.
CURVES.png names a file for loss curves, which data/experiments.md shows. They come from the logs
RUNS/STAGE.jsonl, or without RUNS from the prior's runs with colour jitter, and need matplotlib.
"""

import json
import sys
from pathlib import Path

from minidalle.world.facts import SKILLS

DATA = Path(__file__).parents[2] / "data"
CARD = DATA / "bundle" / "README.md"
REPORTS = {
    "validation, English": "validation-en.json",
    "validation, Chinese": "validation-zh.json",
    "held-out compositions, English": "compositions-en.json",
}
STAGES = {"dvae": "dVAE", "prior": "prior", "clip": "CLIP"}


def read(name: str) -> dict:
    return json.loads((DATA / "reports" / name).read_text(encoding="utf-8"))


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def fidelity() -> str:
    """Shares of captions with every fact right, one row per report and number of candidates."""
    rows = []
    for name, file in REPORTS.items():
        report = read(file)
        for n, column in report["candidates"].items():
            skills = [f"{column['skills'][s]:.2f}" if s in column["skills"] else "" for s in SKILLS]
            image = "first candidate" if n == "1" else f"best of {n}"
            rows.append(
                [name, str(report["captions"]), image, f"**{column['overall']:.3f}**", *skills]
            )
    return table(["split", "captions", "image", "all facts right", *SKILLS], rows)


def parts() -> str:
    """The dVAE and CLIP alone, and the sources of error."""
    rows = []
    for name, file in REPORTS.items():
        r = read(file)
        d, e = r["dvae"], r["error"]
        rows.append([
            name, f"{d['psnr']:.2f} dB", f"{d['codes_used']:.3f}", f"{d['perplexity']:.1f}",
            f"{d['facts_kept']:.3f}", f"{r['clip']['retrieval_at_1_of_100']:.3f}",
            f"{e['dvae']:.3f}", f"{e['prior']:.3f}", f"{e['rerank']:.3f}",
        ])  # fmt: skip
    return table(
        ["split", "PSNR", "codebook usage", "perplexity", "facts kept", "retrieval@1 of 100",
         "error: dVAE", "error: prior", "error: reranking"], rows,
    )  # fmt: skip


def training() -> str:
    """Sizes, settings and minutes of the training that made the bundle."""
    measured = read("training.json")
    rows = []
    for stage, name in STAGES.items():
        seen = measured["stages"][stage]
        rows.append([
            name, f"{seen['parameters'] / 1e6:.2f} M", f"{seen['updates']:,}",
            *(f"{seen[key]:g}" for key in ("batch", "rate", "seed", "minutes")),
        ])  # fmt: skip
    header = ["model", "parameters", "updates", "batch size", "peak learning rate", "seed"]
    return f"Hardware: {measured['hardware']}.\n\n" + table([*header, "minutes"], rows)


def card() -> str:
    """The model card with its tables made from the reports of today.

    Raises ValueError where a table has no pair of markers, or more than one.
    """
    text = CARD.read_text(encoding="utf-8")
    for name, part in {"fidelity": fidelity(), "parts": parts(), "training": training()}.items():
        start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        head, rest = text.split(start)
        _, tail = rest.split(end)
        text = f"{head}{start}\n{part}\n{end}{tail}"
    return text


def curves(runs: Path, file: Path) -> None:
    """Losses of the stages, from their logs."""
    import matplotlib.pyplot as plt

    shown = {"dvae": ("nll", "kl", "entropy"), "prior": ("text", "image"), "clip": ("total",)}
    logs = {stage: runs / f"{stage}.jsonl" for stage in shown}
    logs = {stage: log for stage, log in logs.items() if log.exists()}
    size = (3.7 * len(logs), 3.2)
    figure, axes = plt.subplots(1, len(logs), figsize=size, layout="constrained", squeeze=False)
    for axis, (stage, log) in zip(axes[0], logs.items(), strict=True):
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        for name in shown[stage]:
            values, mean = [line["losses"][name] for line in lines], None
            smooth = [mean := v if mean is None else 0.95 * mean + 0.05 * v for v in values]
            axis.plot([line["step"] for line in lines], smooth, label=name)
        axis.set(title=stage, xlabel="update", ylabel="nats")
        if stage == "prior":  # else the picture's loss lies on the axis for most of the way
            axis.set_yscale("log")
        axis.grid(alpha=0.3)
        axis.legend()
    figure.savefig(file, dpi=90)


def jitter_curves(file: Path) -> None:
    """The image loss in the prior's runs with colour jitter, means over a hundred updates."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(5.2, 3.2), layout="constrained")
    for name, losses in read("legs.json").items():
        axis.plot(range(100, 100 * len(losses) + 1, 100), losses, label=name)
    axis.set(title="prior, colour jitter", xlabel="update", ylabel="nats per code", yscale="log")
    axis.grid(alpha=0.3)
    axis.legend()
    figure.savefig(file, dpi=90)


if __name__ == "__main__":
    match sys.argv[1:]:
        case [runs, file]:
            curves(Path(runs), Path(file))
        case [file]:
            jitter_curves(Path(file))
    CARD.write_text(card(), encoding="utf-8", newline="\n")

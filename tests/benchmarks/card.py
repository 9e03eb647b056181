"""Write data/MODEL_CARD.md: `python -m tests.benchmarks.card [RUNS] [CURVES.png]`.

The card is made of the reports in data/reports (written by `minidalle evaluate --json`) and of the
words in card.md. With CURVES.png also curves that it shows: of the training logs RUNS/STAGE.jsonl,
whichever are there, or without RUNS of the prior's legs in shades. They need matplotlib.
"""

import json
import sys
from pathlib import Path

from minidalle.facts import SKILLS

DATA = Path(__file__).parents[2] / "data"
REPORTS = {
    "validation, English": "validation-en.json",
    "validation, Chinese": "validation-zh.json",
    "compositions, English": "compositions-en.json",
}


def read(name: str) -> dict:
    return json.loads((DATA / "reports" / name).read_text())


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def fidelity() -> str:
    """Shares of captions with every fact right, a row a report."""
    rows = []
    for name, file in REPORTS.items():
        report = read(file)
        for n, column in report["candidates"].items():
            skills = [f"{column['skills'][s]:.2f}" if s in column["skills"] else "" for s in SKILLS]
            what = "first drawing" if n == "1" else f"best of {n}"
            rows.append(
                [name, str(report["captions"]), what, f"**{column['overall']:.3f}**", *skills]
            )
    return table(["split", "captions", "picture", "all facts right", *SKILLS], rows)


def parts() -> str:
    """The dVAE and CLIP alone, and where the error comes from."""
    rows = []
    for name, file in REPORTS.items():
        r = read(file)
        d, e = r["dvae"], r["error"]
        rows.append([
            name, f"{d['psnr']:.2f} dB", f"{d['codes_used']:.3f}", f"{d['perplexity']:.0f}",
            f"{d['facts_kept']:.3f}", f"{r['clip']['retrieval_at_1_of_100']:.3f}",
            f"{e['dvae']:.3f}", f"{e['prior']:.3f}", f"{e['rerank']:.3f}",
        ])  # fmt: skip
    return table(
        ["split", "PSNR", "codes used", "perplexity", "facts kept", "retrieval@1 of 100",
         "error: dVAE", "prior", "rerank"], rows,
    )  # fmt: skip


def training() -> str:
    """Sizes, settings and minutes of the training that made the bundle."""
    measured = json.loads((DATA / "reports" / "training.json").read_text())
    rows = []
    for stage in ("dvae", "prior", "clip"):
        seen = measured["stages"][stage]
        rows.append([
            stage, f"{seen['parameters'] / 1e6:.2f} M", f"{seen['updates']:,}",
            *(f"{seen[key]:g}" for key in ("batch", "rate", "seed", "minutes")),
        ])  # fmt: skip
    header = ["stage", "parameters", "updates", "batch", "peak rate", "seed", "minutes"]
    return f"Hardware: {measured['hardware']}.\n\n" + table(header, rows)


def card() -> str:
    text = (Path(__file__).parent / "card.md").read_text()
    made = {"fidelity": fidelity(), "parts": parts(), "training": training()}
    for name, part in made.items():
        text = text.replace(f"<!-- {name} -->", part)
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


def legs(file: Path) -> None:
    """The picture's loss in the prior's legs in shades, means over a hundred updates."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(5.2, 3.2), layout="constrained")
    for name, losses in read("legs.json").items():
        axis.plot(range(100, 100 * len(losses) + 1, 100), losses, label=name)
    axis.set(title="prior, in shades", xlabel="update", ylabel="nats a code", yscale="log")
    axis.grid(alpha=0.3)
    axis.legend()
    figure.savefig(file, dpi=90)


if __name__ == "__main__":
    match sys.argv[1:]:
        case [runs, file]:
            curves(Path(runs), Path(file))
        case [file]:
            legs(Path(file))
    (DATA / "MODEL_CARD.md").write_text(card())

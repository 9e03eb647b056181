"""Refresh the tables of the model card: `python -m tests.benchmarks.card [RUN]`.

The card is data/bundle/README.md. Its tables stand between `<!-- NAME -->` and `<!-- /NAME -->` and
come from the reports in data/reports (`minidalle evaluate --json`). All other text is left alone.

RUN is the --out of the training that made the bundle. Its logs become data/reports/training.json,
with the hash of each file of the bundle, and data/curves.png, which needs matplotlib.
"""

import json
import sys
from pathlib import Path
from statistics import mean

import torch

from minidalle.bundle import load_bundle
from minidalle.files import MANIFEST
from minidalle.lab.notebooks import hardware
from minidalle.training.log import LOG_EVERY, minutes
from minidalle.training.presets import FULL
from minidalle.world.facts import SKILLS

DATA = Path(__file__).parents[2] / "data"
CARD = DATA / "bundle" / "README.md"
REPORTS = {
    "validation, English": "validation-en.json",
    "validation, Chinese": "validation-zh.json",
    "held-out compositions, English": "compositions-en.json",
}
STAGES = {"dvae": "dVAE", "prior": "prior", "clip": "CLIP"}
CURVES = {"dvae": ("nll", "kl", "entropy"), "prior": ("text", "image"), "clip": ("total",)}
POINTS = 100  # of each curve


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
    made = f"`{measured['command']}`, on {measured['hardware']}."
    return f"{made}\n\n" + table([*header, "minutes"], rows)


def record(run: Path) -> dict:
    """What the logs of a run at `full` say, and the hashes of the bundle that it made."""
    bundle, stages = run / "bundle", {}
    models = load_bundle(bundle)._asdict()
    for stage, names in CURVES.items():
        log = (run / f"{stage}.jsonl").read_text(encoding="utf-8")
        lines, config = [json.loads(line) for line in log.splitlines()], FULL.training[stage]
        if lines[-1]["steps"] != config.steps or lines[-1]["step"] < config.steps - LOG_EVERY:
            raise SystemExit(f"{run}: {stage} was not trained to the end of preset full")
        size = -(-len(lines) // POINTS)
        parts = [lines[i : i + size] for i in range(0, len(lines), size)]
        stages[stage] = {
            "parameters": sum(p.numel() for p in models[stage].parameters()),
            "updates": config.steps,
            "batch": config.batch_size,
            "rate": config.lr,
            "seed": config.seed,
            "minutes": round(minutes(run / f"{stage}.jsonl", config.batch_size)),
            "steps": [part[-1]["step"] for part in parts],
            "losses": {
                name: [round(mean(line["losses"][name] for line in part), 4) for part in parts]
                for name in names
            },
        }
    manifest = json.loads((bundle / MANIFEST).read_text(encoding="utf-8"))
    return {
        "command": "minidalle train all --preset full",
        "hardware": f"{hardware()}, torch {torch.__version__.split('+')[0]}",
        "files": manifest["files"],
        "stages": stages,
    }


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


def draw_curves(stages: dict, file: Path) -> None:
    """The losses of the stages."""
    import matplotlib.pyplot as plt

    size = (3.7 * len(stages), 3.2)
    figure, axes = plt.subplots(1, len(stages), figsize=size, layout="constrained")
    for axis, (stage, seen) in zip(axes, stages.items(), strict=True):
        for name, losses in seen["losses"].items():
            axis.plot(seen["steps"], losses, label=name)
        axis.set(title=STAGES[stage], xlabel="update", ylabel="nats")
        if stage == "prior":  # else the picture's loss lies on the axis for most of the way
            axis.set_yscale("log")
        axis.grid(alpha=0.3)
        axis.legend()
    figure.savefig(file, dpi=90)


def main() -> None:
    if sys.argv[1:]:
        seen = record(Path(sys.argv[1]))
        (DATA / "reports" / "training.json").write_text(json.dumps(seen, indent=1) + "\n")
        draw_curves(seen["stages"], DATA / "curves.png")
    CARD.write_text(card(), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()

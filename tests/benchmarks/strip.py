"""Draw the README's strip from the bundle that ships: `python -m tests.benchmarks.strip`."""

from pathlib import Path

from tqdm import tqdm

from minidalle.contact_sheet import gallery
from minidalle.pipeline import MiniDALLE

CAPTIONS = [
    "a red car parked on the grass",
    "a big brown bear standing in the snow",
    "a golden retriever playing with a tennis ball",
    "three pink flowers in the meadow",
    "a white cat to the left of a black bird by the sea",
    "a yellow boat below a purple heart at night",
    "一只红色的汽车停在草地上",
    "一只棕色的大熊站在雪地里",
]


def main() -> None:
    model = MiniDALLE.load(device="cpu")
    images = [model.generate(c, candidates=32, keep=1, seed=0).images[0] for c in tqdm(CAPTIONS)]
    out = Path(__file__).parents[2] / "data" / "strip.png"
    gallery(images, CAPTIONS, columns=4, side=192).quantize(256).save(out, optimize=True)
    print(out)


if __name__ == "__main__":
    main()

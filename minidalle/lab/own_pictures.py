"""Small helpers of chapter 14: a set of pictures to learn, faults to find in it, quick drawing."""

import json
import shutil
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

from minidalle.datasets.emoji import write_emoji
from minidalle.datasets.image_folder import CaptionedImageFolder
from minidalle.dvae import DVAE
from minidalle.errors import MinidalleError
from minidalle.lab.icons import SIZE, write_icons
from minidalle.prior import Prior
from minidalle.quantize import gumbel_noise
from minidalle.tokenizer import Tokenizer


def emoji_or_icons(out: Path) -> str:
    """Write emoji into the new folder `out`, or icons where the packages of emoji are missing; what
    it was."""
    try:
        return f"{write_emoji(out, SIZE)} emoji"
    except MinidalleError as error:
        return f"{write_icons(out)} icons, drawn here: {error}"


def choose(everything: CaptionedImageFolder, words: set[str], out: Path) -> CaptionedImageFolder:
    """Copy the pictures with a caption that has one of `words` into the new folder `out`."""
    pairs = [(everything.name(i), everything.caption(i)) for i in range(len(everything))]
    kept = {name for name, text in pairs if words & {*text.split()}}
    out.mkdir()
    for name in kept:
        shutil.copy(everything.folder / name, out)
    _write_rows(out, [pair for pair in pairs if pair[0] in kept])
    return CaptionedImageFolder(out, everything.image_size)


def plant_faults(folder: CaptionedImageFolder, out: Path) -> None:
    """Copy a folder to `out` and add what real folders hold: a copy, a copy saved again as JPEG, a
    picture that is not square, half a file, a caption that is too long."""
    shutil.copytree(folder.folder, out)
    names = list(dict.fromkeys(folder.name(i) for i in range(len(folder))))
    two = [np.asarray(Image.open(out / name).convert("RGB")) for name in names[:2]]
    Image.fromarray(np.concatenate(two, 1)).save(out / "IMG_1.png")
    Image.fromarray(two[0]).save(out / "IMG_2.jpg", quality=60)
    (out / "IMG_3.png").write_bytes((out / names[0]).read_bytes()[:200])
    shutil.copy(out / names[3], out / "IMG_4.png")
    long = "a very, " * 30 + "very long story"
    texts = ("two of them", "a photo", "a download", long)
    suffixes = ("png", "jpg", "png", "png")
    added = [(f"IMG_{i}.{suffix}", text)
             for i, (suffix, text) in enumerate(zip(suffixes, texts, strict=True), 1)]  # fmt: skip
    _write_rows(out, added)


def _write_rows(folder: Path, pairs: Iterable[tuple[str, str]]) -> None:
    """Add (name of a picture, caption) to a folder's table."""
    with (folder / "metadata.jsonl").open("a", encoding="utf-8") as table:
        for name, text in pairs:
            row = {"file_name": name, "text": text}
            table.write(json.dumps(row, ensure_ascii=False) + "\n")


def saved_again(image: np.ndarray) -> np.ndarray:
    """A picture, uint8 S S 3, after it was made smaller, saved as JPEG, and enlarged."""
    file, side = BytesIO(), len(image)
    Image.fromarray(image).resize((side * 5 // 6,) * 2).save(file, "JPEG")
    return np.asarray(Image.open(file).resize((side, side)))


@torch.no_grad()
def draw_captions(
    prior: Prior,
    dvae: DVAE,
    tokenizer: Tokenizer,
    captions: list[str],
    temperature: float,
    seed: int = 0,
) -> Tensor:
    """One picture per caption, all at the same time: n 3 H W in [0, 1]. Without guidance."""
    grid = prior.config.grid
    text = tokenizer.batch(captions, prior.config.text_length).to(prior.start.device)
    state, logits = prior.prefill(text)
    generator, codes = torch.Generator().manual_seed(seed), []
    for position in range(grid**2):
        noise = gumbel_noise(torch.empty(logits.shape), generator).to(logits.device)
        codes.append((logits / temperature + noise).argmax(-1))
        if position + 1 < grid**2:
            logits = prior.decode_step(codes[-1], position, state)
    return dvae.decode(rearrange(codes, "(h w) n -> n h w", h=grid))

"""Bundles whose manifest is right and whose contents are absurd: one line, before any memory is
allocated."""

import json
import time

import pytest
import torch
from safetensors.torch import load, save

from minidalle.bundle import load_bundle
from minidalle.cli.main import main
from minidalle.errors import MinidalleError
from minidalle.files import MANIFEST, to_json, write_directory
from minidalle.sampling import SamplingConfig
from minidalle.training.config import TrainConfig


def forged(bundle, folder, **changes):
    """A copy of a bundle with other files, and the hashes to match."""
    files = {p.name: p.read_bytes() for p in bundle.iterdir() if p.name != MANIFEST}
    return write_directory(folder / "forged", files | changes)


CONFIGS = [
    ("prior", "heads", 0), ("prior", "width", "192"), ("prior", "width", None),
    ("prior", "layers", 10**6), ("prior", "layers", -1), ("prior", "layers", 1e400),
    ("prior", "width", [32]), ("prior", "width", True), ("prior", "width", 32.5),
    ("prior", "grid", -12), ("prior", "grid", 200), ("prior", "text_length", 0),
    ("prior", "kernel", 4), ("prior", "text_weight", "half"), ("prior", "dropout", 2),
    ("dvae", "codes", 2**40), ("dvae", "widths", []), ("dvae", "widths", [16, "32"]),
    ("dvae", "widths", [16] * 40), ("dvae", "patch", 0), ("dvae", "quantizer", "x" * 99),
    ("dvae", "quantizer", 7), ("dvae", "beta", None), ("dvae", "image_size", 47),
    ("clip", "patch", 0), ("clip", "embedding", {}), ("clip", "heads", 3),
    ("clip", "max_scale", float("nan")), ("clip", "image_layers", 1001),
]  # fmt: skip


@pytest.mark.parametrize(("part", "field", "value"), CONFIGS, ids=str)
def test_an_absurd_config_is_refused_at_once(smoke_bundle, tmp_path, part, field, value):
    """Catches a traceback of torch's, and a model built until the memory is full."""
    config = json.loads((smoke_bundle / "config.json").read_text())
    config[part][field] = value
    bundle = forged(smoke_bundle, tmp_path, **{"config.json": to_json(config)})
    began = time.monotonic()
    with pytest.raises(MinidalleError) as caught:
        load_bundle(bundle)
    assert time.monotonic() - began < 5 and "\n" not in str(caught.value)
    assert "forged" in str(caught.value)


@pytest.mark.parametrize("text", [b"[]", b"{}", b'{"prior": 3}', b"null", b'"a"', b"3"])
@pytest.mark.parametrize("name", ["config.json", "info.json", "tokenizer.json"])
def test_a_document_of_another_shape_is_refused(smoke_bundle, tmp_path, name, text):
    if (name, text) in {("info.json", b"{}"), ("info.json", b'{"prior": 3}')}:
        assert load_bundle(
            forged(smoke_bundle, tmp_path, **{name: text})
        )  # nothing in it is needed
        return
    with pytest.raises(MinidalleError) as caught:
        load_bundle(forged(smoke_bundle, tmp_path, **{name: text}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("words", [None, "red", 7, [1, 2], {"red": 1}])
def test_words_that_are_none_are_refused(smoke_bundle, tmp_path, words):
    info = json.loads((smoke_bundle / "info.json").read_text()) | {"words": words}
    with pytest.raises(MinidalleError, match=r"info\.json: words is not a list of texts"):
        load_bundle(forged(smoke_bundle, tmp_path, **{"info.json": to_json(info)}))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("part", ["dvae", "prior", "clip"])
def test_weights_that_are_not_finite_are_refused(smoke_bundle, tmp_path, part, value):
    """Catches four equal pictures with similarity nan, and exit status 0."""
    state = load((smoke_bundle / f"{part}.safetensors").read_bytes())
    name = next(n for n, t in state.items() if t.is_floating_point() and t.numel() > 1)
    state[name].view(-1)[-1] = value
    bundle = forged(smoke_bundle, tmp_path, **{f"{part}.safetensors": save(state)})
    with pytest.raises(MinidalleError, match=f"{part}.safetensors: .* NaN or infinite"):
        load_bundle(bundle)


@pytest.mark.parametrize("kind", [torch.int64, torch.complex64, torch.bool])
def test_weights_of_another_kind_are_refused(smoke_bundle, tmp_path, kind):
    state = load((smoke_bundle / "prior.safetensors").read_bytes())
    state["start"] = state["start"].to(kind)
    bundle = forged(smoke_bundle, tmp_path, **{"prior.safetensors": save(state)})
    with pytest.raises(MinidalleError, match="start holds torch"):
        load_bundle(bundle)


def test_parts_that_were_not_trained_together_are_refused(smoke_bundle, tmp_path):
    """Catches a tokenizer of another run: every caption would be read as other words."""
    tokenizer = json.loads((smoke_bundle / "tokenizer.json").read_text())
    tokenizer["merges"] = tokenizer["merges"][:-1]
    tokenizer["vocab_size"] -= 1
    bundle = forged(smoke_bundle, tmp_path, **{"tokenizer.json": to_json(tokenizer)})
    with pytest.raises(MinidalleError, match="vocab_size is 400 and the tokenizer has 399"):
        load_bundle(bundle)


def test_a_pointer_of_git_lfs_says_what_it_is(smoke_bundle, tmp_path):
    bundle = forged(smoke_bundle, tmp_path)
    (bundle / "prior.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid x\n")
    with pytest.raises(MinidalleError, match=r"pointer of Git LFS.* git lfs pull"):
        load_bundle(bundle)


@pytest.mark.parametrize(
    "change",
    [
        {"guidance": float("inf")}, {"guidance": float("nan")}, {"top_p": 1e-46}, {"top_p": "0.9"},
        {"top_k": 2.5}, {"top_k": 0}, {"temperature": float("inf")}, {"temperature": None},
        {"temperature": -1}, {"top_k": True},
    ],
    ids=str,
)  # fmt: skip
def test_absurd_sampling_is_refused(change):
    with pytest.raises(MinidalleError, match=next(iter(change))):
        SamplingConfig(**change)


@pytest.mark.parametrize(
    "change",
    [
        {"lr": 0}, {"lr": float("nan")}, {"betas": (0.9,)}, {"betas": (0.9, 2)}, {"steps": 1.5},
        {"ema_decay": -1}, {"seed": -1},
    ],
    ids=str,
)  # fmt: skip
def test_absurd_training_is_refused(change):
    with pytest.raises(MinidalleError, match=next(iter(change))):
        TrainConfig(**{"steps": 1, **change})


def test_a_run_that_is_still_in_training_says_so(tmp_path):
    """Catches "no such file: manifest.json" for who draws from a training an hour too early."""
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(MinidalleError, match=r"still in training .* train all --resume"):
        load_bundle(tmp_path)


def test_a_folder_of_links_says_how_to_copy_it(smoke_bundle, tmp_path):
    """A snapshot folder of a model hub's cache: every file in it is a link."""
    (tmp_path / "snapshot").mkdir()
    for path in smoke_bundle.iterdir():
        (tmp_path / "snapshot" / path.name).symlink_to(path)
    with pytest.raises(MinidalleError, match=r"copy what it points to \(cp -L\)"):
        load_bundle(tmp_path / "snapshot")


@pytest.mark.parametrize("command", [["generate", "a red cat"], ["generate", "a red cat", "--json"],
                                     ["evaluate", "--captions", "2"]], ids=" ".join)  # fmt: skip
@pytest.mark.parametrize(
    ("part", "key", "says"),
    [
        ("prior", "code_head.weight", "the prior's logits are not finite at code 1 of 144"),
        ("dvae", "decoder.0.bias", "similarity is not finite"),
        ("clip", "image_tower.transformer.norm.weight", "similarity is not finite"),
    ],
)
def test_finite_weights_that_overflow_are_refused(
    smoke_bundle, tmp_path, capsys, command, part, key, says
):
    """Catches a picture of one code only, and a report of pictures that are not numbers."""
    weights = load((smoke_bundle / f"{part}.safetensors").read_bytes())
    weights[key] = torch.full_like(weights[key].float(), 3e38)
    bundle = forged(smoke_bundle, tmp_path, **{f"{part}.safetensors": save(weights)})
    out = [] if command[0] == "evaluate" else ["--out", str(tmp_path / "x.png")]
    assert main([*command, "--candidates", "2", "--bundle", str(bundle), *out]) == 2
    told = capsys.readouterr()
    assert told.out == "" and not (tmp_path / "x.png").exists()
    assert told.err.splitlines()[-1].startswith(f"minidalle: {says}")

"""A bundle on the disk: what was saved comes back, and what does not belong together is refused."""

import copy
import dataclasses
import json
import resource
from pathlib import Path

import pytest
import torch
from safetensors.torch import load as parse_tensors
from safetensors.torch import save as tensor_bytes
from torch import nn

from minidalle.bundle import (
    MODELS,
    OLD_FIELDS,
    OLD_WEIGHTS,
    Bundle,
    config_from_dict,
    default_bundle,
    load_bundle,
    load_weights,
    save_bundle,
)
from minidalle.clip import CLIP, CLIPConfig
from minidalle.dvae import DVAE, DVAEConfig
from minidalle.errors import MinidalleError
from minidalle.files import MANIFEST, to_json, write_directory
from minidalle.prior import Prior, PriorConfig
from minidalle.tokenizer import Tokenizer
from tests.test_files import child, names, tells

INFO = {
    "preset": "tiny",
    "sampling": {"temperature": 0.1 + 0.2, "top_k": None},
    "words": ["cat", "猫", "🐻"],
    "best": float("inf"),
}


@pytest.fixture(scope="module")
def tiny() -> Bundle:
    """All four parts, small; no two weights are alike, so that none can be exchanged unseen."""
    torch.manual_seed(0)
    captions = ["a red cat on the grass", "a blue cat on the sand", "草地上的一只红色的猫"]
    tokenizer = Tokenizer.train(captions, 280)
    dvae = DVAE(DVAEConfig(image_size=16, codes=8, patch=2, widths=(4, 8), blocks=1, code_width=4))
    prior = Prior(
        PriorConfig(vocab_size=tokenizer.vocab_size, text_length=5, codes=8, grid=4, width=16,
                    layers=2, heads=2, kernel=3)
    )  # fmt: skip
    clip = CLIP(
        CLIPConfig(vocab_size=tokenizer.vocab_size, text_length=5, image_size=16, patch=4,
                   width=16, image_layers=1, text_layers=2, heads=2, embedding=6)
    )  # fmt: skip
    for model in (dvae, prior, clip):
        for parameter in model.parameters():
            nn.init.normal_(parameter)
    return Bundle(tokenizer, dvae, prior, clip, INFO)


def files_of(directory: Path) -> dict[str, bytes]:
    """What `write_directory` was given."""
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.name != MANIFEST}


def refused(directory: Path, *parts: object) -> None:
    with pytest.raises(MinidalleError) as caught:
        load_bundle(directory)
    tells(caught, *parts)


def assert_same_weights(a: nn.Module, b: nn.Module) -> None:
    ours, theirs = a.state_dict(), b.state_dict()
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert tensor.dtype == theirs[name].dtype, name
        assert torch.equal(tensor, theirs[name]), name


# --- A whole bundle -------------------------------------------------------------------------------


def test_round_trip(tiny, tmp_path):
    """Catches a part that is exchanged, forgotten, or kept in half precision when it is used."""
    path = save_bundle(tmp_path / "bundle", tiny)
    assert names(path) == [
        "clip.safetensors", "config.json", "dvae.safetensors", "info.json", "manifest.json",
        "prior.safetensors", "tokenizer.json",
    ]  # fmt: skip
    loaded = load_bundle(path)
    assert loaded.info == INFO
    assert loaded.tokenizer.merges == tiny.tokenizer.merges and tiny.tokenizer.merges
    for name in MODELS:
        model, saved = getattr(loaded, name), getattr(tiny, name)
        assert type(model) is type(saved) and model.config == saved.config
        rounded = copy.deepcopy(saved).half().float()
        for key, tensor in rounded.state_dict().items():
            assert torch.equal(model.state_dict()[key], tensor), key
        assert all(p.dtype == torch.float32 for p in model.parameters())


def test_saving_again_gives_the_same_bytes(tiny, tmp_path):
    """Catches weights that drift from save to save, and saving that changes what is saved."""
    before = copy.deepcopy(tiny.prior.state_dict())
    first = save_bundle(tmp_path / "first", tiny)
    second = save_bundle(tmp_path / "second", load_bundle(first))
    assert files_of(first) == files_of(second)
    assert (first / MANIFEST).read_bytes() == (second / MANIFEST).read_bytes()
    assert all(torch.equal(before[k], v) for k, v in tiny.prior.state_dict().items())


def test_a_bundle_is_replaced_and_a_stranger_is_not(tiny, tmp_path):
    path = save_bundle(str(tmp_path / "bundle"), tiny)  # a str will do
    save_bundle(path, tiny._replace(info={}))
    assert load_bundle(str(path)).info == {}
    (path / "README.md").write_text("# What I found out")
    with pytest.raises(MinidalleError) as caught:
        save_bundle(path, tiny)
    tells(caught, path, "something else than a bundle is there (README.md)")
    assert load_bundle(path).info == {} and (path / "README.md").exists()


PARTS = ["clip.safetensors", "config.json", "dvae.safetensors", "info.json", "prior.safetensors",
         "tokenizer.json"]  # fmt: skip


@pytest.mark.parametrize("part", PARTS)
def test_a_bundle_without_one_of_its_parts(tiny, tmp_path, part):
    path = save_bundle(tmp_path / "bundle", tiny)
    files = files_of(path)
    del files[part]
    write_directory(path, files)
    stem = part.split(".")[0]
    refused(path, f"{path} is not a bundle: it has no {stem}", "minidalle train all", "OUT/bundle")


@pytest.mark.parametrize("part", PARTS)
def test_a_part_of_another_kind(tiny, tmp_path, part):
    """Catches a KeyError where weights have become JSON, or JSON weights."""
    path = save_bundle(tmp_path / "bundle", tiny)
    files = files_of(path)
    del files[part]
    stem, _, suffix = part.partition(".")
    if suffix == "safetensors":
        files[f"{stem}.json"] = b"{}"
    else:
        files[f"{stem}.safetensors"] = tensor_bytes({})
    write_directory(path, files)
    refused(path, f"{path} is not a bundle: it has no {stem}")


@pytest.mark.parametrize("model", MODELS)
def test_a_config_without_one_of_the_models(tiny, tmp_path, model):
    path = save_bundle(tmp_path / "bundle", tiny)
    files = files_of(path)
    config = json.loads(files["config.json"])
    del config[model]
    write_directory(path, files | {"config.json": to_json(config)})
    refused(path, f"{path / 'config.json'} has no config of {model}")


@pytest.mark.parametrize("document", [b"3", b"[]", b"null", b'{"dvae": 3}', b'{"dvae": []}'])
def test_a_config_that_is_none(tiny, tmp_path, document):
    path = save_bundle(tmp_path / "bundle", tiny)
    write_directory(path, files_of(path) | {"config.json": document})
    refused(path, f"{path / 'config.json'} has no config of dvae")


def test_what_is_no_bundle_at_all(tiny, tmp_path):
    path = save_bundle(tmp_path / "run" / "bundle", tiny)
    refused(path / "prior.safetensors", "is a file, and not a bundle", "OUT/bundle")
    refused(path.parent, f"cannot read {path.parent / MANIFEST}: No such file")
    refused(tmp_path / "nothing", f"cannot read {tmp_path / 'nothing'}: no such directory")
    (path / "prior.safetensors").write_bytes(b"")
    refused(path, f"{path / 'prior.safetensors'} is damaged", "fetch a fresh copy")


@pytest.mark.parametrize("name", MODELS)
def test_weights_that_do_not_fit_the_config(tiny, tmp_path, name):
    """Config and weights that disagree, though every hash is right."""
    path = save_bundle(tmp_path / "bundle", tiny)
    files = files_of(path)
    weights = parse_tensors(files[f"{name}.safetensors"])
    first = next(iter(weights))
    weights[first] = torch.zeros(1, 2, 3, 4, 5)
    write_directory(path, files | {f"{name}.safetensors": tensor_bytes(weights)})
    refused(
        path, f"{path / f'{name}.safetensors'} does not fit this model",
        f"{first} is (1, 2, 3, 4, 5) in the file and",
    )  # fmt: skip


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", MODELS)
def test_weights_that_are_no_numbers(tiny, tmp_path, name, value):
    """Catches a bundle that loads and draws nothing but grey."""
    path = save_bundle(tmp_path / "bundle", tiny)
    files = files_of(path)
    weights = parse_tensors(files[f"{name}.safetensors"])
    # A file lists its tensors in any order, and the DVAE also has buffers of integers.
    last = max(key for key, weight in weights.items() if weight.is_floating_point())
    weights[last].reshape(-1)[-1] = value
    write_directory(path, files | {f"{name}.safetensors": tensor_bytes(weights)})
    refused(path, f"{path / f'{name}.safetensors'}: {last} holds NaN or infinite weights")


def load_within(path, limit, pipe):
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    try:
        load_bundle(path)
    except (MinidalleError, RuntimeError) as error:  # torch raises this one where memory runs out
        pipe.send(f"{type(error).__name__}: {error}")


def test_a_config_too_large_for_any_memory(tiny, tmp_path):
    """Catches memory that is allocated for what the file says, before the two are compared."""
    path = save_bundle(tmp_path / "bundle", tiny)
    files = files_of(path)
    config = json.loads(files["config.json"])
    config["prior"]["width"] = 1 << 16
    write_directory(path, files | {"config.json": to_json(config)})
    with child(load_within, path, 16 << 30) as (_, pipe):
        message = pipe.recv()
    problem = f"{path / 'prior.safetensors'} does not fit this model"
    assert message.startswith(f"MinidalleError: {problem}")


@pytest.mark.parametrize(
    ("model", "field"),
    [("prior", "vocab_size"), ("clip", "vocab_size"), ("prior", "codes"), ("prior", "grid"),
     ("clip", "image_size")],
)  # fmt: skip
def test_parts_that_were_not_trained_together(tiny, tmp_path, model, field):
    """Catches parts of two bundles in one: it draws, and what it draws means nothing."""
    config = getattr(tiny, model).config
    other = dataclasses.replace(config, **{field: 2 * getattr(config, field)})
    mixed = tiny._replace(**{model: MODELS[model][0](other)})
    path = save_bundle(tmp_path / "bundle", mixed)
    ours = "the prior" if model == "prior" else "CLIP"
    refused(
        path, f"{path}: {ours}'s {field} is {getattr(other, field)} and ",
        f"has {getattr(config, field)}: these parts were not trained together",
    )  # fmt: skip


@pytest.mark.parametrize("info", [b"3", b"[]", b'{"words": "cat"}', b'{"words": [1]}'])
def test_words_that_are_none(tiny, tmp_path, info):
    path = save_bundle(tmp_path / "bundle", tiny)
    write_directory(path, files_of(path) | {"info.json": info})
    refused(path, f"{path / 'info.json'}: words is not a list of texts")


def test_a_config_of_another_release(tiny, tmp_path):
    path = save_bundle(tmp_path / "bundle", tiny)
    files = files_of(path)
    config = json.loads(files["config.json"])
    config["clip"]["experts"] = 4
    write_directory(path, files | {"config.json": to_json(config)})
    refused(path, f"{path}: the clip is of another release", "experts")


def test_a_tokenizer_that_is_none(tiny, tmp_path):
    path = save_bundle(tmp_path / "bundle", tiny)
    for document in (b"{}", b"[]", b"3"):
        write_directory(path, files_of(path) | {"tokenizer.json": document})
        refused(path, path / "tokenizer.json", "not a 'minidalle tokenizer 1'")


# --- Bundles of November 2026 and before ----------------------------------------------------------


def as_in_november(path: Path) -> None:
    """Rename what has new names back to the old ones, and drop nothing."""
    files = files_of(path)
    config = json.loads(files["config.json"])
    fields = {new: old for old, new in OLD_FIELDS.items()}
    old_config = {
        model: {fields.get(field, field): value for field, value in saved.items()}
        for model, saved in config.items()
    }
    keys = {new: old for old, new in OLD_WEIGHTS.items()}
    weights = parse_tensors(files["clip.safetensors"])
    old_weights = {keys.get(key, key): tensor for key, tensor in weights.items()}
    assert old_config["dvae"].keys() >= OLD_FIELDS.keys()  # else nothing would be shown
    assert old_weights.keys() >= OLD_WEIGHTS.keys()
    assert not old_weights.keys() & OLD_WEIGHTS.values()
    files["config.json"] = to_json(old_config)
    files["clip.safetensors"] = tensor_bytes(old_weights)
    write_directory(path, files)


def test_old_names_load_to_the_same_weights(tiny, tmp_path):
    """Catches an old name that is forgotten, or that is taken for another."""
    dvae = DVAE(dataclasses.replace(tiny.dvae.config, encoder_num_3x3=2, decoder_num_3x3=3))
    tiny = tiny._replace(dvae=dvae)  # two numbers that cannot be exchanged unseen
    path = save_bundle(tmp_path / "bundle", tiny)
    new = load_bundle(path)
    as_in_november(path)
    old = load_bundle(path)
    for name in MODELS:
        assert getattr(old, name).config == getattr(new, name).config
        assert_same_weights(getattr(old, name), getattr(new, name))
    assert old.dvae.config.encoder_num_3x3 == 2 and old.dvae.config.decoder_num_3x3 == 3
    assert old.tokenizer.merges == new.tokenizer.merges and old.info == new.info


def test_saving_an_old_bundle_brings_it_up_to_date(tiny, tmp_path):
    path = save_bundle(tmp_path / "bundle", tiny)
    new = files_of(path)
    as_in_november(path)
    assert files_of(path) != new
    save_bundle(path, load_bundle(path))
    assert files_of(path) == new


def test_the_bundle_that_ships_loads():
    """Catches a rename in the code that leaves the weights in data/ behind."""
    bundle = load_bundle(default_bundle())
    assert bundle.tokenizer.vocab_size == bundle.prior.config.vocab_size
    assert bundle.dvae.config.codes == bundle.prior.config.codes
    assert bundle.info["words"] and bundle.info["sampling"]


# --- A config from JSON ---------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    vocabulary: int = 10
    width: int = 4
    heads: tuple[int, ...] = (1, 2)


@pytest.mark.parametrize(
    "config",
    [Config(heads=(3, 4, 5)), DVAEConfig(widths=(8, 16)), PriorConfig(layers=1), CLIPConfig()],
    ids=lambda config: type(config).__name__,
)
def test_a_config_comes_back_from_json(config):
    """Catches tuples that have become lists: such a config is not equal, and has no hash."""
    document = json.loads(json.dumps(dataclasses.asdict(config)))
    again = config_from_dict(type(config), document, "the model")
    assert again == config and hash(again) == hash(config)


def test_fields_that_are_left_out_have_their_defaults():
    assert config_from_dict(Config, {"width": 6}, "the model") == Config(width=6)


def test_a_field_of_another_release_is_named():
    with pytest.raises(MinidalleError) as caught:
        config_from_dict(Config, {"width": 6, "experts": 4}, "run/step-1: the model")
    tells(caught, "run/step-1: the model is of another release of minidalle", "experts", "train")


# --- Weights into a model -------------------------------------------------------------------------


def embedding_and_linear(config: Config) -> nn.Module:
    layers = nn.Embedding(config.vocabulary, config.width), nn.Linear(config.width, 2)
    return nn.Sequential(*layers)


@pytest.mark.parametrize("change", [{"width": 6}, {"vocabulary": 12}])
def test_config_and_weights_disagree(tmp_path, change):
    config = Config()
    theirs = dataclasses.replace(config, **change)
    state = embedding_and_linear(theirs).state_dict()
    # As a file gives it back: its tuples have become lists, and are no difference.
    saved_config = json.loads(json.dumps(dataclasses.asdict(theirs)))
    model = embedding_and_linear(config)
    before = copy.deepcopy(model.state_dict())
    arguments = {"file": tmp_path / "model.safetensors", "saved_config": saved_config}
    with pytest.raises(MinidalleError) as caught:
        load_weights(model, state, config=config, **arguments)
    ((field, value),) = change.items()
    shape = (theirs.vocabulary, theirs.width)
    tells(
        caught,
        arguments["file"],
        f"0.weight is {shape} in the file and (10, 4) in the model",
        f"config: {field} is {value} in the file and {getattr(config, field)} in the model; build",
        "build the model with the file's config",
    )
    # Nothing was copied, not even the layers that would have fitted.
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    twin = embedding_and_linear(theirs)
    load_weights(twin, state, config=theirs, **arguments)
    assert torch.equal(twin[0].weight, state["0.weight"])
    assert torch.equal(twin[1].bias, state["1.bias"])


def test_keys_that_disagree(tmp_path):
    model, other = nn.Linear(2, 2), nn.Sequential(*[nn.Linear(2, 2) for _ in range(9)])
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(MinidalleError) as caught:
        load_weights(model, other.state_dict(), file=tmp_path / "f", config={}, saved_config={})
    tells(caught, "weight is missing from the file", "0.bias is unknown to the model")
    tells(caught, "12 more", "config: no difference")
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())

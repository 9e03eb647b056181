"""One bundle, from a caption to ranked pictures."""

import copy
import json
import os
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from minidalle import pipeline
from minidalle.cli.main import main
from minidalle.errors import MinidalleError
from minidalle.files import MANIFEST, to_json, write_directory
from minidalle.pipeline import MiniDALLE, distinct_first


def test_generate_gives_ranked_pictures(smoke_model):
    """Pictures and scores that do not belong together, or that are not best first."""
    ranked = smoke_model.generate("a red car on the grass", candidates=6, keep=3, seed=1)
    assert ranked.images.shape == (3, 48, 48, 3) and ranked.images.dtype == np.uint8
    assert list(ranked.scores) == sorted(ranked.scores, reverse=True)
    text = smoke_model.tokenizer.batch([ranked.caption], smoke_model.clip.config.text_length)
    codes, images = smoke_model.candidates(ranked.caption, 6, seed=1)
    with torch.no_grad():
        scores = smoke_model.clip.encode_image(images) @ smoke_model.clip.encode_text(text)[0]
    assert ranked.order.tolist() == scores.argsort(descending=True).tolist()[:3]
    assert np.allclose(ranked.scores, scores[ranked.order.tolist()], atol=1e-6)
    assert np.array_equal(ranked.codes.reshape(3, -1), codes[ranked.order.tolist()])


def test_a_seed_is_a_picture(smoke_model):
    """The same seed must draw the same candidate, however many are drawn beside it."""
    few, _ = smoke_model.candidates("a cat", 2, seed=5)
    many, _ = smoke_model.candidates("a cat", 7, seed=5)
    other, _ = smoke_model.candidates("a cat", 2, seed=6)
    assert torch.equal(few, many[:2]) and not torch.equal(few, other)


def test_priming_completes_a_picture(smoke_model):
    """Given codes must stay, and what follows must be drawn."""
    prime = torch.arange(32)
    codes, _ = smoke_model.candidates("a cat", 3, seed=0, prime=prime)
    assert torch.equal(codes[:, :32], prime.expand(3, -1))
    assert len({tuple(c) for c in codes[:, 32:].tolist()}) == 3


def test_sampling_settings_reach_the_drawing(smoke_model):
    """A setting that is accepted and ignored."""
    plain = smoke_model.generate("a cat", 2, 2, seed=3)
    for setting in ({"temperature": 0.0}, {"guidance": 2000.0}, {"top_k": 1}, {"top_p": 0.01}):
        changed = smoke_model.generate("a cat", 2, 2, seed=3, **setting)
        assert not np.array_equal(plain.codes, changed.codes), setting
    greedy = smoke_model.generate("a cat", 3, 3, temperature=0.0)
    assert len({c.tobytes() for c in greedy.codes}) == 1


@pytest.mark.parametrize(
    "caption", ["", "  ", "\n", "\u200b \ufeff", "\u3164", "\x1b[31m\x00", "\u3000\u202e\ufe0f"]
)
def test_an_empty_caption_is_asked_for(smoke_model, caption):
    with pytest.raises(MinidalleError, match="a caption is needed"):
        smoke_model.generate(caption)


def test_words_never_seen_are_named(smoke_model):
    """A guess is drawn, but the reader must know that it is one."""
    with pytest.warns(UserWarning, match="never seen in training: zeppelin"):
        smoke_model.generate("a red zeppelin", 1, 1)
    with pytest.warns(UserWarning, match="艇"):
        smoke_model.generate("一艘红色的艇", 1, 1)
    with pytest.warns(UserWarning, match="never seen in training: 7, cats, 🐻"):
        smoke_model.generate("7 red cats and a 🐻", 1, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        smoke_model.generate("a red cat", 1, 1)


def test_a_long_caption_is_cut_with_one_note(smoke_model):
    with pytest.warns(UserWarning) as notes:
        smoke_model.generate("a red cat " * 40, 1, 1)
    cut = [n for n in notes if "dropped" in str(n.message)]
    assert len(cut) == 1 and "red cat" in str(cut[0].message)


def with_lengths(model, prior, clip):
    """The same model, of which the prior and CLIP read so many tokens."""
    short = copy.deepcopy(model)
    for part, length in ((short.prior, prior), (short.clip, clip)):
        state = part.state_dict()
        part.__init__(replace(part.config, text_length=length))
        fresh = part.state_dict()
        part.load_state_dict({k: v if v.shape == fresh[k].shape else fresh[k]
                              for k, v in state.items()})  # fmt: skip
        part.eval().requires_grad_(False)
    return short


@pytest.mark.parametrize(
    ("prior", "clip", "says"),
    [
        (
            32,
            4,
            "CLIP ranks by the first 4 of the caption's {} tokens; the prior reads all of them",
        ),
        (4, 32, "caption cut from {} to 4 tokens; dropped: "),
        (4, 3, "caption cut from {} to 4 tokens; dropped: "),
        (3, 4, "caption cut from {} to 3 tokens; dropped: "),
        (4, 4, "caption cut from {} to 4 tokens; dropped: "),
    ],
)
def test_a_cut_of_either_model_is_told_once(smoke_model, prior, clip, says):
    """Catches a caption of which CLIP reads half, without a word."""
    model, caption = with_lengths(smoke_model, prior, clip), "a red cat and a blue dog on the grass"
    tokens = len(model.tokenizer.encode(caption))
    assert 4 < tokens <= 32
    with pytest.warns(UserWarning) as notes:
        model.generate(caption, 1, 1)
    (note,) = [str(n.message) for n in notes]
    assert note.startswith(says.format(tokens))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with_lengths(smoke_model, 32, tokens).generate(caption, 1, 1)  # it just fits


@pytest.mark.parametrize(("prior", "clip"), [(4, 4), (32, 4), (4, 32)])
def test_many_cut_captions_are_one_line_of_evaluate_and_one_each_of_generate(
    smoke_model, tmp_path, capsys, prior, clip
):
    """Catches hundreds of notes, two of every caption."""
    bundle = ["--bundle", str(with_lengths(smoke_model, prior, clip).save(tmp_path / "bundle"))]
    assert main(["evaluate", *bundle, "--captions", "6", "--candidates", "1"]) == 0
    told = capsys.readouterr().err
    assert told.count("note: ") == 1
    assert "note: 6 of 6 captions are longer than 4 tokens and were cut" in told
    captions = ["a red cat and a blue dog on the grass", "a blue dog and a red cat on the grass"]
    out = ["--candidates", "1", "--out", str(tmp_path / "out")]
    assert main(["generate", *captions, *bundle, *out]) == 0
    assert capsys.readouterr().err.count("note: ") == 2


@pytest.mark.parametrize("letters", ["x", "zq ", "🐻", "猫", "е́"])
def test_notes_on_a_very_long_caption_are_one_short_line_each(smoke_model, letters):
    """Catches 110 kB of warnings: of what was cut, and of words never seen."""
    caption = "".join(letters + str(i) * (letters == "zq ") for i in range(20_000))
    with pytest.warns(UserWarning) as notes:
        ranked = smoke_model.generate(caption, 1, 1)
    assert ranked.caption == caption
    assert 1 <= len(notes) <= 2 and all(len(str(n.message)) < 200 for n in notes)


@pytest.mark.parametrize(
    "pasted",
    [
        "a\u00a0red car\u3000on the  grass\n", "\ufeffa r\u200bed car on the gra\u00adss",
        "ａ ｒｅｄ ｃａｒ on the grass", "𝐚 𝐫𝐞𝐝 car on the graſs",
    ],
)  # fmt: skip
def test_another_spelling_draws_the_same_picture_without_a_word(smoke_model, pasted):
    """A no-break space cost 14 of 16 right pictures."""
    plain = smoke_model.generate("a red car on the grass", 2, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        other = smoke_model.generate(pasted, 2, 2)
    assert np.array_equal(plain.images, other.images) and np.array_equal(plain.scores, other.scores)
    assert other.caption == pasted and smoke_model.unseen(pasted) == []


def test_chinese_with_spaces_draws_the_same_picture(smoke_model):
    plain = smoke_model.generate("一只红色的汽车停在草地上", 2, 2)
    for pasted in ("一只 红色 的 汽车 停在 草地 上", "一只红色的汽车\n停在草地上"):
        assert np.array_equal(plain.images, smoke_model.generate(pasted, 2, 2).images)


@pytest.mark.parametrize(
    "pasted",
    ["a \x1b[1;31mred\x1b[0m cat", "\u202ea red cat\u202c", "a\x07 red cat\x9b0m",
     "\x1b]8;;http://x\x07a red cat\x1b]8;;\x1b\\"],
)  # fmt: skip
def test_control_characters_are_left_out_and_said_once(smoke_model, pasted):
    """What a terminal shows of them may be another caption than the one that is read."""
    with pytest.warns(UserWarning) as notes:
        other = smoke_model.generate(pasted, 1, 1)
    assert [str(n.message) for n in notes] == ["control characters left out; read as 'a red cat'"]
    assert np.array_equal(other.images, smoke_model.generate("a red cat", 1, 1).images)


def test_words_keep_their_marks(smoke_model):
    """Catches a Hindi word that is named in pieces, and one accent in two spellings."""
    assert smoke_model.unseen("एक बड़ा भालू, دُبٌّ Cafe\u0301") == ["एक", "बड़ा", "भालू", "دُبٌّ", "café"]


@pytest.mark.parametrize("part", ["clip.text_tower", "clip.image_tower", "dvae.decoder"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_similarity_that_is_not_finite_is_refused(smoke_bundle, part, value):
    """Catches nan printed as a score, and pictures in an order that means nothing."""
    model = MiniDALLE.load(smoke_bundle, device="cpu")
    name, _, inner = part.partition(".")
    with torch.no_grad():
        next(getattr(getattr(model, name), inner).parameters()).fill_(value)
    with pytest.raises(MinidalleError, match=r"similarity is not finite.*fetch a fresh copy"):
        model.generate("a red cat", 2, 1)


@pytest.mark.parametrize("caption", ["🐻❄️", "\u200bred\u200b", "ⴰⵎⵖⵔⴰⴱⵉ", "\ud800", "a\x00b"])
def test_any_text_draws_something(smoke_model, caption):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert smoke_model.generate(caption, 1, 1).images.shape == (1, 48, 48, 3)


@pytest.mark.parametrize(
    ("candidates", "keep"), [(0, 0), (4, 5), (4, 0), (-1, 1)], ids=lambda n: str(n)
)
def test_impossible_numbers_are_refused(smoke_model, candidates, keep):
    with pytest.raises(MinidalleError, match="candidates"):
        smoke_model.generate("a cat", candidates, keep)


def test_of_few_candidates_all_are_kept(smoke_model):
    """Catches a default of 4 that refuses the 1 that was asked for."""
    assert len(smoke_model.generate("a cat", candidates=1).images) == 1


def forge(bundle, copy, name, document):
    """A copy of a bundle with another document, and the hash to match."""
    files = {path.name: path.read_bytes() for path in bundle.iterdir() if path.name != MANIFEST}
    write_directory(copy, files | {name: to_json(document)})


def test_a_bundle_of_another_release_says_so(smoke_bundle, tmp_path):
    """Catches a TypeError for a setting that this release does not know."""
    config = json.loads((smoke_bundle / "config.json").read_text())
    config["prior"]["experts"] = 4
    forge(smoke_bundle, tmp_path / "newer", "config.json", config)
    with pytest.raises(MinidalleError, match=r"prior is of another release .*experts"):
        MiniDALLE.load(tmp_path / "newer", device="cpu")
    info = json.loads((smoke_bundle / "info.json").read_text())
    info["sampling"]["beam"] = 4
    forge(smoke_bundle, tmp_path / "newest", "info.json", info)
    with pytest.raises(MinidalleError, match=r"sampling is of another release .*beam"):
        MiniDALLE.load(tmp_path / "newest", device="cpu")


def test_a_bundle_draws_the_same_after_a_round_trip(smoke_model, smoke_bundle, tmp_path):
    """Half precision on disk is read back alike, so what was saved again is the same bundle."""
    again = MiniDALLE.load(smoke_model.save(tmp_path / "again"), device="cpu")
    a, b = (m.generate("a cat", 3, 3, seed=2) for m in (smoke_model, again))
    assert np.array_equal(a.images, b.images) and np.array_equal(a.scores, b.scores)
    assert again.info == smoke_model.info


def test_a_bundle_that_does_not_fit_itself_is_refused(smoke_bundle, tmp_path):
    """Config and weights that disagree, though every hash is right."""
    config = json.loads((smoke_bundle / "config.json").read_text())
    config["prior"]["width"] = 48
    forge(smoke_bundle, tmp_path / "bundle", "config.json", config)
    shapes = r"start is \(32,\) in the file and \(48,\) in the model"
    with pytest.raises(MinidalleError, match=shapes):
        MiniDALLE.load(tmp_path / "bundle")


def test_a_missing_bundle_says_so(tmp_path):
    with pytest.raises(MinidalleError, match=str(tmp_path / "nothing")):
        MiniDALLE.load(tmp_path / "nothing")


def test_a_caption_of_two_lines_is_written_on_one(smoke_model, tmp_path):
    """Catches a picture that is drawn, and lost as its label has a line break."""
    ranked = smoke_model.generate("a red car\non the grass", candidates=2, keep=1)
    assert ranked.save(tmp_path / "x.png").exists()


def test_the_strip_is_written_and_labelled(smoke_model, tmp_path):
    """Labels that fall outside the sheet, or a sheet of another size than its pictures ask."""
    ranked = smoke_model.generate("a red car on the grass", 4, 4)
    with Image.open(ranked.save(tmp_path / "x.png")) as sheet:
        assert sheet.mode == "RGB" and sheet.width > 4 * 192 and sheet.height > 192
        pixels = np.asarray(sheet)
    assert (pixels[:38] < 128).any() and (pixels[-24:] < 160).any()  # a title and labels
    with pytest.raises(MinidalleError, match="cannot write"):
        ranked.save(tmp_path / "no" / "such" / "x.png")
    with pytest.raises(MinidalleError, match="cannot write"):
        ranked.save(tmp_path / "x.nonsense")


# Pictures of their own -----------------------------------------------------------------------
def test_pictures_are_saved_one_by_one_and_nothing_is_overwritten(smoke_model, tmp_path):
    ranked = smoke_model.generate("a red cat", 3, 3)
    folder = tmp_path / "new" / "folder"
    paths = ranked.save_images(folder)
    assert paths == [folder / f"0{i}.png" for i in range(3)]
    for path, image in zip(paths, ranked.images, strict=True):
        with Image.open(path) as saved:
            assert saved.format == "PNG" and np.array_equal(np.asarray(saved), image)
    paths[1].unlink()
    (folder / "03.png").symlink_to("nowhere")  # a link counts, wherever it leads
    (folder / "04.png").mkdir()
    before = paths[0].stat().st_mtime_ns
    again = ranked.save_images(str(folder))
    assert [p.name for p in again] == ["01.png", "05.png", "06.png"]
    assert paths[0].stat().st_mtime_ns == before and not (tmp_path / "nowhere").exists()


def test_many_pictures_have_names_of_three_digits(smoke_model, tmp_path):
    ranked = smoke_model.generate("a red cat", 1, 1)
    for i in range(100):
        (tmp_path / f"{i:02d}.png").touch()
    assert ranked.save_images(tmp_path) == [tmp_path / "100.png"]


def test_pictures_that_cannot_be_saved_leave_no_half_a_file(smoke_model, tmp_path, monkeypatch):
    ranked = smoke_model.generate("a red cat", 2, 2)
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(MinidalleError, match=r"cannot write pictures into .*choose another"):
            ranked.save_images(folder)
    full = tmp_path / "full"
    full.mkdir()
    written = []

    def no_space(path, data):
        if written:
            raise OSError(28, os.strerror(28))
        written.append(path)
        return write_new(path, data)

    write_new = pipeline._write_new
    monkeypatch.setattr(pipeline, "_write_new", no_space)
    with pytest.raises(MinidalleError, match="No space left"):
        ranked.save_images(full)
    assert [p.name for p in full.iterdir()] == ["00.png"]
    with pytest.raises(TypeError):  # the writing fails once the file is there
        write_new(full / "01.png", "no bytes")
    assert [p.name for p in full.iterdir()] == ["00.png"]


def test_twins_come_last():
    """Catches four equal pictures for one caption, an order turned round, and a picture lost."""
    codes = torch.zeros(6, 20, dtype=torch.int64)
    codes[1, :3] = 1  # a twin of 0: it differs in three codes
    codes[2, :4] = 1  # in four: it is another picture, though near to 1
    codes[3] = 2
    codes[4] = codes[3]
    codes[5] = 5
    assert distinct_first(codes) == [0, 2, 3, 5, 1, 4]
    assert distinct_first(codes, near=0) == [0, 1, 2, 3, 5, 4]
    assert distinct_first(codes[:1]) == [0]

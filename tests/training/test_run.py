"""A training run: each stage needs those before it, and resumes bit for bit where it stopped."""

import hashlib
import json
import shutil
from collections import deque
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from minidalle import judge
from minidalle.bundle import load_bundle
from minidalle.datasets.image_folder import CaptionedImageFolder
from minidalle.datasets.source import FolderSource
from minidalle.dvae import tau_at
from minidalle.errors import MinidalleError
from minidalle.pipeline import MiniDALLE
from minidalle.sampling import SamplingConfig, candidate_generators, sample_codes
from minidalle.tensors import to_tensor, to_uint8
from minidalle.tokenizer import Tokenizer
from minidalle.training import checkpoint, distributed
from minidalle.training import run as module
from minidalle.training.log import append_record
from minidalle.training.objectives import contrastive_batch
from minidalle.training.presets import preset
from minidalle.training.run import TrainingRun
from minidalle.training.trainer import Record, TrainState, fit
from minidalle.world.captions import parse
from minidalle.world.storybook import Storybook

SMOKE, CPU = preset("smoke"), torch.device("cpu")
MODELS = ("dvae", "prior", "clip")
pytestmark = pytest.mark.filterwarnings("ignore:caption cut")  # smoke's tokenizer is a small one


def new(out, source=None, chosen=SMOKE):
    return TrainingRun(chosen, source or Storybook(), out, CPU)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """All stages, trained without a break, and their records."""
    stages = new(tmp_path_factory.mktemp("unbroken"))
    return stages, {name: list(stages.train(name)) for name in MODELS}


def newest(out, stage):
    """The step of a stage's newest checkpoint, its tensors and its metadata."""
    with checkpoint.CheckpointDirectory(out / stage) as directory:
        latest = directory.latest()
    return checkpoint.step_of(latest), *checkpoint.load(latest)


def assert_same_run(out, other, stage):
    (step, tensors, metadata), (step_2, tensors_2, metadata_2) = (
        newest(o, stage) for o in (out, other)
    )
    assert step == step_2 and metadata == metadata_2 and tensors.keys() == tensors_2.keys()
    for part in tensors:
        assert tensors[part].keys() == tensors_2[part].keys()
        for name in tensors[part]:
            assert torch.equal(tensors[part][name], tensors_2[part][name]), f"{part} {name}"


# From captions to a bundle -----------------------------------------------------------------------
def test_load_or_train_trains_what_is_missing_and_nothing_twice(trained, tmp_path):
    """Catches a notebook that trains an hour anew, or one that runs alone only in its author's."""
    told = []

    def listen(records):
        for record in records:
            told.append(record.step)
            yield record

    alone = new(tmp_path)
    prior = alone.load_or_train("prior", listen)
    assert told == [
        *range(1, SMOKE.training["dvae"].steps + 1),
        *range(1, SMOKE.training["prior"].steps + 1),
    ]
    for name, value in trained[0].model("prior").state_dict().items():
        assert torch.equal(prior.state_dict()[name], value)
    told.clear()
    again = alone.load_or_train("prior", listen)
    assert not told and torch.equal(again.start, prior.start)
    assert alone.load_or_train("tokenizer").vocab_size == prior.config.vocab_size


def test_all_stages_train_and_fit_together(trained):
    """Catches sizes that two stages disagree on, and a model that is given out as it trains."""
    stages, records = trained
    models = {name: stages.model(name) for name in MODELS}
    for name in MODELS:
        assert [r.step for r in records[name]] == list(range(1, stages.steps(name) + 1))
        step, tensors, _ = newest(stages.out, name)
        assert step == stages.steps(name)
        assert not models[name].training
        assert not any(p.requires_grad for p in models[name].parameters())
        for key, tensor in models[name].state_dict().items():
            assert torch.equal(tensor, tensors["ema"][key])  # the mean, not the last step's
        assert any(not torch.equal(t, tensors["model"][k]) for k, t in tensors["ema"].items())

    dvae, prior, clip = (models[name].config for name in MODELS)
    assert (prior.codes, prior.grid) == (dvae.codes, dvae.grid)
    assert prior.vocab_size == clip.vocab_size == stages.tokenizer().vocab_size
    assert dvae.image_size == clip.image_size == stages.source.size


def test_trained_stages_make_a_bundle(trained, tmp_path):
    """Catches a bundle without one of its parts, or with another than was trained."""
    stages, _ = trained
    bundle = MiniDALLE.load(stages.assemble(tmp_path / "bundle"), "cpu")
    for name in MODELS:
        mine, theirs = stages.model(name).state_dict(), getattr(bundle, name).state_dict()
        assert all(torch.equal(mine[key].half(), theirs[key].half()) for key in mine)
    caption = stages.source.caption("validation", 0, "zh")
    assert bundle.tokenizer.encode(caption) == stages.tokenizer().encode(caption)


@pytest.mark.parametrize("stage", ["prior", "clip"])
def test_a_stage_before_its_time_is_told_what_to_do_first(stage, tmp_path):
    """Catches a FileNotFoundError for who skips a lesson, or training on an untrained dVAE."""
    with pytest.raises(MinidalleError, match="dvae is not trained yet: run minidalle train dvae"):
        next(new(tmp_path).train(stage))


def test_a_new_model_is_the_same_for_the_same_seed(trained):
    """Catches weights that depend on what was drawn before, and a seed without effect."""
    stages, _ = trained
    other = new(stages.out, chosen=SMOKE.with_training("prior", seed=1))
    a, b, c = (s.build("prior")[0].code_head.weight for s in (stages, stages, other))
    assert torch.equal(a, b) and not torch.equal(a, c)


class Shelf:
    """Stands in for a CaptionedImageFolder of nine pictures: picture i is of grey i."""

    def __init__(self, validation=(2, 6), caption="picture {}", size=8):
        self.validation, self.text, self.image_size = list(validation), caption, size

    def split(self):
        return [i for i in range(9) if i not in self.validation], self.validation

    def image(self, i):
        return np.full((self.image_size, self.image_size, 3), i, dtype=np.uint8)

    def caption(self, i):
        return self.text.format(i)

    @property
    def digest(self):
        return hashlib.sha256(f"{self.text} {self.image_size}".encode()).hexdigest()


# Stop and go on ----------------------------------------------------------------------------------
@pytest.mark.parametrize("stage", MODELS)
def test_a_trained_stage_is_not_trained_again_unasked(stage, trained):
    """Catches a day's work overwritten by the same command given twice."""
    stages, _ = trained
    before = sorted((stages.out / stage).glob("step-*"))
    with pytest.raises(
        MinidalleError, match=f"{stage} holds a run already: continue with --resume"
    ):
        next(stages.train(stage))
    assert list(stages.train(stage, resume=True)) == []
    assert sorted((stages.out / stage).glob("step-*")) == before


# The folder has eight training pictures and a batch takes four: an epoch is two updates.
STOPS = {"at the first update": (1,), "mid-epoch": (3,), "at an epoch's end": (2,), "twice": (1, 4)}


@pytest.fixture(scope="module")
def folder_trained(tmp_path_factory):
    """All stages, trained without a break on a folder that has epochs, and their records."""
    stages = new(tmp_path_factory.mktemp("folder"), FolderSource(Shelf(validation=(8,), size=24)))
    return stages, {name: list(stages.train(name)) for name in MODELS}


@pytest.mark.parametrize("stops", STOPS.values(), ids=STOPS)
@pytest.mark.parametrize("stage", MODELS)
def test_a_stage_that_was_stopped_goes_on_bit_for_bit(stage, stops, folder_trained, tmp_path):
    """Catches a loop whose work is lost when it is left, and data or dice that start anew."""
    stages, records = folder_trained
    shutil.copytree(stages.out, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / stage)
    seen = []
    for stop in (*stops, None):
        with closing(new(tmp_path, stages.source).train(stage, resume=bool(seen))) as run:
            for record in run:
                seen.append(record)
                if record.step == stop:
                    break
        assert newest(tmp_path, stage)[0] == (stop or stages.steps(stage))
    assert [(r.step, r.losses, r.lr, r.grad_norm) for r in seen] == [
        (r.step, r.losses, r.lr, r.grad_norm) for r in records[stage]
    ]
    assert_same_run(tmp_path, stages.out, stage)
    if stage == "prior":
        one, other = (samples(s) for s in (stages, new(tmp_path, stages.source)))
        assert torch.equal(one, other)


def samples(stages):
    """Two pictures' codes, drawn by a trained prior for one caption."""
    text = stages.tokenizer().batch(["picture 1", ""], SMOKE.models["prior"].text_length)
    prior = stages.model("prior")
    *_, codes = sample_codes(
        prior, text[:1], text[1:], SamplingConfig(guidance=2.0), candidate_generators(0, 2)
    )
    return codes


def test_the_tokenizer_is_trained_once_and_the_same_for_the_same_captions(tmp_path):
    """The stage without updates: catches one trained anew under a prior that knew the other."""
    first = new(tmp_path / "a").tokenizer().to_json()
    assert new(tmp_path / "b").tokenizer().to_json() == first
    (tmp_path / "b" / "tokenizer.json").write_text(json.dumps(Tokenizer([]).to_json()))
    assert new(tmp_path / "b").tokenizer().to_json() != first


def test_a_crash_costs_no_more_than_the_steps_since_the_last_save(trained, tmp_path, monkeypatch):
    """Catches a stage that saves at its end only, and a log that tells the lost steps twice."""
    monkeypatch.setattr(module, "SAVE_EVERY", 2)
    monkeypatch.setattr(module, "LOG_EVERY", 1)
    crowded_image, first = Storybook.crowded_image, 5 * SMOKE.training["dvae"].batch_size
    seen = []

    def broken(self, i):
        seen.append(i)
        if i == first and seen.count(i) == 2:  # the first time, prototypes are looked for
            raise RuntimeError("the lights went out in step 6")
        return crowded_image(self, i)

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="step 6"):
        patch.setattr(Storybook, "crowded_image", broken)
        list(new(tmp_path).train("dvae"))
    assert newest(tmp_path, "dvae")[0] == 4
    assert [r.step for r in new(tmp_path).train("dvae", resume=True)] == [5, 6]
    assert_same_run(tmp_path, trained[0].out, "dvae")
    lines = (tmp_path / "dvae.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4, 5, 6]


# What a stage is given ---------------------------------------------------------------------------
ROWS = range(4)  # a whole batch at smoke


class Given(Exception):
    """Raised by a stand-in for a model, with what it was given."""


def given_to_prior(objective, step, progress):
    def model(*given):
        raise Given(*given)

    with pytest.raises(Given) as caught:
        objective(model, step, progress, ROWS)
    return caught.value.args


class Towers:
    """Stands in for CLIP: its embeddings are the images and the tokens that it is given."""

    def encode_image(self, images):
        self.images = images
        return images.flatten(1)

    def encode_text(self, text):
        self.text = text
        return torch.zeros(len(text), self.images[0].numel())

    def similarity_scale(self):
        return torch.tensor(1.0)


def given_to_clip(objective, step, progress, rows=ROWS):
    towers = Towers()
    objective(towers, step, progress, rows)
    return towers.images, towers.text


def prior_batch(stages, step=3, progress=0.5, **changes):
    """The text and the codes that the prior would be trained on, and those it should be."""
    stages = new(
        stages.out, chosen=replace(stages.preset, bpe_dropout=0.0, colour_jitter=0.5, **changes)
    )
    config = stages.preset.training["prior"]
    text, codes = given_to_prior(stages.objective("prior", config), step, progress)
    indices = range(step * config.batch_size, (step + 1) * config.batch_size)
    captions = [stages.source.training_caption(i, colour_jitter=progress < 0.5) for i in indices]
    images = to_tensor([stages.source.image("train", i) for i in indices], CPU)
    return text, codes, captions, images


def test_the_prior_sees_each_picture_with_its_own_caption(trained):
    """Catches pairs shifted against each other, and captions in one language only."""
    stages, _ = trained
    text, codes, captions, images = prior_batch(stages, caption_dropout=0.0)
    length = SMOKE.models["prior"].text_length
    assert torch.equal(text, stages.tokenizer().batch(captions, length))
    assert torch.equal(codes, stages.model("dvae").encode(images).flatten(1))
    assert {caption.isascii() for caption in captions} == {True, False}

    text, *_ = prior_batch(stages, caption_dropout=1.0)
    assert torch.equal(text, stages.tokenizer().empty_captions(len(captions), length))


def test_the_prior_learns_the_codes_that_the_dvae_will_give_again(trained):
    """Catches codes made in half precision, which differ from those of encode()."""
    stages, _ = trained
    with torch.autocast("cpu", torch.bfloat16):  # as fit() does where the hardware has it
        _, codes, _, images = prior_batch(stages)
    assert torch.equal(codes, stages.model("dvae").encode(images).flatten(1))


def test_the_prior_is_shown_shades_at_first_and_in_the_end_the_colours_themselves(trained):
    """Catches shades for ever, so that red is never red, and none: who has seen each kind in nine
    colours alone has learnt the nine by heart."""
    stages, _ = trained
    dvae, shown = stages.model("dvae"), []
    for progress in (0.0, 0.49, 0.5, 1.0):
        _, codes, _, images = prior_batch(stages, step=5, progress=progress)
        shown.append(((codes != dvae.encode(images).flatten(1)).any(1)).sum().item())
    assert shown[0] == shown[1] > 0 == shown[2] == shown[3]


def test_the_dvae_sees_other_pictures_at_every_step(tmp_path):
    """Catches one batch seen for ever, and schedules that are not told how far training is."""
    stages = new(tmp_path)
    objective = stages.objective("dvae", SMOKE.training["dvae"])
    images, tau, progress = objective(lambda *given: given, 3, 0.15, ROWS)
    expected = [stages.source.crowded_image(i) for i in range(12, 16)]
    assert torch.equal(images, to_tensor(expected, CPU))
    assert (tau, progress) == (tau_at(0.15), 0.15)


def test_clip_sees_half_of_the_pictures_as_the_dvae_paints_them(trained):
    """Catches a judge of candidates that has never seen one, and captions of other pictures."""
    stages, _ = trained
    seen, text = given_to_clip(stages.objective("clip", SMOKE.training["clip"]), 3, 0.5)
    images, captions = contrastive_batch(stages.source, 3, SMOKE.training["clip"].batch_size)
    x, dvae = to_tensor(images, CPU), stages.model("dvae")
    assert torch.equal(seen, torch.cat([dvae.decode(dvae.encode(x[:2])), x[2:]]))
    assert torch.equal(text, stages.tokenizer().batch(captions, SMOKE.models["clip"].text_length))


@pytest.mark.parametrize(("ranks", "rows"), [(2, [2, 0]), (4, [1, 1, 0, 0])])
def test_the_half_that_is_painted_is_the_same_for_any_number_of_processes(
    trained, monkeypatch, ranks, rows
):
    """Catches a half of each share: of shares of one picture, that is none."""
    stages, _ = trained
    objective = stages.objective("clip", SMOKE.training["clip"])
    whole, _ = given_to_clip(objective, 3, 0.5)
    plain = to_tensor(
        contrastive_batch(stages.source, 3, SMOKE.training["clip"].batch_size)[0], CPU
    )
    monkeypatch.setattr(distributed, "world_size", lambda: ranks)
    monkeypatch.setattr(distributed, "all_gather", lambda x: x)
    shares, painted = [], []
    for rank in range(ranks):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        mine = distributed.local_rows(4)
        shares.append(given_to_clip(objective, 3, 0.5, mine)[0])
        differs = (shares[-1] - plain[list(mine)]).flatten(1).abs().amax(1) > 0
        painted.append(int(differs.sum()))
    assert painted == rows and torch.allclose(torch.cat(shares), whole, atol=1e-5)


@pytest.mark.parametrize("parts", [2, 4])
def test_parts_of_a_batch_change_nothing_for_the_prior(trained, parts, monkeypatch):
    """Catches a word that weighs more in a part with short captions, or beside the empty one."""
    stages, _ = trained
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)  # float32: parts must add up
    config = replace(SMOKE.training["prior"], steps=9)
    found = []
    for accumulate in (1, parts):
        mine = new(stages.out, chosen=replace(SMOKE, caption_dropout=0.3))
        model, _ = mine.build("prior")
        train_config = replace(config, accumulate=accumulate)
        state = TrainState.start(model, train_config)
        objective = mine.objective("prior", train_config)
        records = [r for r, _ in zip(fit(state, objective), range(3), strict=False)]
        found.append([(r.losses, r.grad_norm) for r in records])
    for (losses, gradient), (in_parts, their_gradient) in zip(*found, strict=True):
        assert in_parts == pytest.approx(losses, rel=1e-4)
        assert their_gradient == pytest.approx(gradient, rel=1e-3)


def test_clip_begins_with_pairs_that_are_exchanged(trained):
    """Catches a CLIP that reads a caption as a bag of words: easy pictures among the hard ones, a
    fact left open, a twin that is missing; and a training that never comes to the other scenes."""
    stages, _ = trained
    _, captions = contrastive_batch(stages.source, 0, 16, swaps_only=True)
    facts = [parse(caption) for caption in captions]
    assert all(f.relation and all(t.colour for t in f.things) for f in facts)

    def words(f):
        kinds, colours = zip(*((t.kind, t.colour) for t in f.things), strict=True)
        return f.relation, f.place, tuple(sorted(kinds)), tuple(sorted(colours))

    told = [words(f) for f in facts]
    assert all(told.count(w) >= 2 for w in told) and len(set(facts)) == 16
    objective = stages.objective("clip", SMOKE.training["clip"])
    read = [given_to_clip(objective, 0, progress)[1] for progress in (0.0, 0.39, 0.4)]
    assert torch.equal(read[0], read[1]) and not torch.equal(read[0], read[2])


def test_a_run_goes_on_with_what_it_began_with(trained, tmp_path):
    """Catches --resume with --data forgotten: one stage of a storybook, the next of photographs."""
    stages, _ = trained
    other = new(stages.out, FolderSource(Shelf(size=48)))
    for stage in ("tokenizer", *MODELS):
        with pytest.raises(MinidalleError, match="is trained on the storybook, second"):
            list(other.train(stage, resume=True))
    folders = [FolderSource(Shelf(caption=text)) for text in ("picture {}", "drawing {}")]
    assert folders[0].name != folders[1].name
    assert folders[0].name == FolderSource(Shelf()).name


@pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
def test_a_run_whose_source_is_damaged_says_what_to_do(text, tmp_path):
    """A machine that died while it was written: catches JSON's own traceback, again and again."""
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(MinidalleError, match=r"run\.json is damaged: delete it"):
        new(tmp_path).tokenizer()
    (tmp_path / "run.json").unlink()
    assert new(tmp_path).tokenizer().vocab_size > 256


def test_a_batch_that_cannot_be_shared_out_is_refused_before_any_stage(tmp_path):
    """Catches a dVAE that is trained to its end before the prior's batch turns out not to divide,
    and a CLIP that learns nothing, as it has one caption at a time to tell apart."""
    with pytest.raises(MinidalleError, match="a batch of 4 does not divide among 1 processes in 3"):
        new(tmp_path, chosen=SMOKE.with_training(accumulate=3)).check("prior")
    with pytest.raises(MinidalleError, match="a --batch-size of 2 or more"):
        new(tmp_path, chosen=SMOKE.with_training(batch_size=1)).check("clip")
    one = FolderSource(Shelf(caption="always the same"))
    with pytest.raises(MinidalleError, match=r"only 1 to train on: add some$"):
        new(tmp_path, one).check("clip")


def test_what_was_reached_before_a_loss_that_is_not_finite_is_saved(tmp_path, monkeypatch):
    """Catches five hundred good steps lost with the bad one."""
    crowded_image, first = Storybook.crowded_image, 4 * SMOKE.training["dvae"].batch_size
    seen = []

    def blinding_image(self, i):
        seen.append(i)
        is_blank = i >= first and seen.count(i) == 2  # the first time, prototypes are looked for
        return np.full((48, 48, 3), np.nan) if is_blank else crowded_image(self, i)

    monkeypatch.setattr(Storybook, "crowded_image", blinding_image)
    with pytest.raises(MinidalleError, match=r"step 5: .* is nan.*--lr"):
        list(new(tmp_path).train("dvae"))
    assert newest(tmp_path, "dvae")[0] == 4


@pytest.mark.parametrize("stage", MODELS)
def test_a_batch_larger_than_the_data_is_refused(stage, tmp_path):
    stages = new(tmp_path, FolderSource(Shelf(validation=range(3, 9))))
    with pytest.raises(MinidalleError, match=f"{stage} needs 4 .* only 3 .* --batch-size 3"):
        next(stages.train(stage))
    assert not list(tmp_path.iterdir())


def test_a_finished_stage_is_taken_as_it_is(trained):
    """Catches a bundle that can no longer be made once a later stage needed a smaller batch."""
    stages, _ = trained
    other = new(stages.out, chosen=SMOKE.with_training(batch_size=2))
    assert [list(other.train(stage, resume=True)) for stage in MODELS] == [[], [], []]


def test_a_log_that_was_cut_short_is_mended(tmp_path, monkeypatch):
    """A disk that was full for a moment leaves half a line; the training goes on without it."""
    monkeypatch.setattr("minidalle.training.run.LOG_EVERY", 1)
    stages = new(tmp_path)
    records = stages.train("dvae")
    next(records), next(records)
    records.close()
    log = tmp_path / "dvae.jsonl"
    with log.open("a") as lines:
        lines.write('{"step": 2, "lo')
    rest = [r.step for r in stages.train("dvae", resume=True)]
    assert [json.loads(line)["step"] for line in log.read_text().splitlines()] == [1, 2, *rest]
    log.unlink()
    log.mkdir()  # as good as a full disk: nothing can be appended
    with pytest.warns(UserWarning, match=r"dvae\.jsonl: Is a directory; its line is lost"):
        append_record(log, Record(1, 2, {}, 0.0, 0.0, 0.0))


def test_clip_is_never_drawn_in_parts(trained):
    """Half of a batch has other wrong captions than the whole: another loss, in silence."""
    with pytest.raises(MinidalleError, match="its batch has no microbatches"):
        trained[0].objective("clip", replace(SMOKE.training["clip"], accumulate=2))


def test_a_preset_changed_for_some_stages_or_all():
    """Catches a --batch-size that one stage ignores, and a None that overwrites the preset's."""
    changed = SMOKE.with_training("dvae", "prior", accumulate=2).with_training(
        batch_size=8, lr=None
    )
    assert [changed.training[name].accumulate for name in MODELS] == [2, 2, 1]
    assert {changed.training[name].batch_size for name in MODELS} == {8}
    assert changed.training["clip"].lr == SMOKE.training["clip"].lr
    with pytest.raises(MinidalleError, match=r"one stage, dvae, prior, clip, .* and not for all"):
        SMOKE.with_training("all", lr=0.1)


def test_clip_pairs_belong_together_and_no_caption_comes_twice(tmp_path):
    """Catches a right answer that counts as wrong, and pictures shuffled apart from captions."""
    stages = new(tmp_path)
    first = [contrastive_batch(stages.source, step, 8) for step in (0, 1, 2)]
    for images, captions in first:
        assert len(images) == len(set(captions)) == 8
    assert all(judge.score(image, caption).right for image, caption in zip(*first[0], strict=True))
    again = contrastive_batch(stages.source, 1, 8)
    assert again[1] == first[1][1] and np.array_equal(again[0], first[1][0])
    assert len({tuple(captions) for _, captions in first}) == 3


def test_a_folder_shows_every_training_pair_once_an_epoch():
    """Catches pairs never shown, one order for all epochs, and captions of other pictures."""
    source = FolderSource(Shelf())
    shown = [int(source.image("train", i)[0, 0, 0]) for i in range(4 * 7)]
    epochs = [shown[e * 7 : (e + 1) * 7] for e in range(4)]
    assert all(sorted(epoch) == [0, 1, 3, 4, 5, 7, 8] for epoch in epochs)
    assert len(set(map(tuple, epochs))) == 4
    assert [source.caption("train", i) for i in range(28)] == [f"picture {n}" for n in shown]
    assert {source.caption("validation", i) for i in range(9)} == {"picture 2", "picture 6"}
    assert shown != [int(FolderSource(Shelf(), 1).image("train", i)[0, 0, 0]) for i in range(28)]
    assert len(FolderSource(Shelf(validation=())).image("validation", 3)) == 8  # never an empty one


def test_clip_says_when_there_are_too_few_captions(tmp_path):
    """Catches a search without end in a folder whose pictures share one caption."""
    stages = new(tmp_path, FolderSource(Shelf(caption="always the same")))
    with pytest.raises(MinidalleError, match=r"needs 4 different captions .* there are only 1"):
        contrastive_batch(stages.source, 0, 4)


def test_all_stages_train_on_a_folder_of_ones_own(tmp_path):
    """Catches a stage that works in the storybook only, or takes its size from the preset."""
    (tmp_path / "mine").mkdir()
    for i, colour in enumerate(
        ("red", "green", "blue", "white", "black", "yellow", "pink", "grey")
    ):
        Image.new("RGB", (40, 30), colour).save(tmp_path / "mine" / f"{i}.png")
        (tmp_path / "mine" / f"{i}.txt").write_text(f"a {colour} wall", encoding="utf-8")
    source = FolderSource(CaptionedImageFolder(tmp_path / "mine", 24))
    shorter = replace(SMOKE, captions=20).with_training(steps=2)
    stages = new(tmp_path / "run", source, shorter)
    for name in MODELS:
        assert [r.step for r in stages.train(name)] == [1, 2]
    assert stages.model("dvae").config.image_size == 24
    assert stages.model("prior").config.grid == 6


def test_pictures_survive_the_way_to_tensors_and_back():
    """Catches channels last, values up to 255, and rounding that darkens a picture."""
    pictures = np.random.default_rng(0).integers(0, 256, (2, 5, 4, 3), dtype=np.uint8)
    x = to_tensor(list(pictures), CPU)
    assert x.shape == (2, 3, 5, 4) and x.min() >= 0 and x.max() <= 1
    assert x[1, 2, 3, 0].item() == pytest.approx(pictures[1, 3, 0, 2] / 255)
    assert np.array_equal(to_uint8(x), pictures)
    assert np.array_equal(to_uint8(x * 3 - 1), (pictures * 3.0 - 255).clip(0, 255).astype(np.uint8))


def test_a_stage_that_is_not_trained_here_is_the_bundles(smoke_bundle, tmp_path):
    """Catches a prior that cannot learn from the dVAE of the bundle it is given."""
    bundle = load_bundle(smoke_bundle)
    run = TrainingRun(SMOKE, Storybook(), tmp_path, init=bundle)
    deque(run.train("prior"), maxlen=0)
    assert not (tmp_path / "dvae").exists()
    dvae = run.model("dvae")
    for name, value in bundle.dvae.state_dict().items():
        assert torch.equal(dvae.state_dict()[name], value)
    assert dvae is not bundle.dvae  # which stays on its device, and can be trained
    assert run.model("prior").config == bundle.prior.config

"""Describing: Bayes' rule against the prior's own losses, and the search under a perfect prior."""

from collections import Counter

import numpy as np
import pytest
import torch

from minidalle import describing
from minidalle.cli.main import main
from minidalle.describing import describe_picture, rank_captions
from minidalle.errors import MinidalleError
from minidalle.world import judge
from minidalle.world.captions import parse
from minidalle.world.facts import KINDS
from minidalle.world.scenes import render, sample_scene

CAPTIONS = ["a red car", "two blue dogs in the snow", "一只黄色的猫"]


def test_shares_are_those_of_the_priors_loss(smoke_model):
    """Catches a mean in place of a sum, and codes of another order."""
    image = render(sample_scene(0))
    codes = smoke_model.dvae.encode(torch.from_numpy(image).permute(2, 0, 1)[None] / 255)
    length = smoke_model.prior.config.text_length
    losses = [
        smoke_model.prior(smoke_model.tokenizer.batch([caption], length), codes.flatten(1)).image
        for caption in CAPTIONS
    ]
    expected = (-codes.numel() * torch.stack(losses)).softmax(0)
    ranked = dict(rank_captions(smoke_model, image, CAPTIONS))
    for caption, share in zip(CAPTIONS, expected.tolist(), strict=True):
        assert ranked[caption] == pytest.approx(share, abs=1e-3)
    assert list(ranked.values()) == sorted(ranked.values(), reverse=True)


@pytest.mark.parametrize("i", range(12))
def test_the_search_finds_what_a_perfect_prior_knows(smoke_model, monkeypatch, i):
    """CLIP proposes the things, and the search must find the place, the count and the relation.
    Catches moves that are missing, and a search that stops too soon."""
    scene = sample_scene(i, "validation")
    truth = scene.facts

    def wrong(caption):
        stated = parse(caption)
        here, there = (Counter((t.kind, t.colour) for t in f.things) for f in (stated, truth))
        things = ((here - there) + (there - here)).total()
        return 2 * things + (stated.place != truth.place) + (not judge.holds(stated, truth).right)

    monkeypatch.setattr(
        describing,
        "_log_likelihood",
        lambda model, codes, captions: -torch.tensor([float(wrong(c)) for c in captions]),
    )

    shown = {(thing.kind, thing.colour) for thing in truth.things}

    def near(model, vector, facts, n):  # the picture's things are proposed, among others
        own = [f for f in facts if len(f.things) == 1 and f.place in (None, "grass")]
        own = [f for f in own if (f.things[0].kind, f.things[0].colour) in shown]
        return [*facts[: n - len(own)], *own]

    monkeypatch.setattr(describing, "_nearest", near)
    caption, found = describe_picture(smoke_model, render(scene), rounds=12)
    assert judge.holds(found, truth).right and parse(caption) == found
    assert parse(describe_picture(smoke_model, render(scene), "zh", rounds=12)[0]) == found


def test_proposals_are_captions_that_the_world_can_show():
    facts = describing._combine([describing.Thing(kind, "red") for kind in KINDS[:8]])
    assert all(parse(describing._say(f, "en")) == f for f in facts)
    played = [f for f in facts if f.relation == "playing with"]
    assert played and all(f.things[0].kind in describing.PLAYERS for f in played)


def test_a_picture_of_another_size_is_refused(smoke_model):
    with pytest.raises(MinidalleError, match="resize it"):
        rank_captions(smoke_model, np.zeros((40, 40, 3), np.uint8), CAPTIONS)


def test_the_command_ranks_and_writes(smoke_bundle, tmp_path, capsys):
    from PIL import Image

    Image.fromarray(render(sample_scene(1))).save(tmp_path / "x.png")
    command = ["describe", str(tmp_path / "x.png"), "--bundle", str(smoke_bundle)]
    assert main([*command, "--captions", *CAPTIONS]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and sum(float(line.split()[0]) for line in lines) == pytest.approx(
        1, abs=0.01
    )
    assert main(command) == 0
    assert parse(capsys.readouterr().out.strip()).place

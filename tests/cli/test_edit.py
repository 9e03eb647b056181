"""`minidalle edit`: a region, a thing or the noise of a picture."""

import random

import numpy as np
import pytest
from PIL import Image

from minidalle.cli.edit import find_thing, region
from minidalle.cli.main import main
from minidalle.errors import MinidalleError
from minidalle.world import judge
from minidalle.world.captions import parse
from minidalle.world.facts import Facts, Thing
from minidalle.world.scenes import lay_out, render


def picture_of(*things, relation="left of"):
    facts = Facts(things, relation if len(things) > 1 else None, "grass")
    return render(lay_out(facts, random.Random(0)))


CAR, DOG = Thing("car", "red", "small"), Thing("dog", "blue", "middle")


@pytest.fixture
def picture(tmp_path):
    file = tmp_path / "scene.png"
    Image.fromarray(picture_of(CAR, DOG)).save(file)
    return file


def edited(bundle, picture, *options):
    out = picture.parent / "out.png"
    common = ["--bundle", str(bundle), "--candidates", "3", "--keep", "2", "--out", str(out)]
    return main(["edit", str(picture), *options, *common]), out


@pytest.mark.parametrize(
    "options",
    [
        ("--region", "0,16,24,40", "--caption", "a red bear left of a blue dog"),
        ("--thing", "the red car", "--caption", "a green car left of a blue dog"),
        ("--repair",),
        ("--repair", "--noise", "0.2", "--caption", "a red car left of a blue dog"),
    ],
)
def test_each_way_writes_a_strip(smoke_bundle, picture, options, capsys):
    status, out = edited(smoke_bundle, picture, *options)
    assert status == 0 and "the picture and 2 of 3 edits" in capsys.readouterr().out
    assert Image.open(out).width > 3 * 192


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--region", "0,0,8,8"), "a caption of the whole picture is needed"),
        (("--region", "0,0,99,8", "--caption", "a car"), "is not inside the picture"),
        (("--thing", "the green car", "--caption", "a car"), "shows 0 of 'the green car'"),
        (("--thing", "two cars", "--caption", "a car"), "name one thing"),
        (("--thing", "zeppelin", "--caption", "a car"), "zeppelin"),
    ],
)
def test_what_does_not_fit_is_one_line(smoke_bundle, picture, options, problem, capsys):
    status, out = edited(smoke_bundle, picture, *options)
    lines = capsys.readouterr().err.strip().splitlines()
    assert status == 2 and problem in lines[-1] and not out.exists()


def test_a_thing_is_found_where_it_is():
    """Catches x and y exchanged, and the other thing."""
    scene = lay_out(Facts((CAR, DOG), "left of", "grass"), random.Random(3))
    image = render(scene)
    for words, corner, cells in (("the red car", 0, 4), ("the dog", 1, 6)):
        x, y = (4 * at for at in scene.corners[corner])
        assert (
            np.abs(
                np.subtract(find_thing(image, words), (x, y, x + 4 * cells, y + 4 * cells))
            ).max()
            <= 2
        )
    assert judge.score(image, parse("a red car left of a blue dog")).right


def test_two_of_a_kind_are_no_one_thing():
    with pytest.raises(MinidalleError, match="shows 2 of 'the car'"):
        find_thing(picture_of(CAR, Thing("car", "blue", "small")), "the car")


def test_a_region_is_four_numbers():
    assert region("1,2, 3,4") == (1, 2, 3, 4)
    for wrong in ("1,2,3", "a,b,c,d", ""):
        with pytest.raises(Exception, match="is no region"):
            region(wrong)

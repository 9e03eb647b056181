"""`minidalle edit`: a region, a thing or the noise of a picture."""

import random

import pytest
from PIL import Image

from minidalle.cli.edit import region
from minidalle.cli.main import main
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


def test_a_region_is_four_numbers():
    assert region("1,2, 3,4") == (1, 2, 3, 4)
    for wrong in ("1,2,3", "a,b,c,d", ""):
        with pytest.raises(Exception, match="is no region"):
            region(wrong)

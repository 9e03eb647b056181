"""What a folder is known by: its files, whatever else is there, and wherever it is moved."""

import os
import shutil

import pytest
from PIL import Image

from minidalle.datasets import image_folder
from minidalle.datasets.image_folder import CaptionedImageFolder
from minidalle.datasets.source import FolderSource
from tests.datasets.test_image_folder import RED, assert_fault, noise, put, write_table

both = pytest.mark.parametrize("table", ["metadata.jsonl", "metadata.csv"])

# The digest


@pytest.fixture
def folder(tmp_path):
    """Twenty pictures; number 1 and others are in validation."""
    for i in range(20):
        put(tmp_path / "mine", f"{i}.png", f"number {i}", Image.new("RGB", (16, 16), (i, 0, 0)))
    assert (
        0 < len(FolderSource(CaptionedImageFolder(tmp_path / "mine", 8)).splits["validation"]) < 9
    )
    return tmp_path / "mine"


def name_of(folder, **options):
    return FolderSource(CaptionedImageFolder(folder, 8, **options)).name


def in_split(folder, split):
    """The file of some picture in a split."""
    source = FolderSource(CaptionedImageFolder(folder, 8))
    return folder / f"{source.caption(split, 0).split()[1]}.png"


def repaint(folder, split):
    Image.new("RGB", (16, 16), "white").save(in_split(folder, split))


def one_pixel(folder, split):
    path = in_split(folder, split)
    with Image.open(path) as image:
        image.load()
    image.paste((255, 255, 255), (4, 4, 6, 6))
    image.save(path)


def recaption(folder, split):
    in_split(folder, split).with_suffix(".txt").write_text("something else")


def second_caption(folder, split):
    path = in_split(folder, split).with_suffix(".txt")
    path.write_text(path.read_text() + "\none more")


def swap(folder, split):
    """The same pictures and the same captions, but paired otherwise."""
    first, second = folder / "0.png", folder / "2.png"
    first.rename(folder / "x")
    second.rename(first)
    (folder / "x").rename(second)


@pytest.mark.parametrize("change", [repaint, one_pixel, recaption, second_caption, swap])
@pytest.mark.parametrize("split", ["train", "validation"])
def test_any_change_of_pictures_or_captions_is_another_source(folder, change, split):
    """Catches a run that goes on with other pictures under the same captions."""
    before = name_of(folder)
    assert name_of(folder) == before
    change(folder, split)
    assert name_of(folder) != before


def test_another_name_or_crop_is_another_source(folder):
    before = name_of(folder)
    Image.new("RGB", (32, 16)).save(folder / "0.png")
    assert name_of(folder, crop="pad") != name_of(folder)
    Image.new("RGB", (16, 16), (0, 0, 0)).save(folder / "0.png")
    assert name_of(folder) == before
    (folder / "0.png").rename(folder / "zero.png")
    (folder / "0.txt").rename(folder / "zero.txt")
    assert name_of(folder) != before


def test_the_same_pictures_elsewhere_are_the_same_source(folder, tmp_path, monkeypatch):
    before = name_of(folder)
    shutil.move(folder, tmp_path / "moved")
    (tmp_path / "moved" / "notes.md").write_text("of no interest")
    os.utime(tmp_path / "moved" / "0.png", (0, 0))
    assert name_of(tmp_path / "moved") == before
    monkeypatch.setattr(image_folder, "KEEP_BYTES", 0)
    assert name_of(tmp_path / "moved") == before


def test_names_and_captions_cannot_run_into_each_other(tmp_path):
    put(tmp_path / "one", "a.png", "x\ny")
    put(tmp_path / "other", "a.png", "xy")
    put(tmp_path / "third", "a.png", "x", Image.new("RGB", (8, 8), RED))
    digests = {CaptionedImageFolder(tmp_path / f, 8).digest for f in ("one", "other", "third")}
    assert len(digests) == 3


# Absolute names


@both
def test_absolute_names_within_the_folder_are_its_pictures(tmp_path, table, monkeypatch):
    """Catches a picture listed as without a caption, and a split that moves with the folder."""
    home, captions, sides = tmp_path / "home", [], []
    for i in range(30):
        put(home, f"sub/{i}.png", None, noise(i))
    for form in ("{home}/sub/{i}.png", "sub/{i}.png", "{home}//sub/../sub/{i}.png"):
        rows = [(form.format(home=home, i=i), f"number {i}") for i in range(30)]
        write_table(home, table, rows)
        pairs = CaptionedImageFolder(home, 8, strict=True)
        captions.append([pairs.caption(i) for i in range(30)])
        sides.append(pairs.split(0.3))
    assert captions[0] == captions[1] == captions[2]
    assert sides[0] == sides[1] == sides[2] and sides[0][1]
    # the names are of the real folder, the folder is given by a link or relative to where we are
    write_table(home, table, [(f"{home}/sub/{i}.png", f"number {i}") for i in range(30)])
    (tmp_path / "link").symlink_to(home)
    monkeypatch.chdir(tmp_path)
    for given in ("link", "home", "home/sub/.."):
        assert CaptionedImageFolder(given, 8, strict=True).split(0.3) == sides[0]
    # and the names are by the link, the folder is given as it is
    write_table(home, table, [(f"{tmp_path}/link/sub/{i}.png", f"number {i}") for i in range(30)])
    assert CaptionedImageFolder(home, 8, strict=True).split(0.3) == sides[0]


@both
def test_absolute_names_in_the_table_of_a_subfolder(tmp_path, table):
    put(tmp_path, "sub/a.png", None)
    put(tmp_path, "b.png", None)
    rows = [(f"{tmp_path}/sub/a.png", "a"), (f"{tmp_path}/b.png", "b")]
    write_table(tmp_path / "sub", table, rows)
    pairs = CaptionedImageFolder(tmp_path, 8, strict=True)
    assert [pairs.caption(i) for i in range(2)] == ["b", "a"]


@both
def test_absolute_names_of_where_the_folder_was_before(tmp_path, table):
    put(tmp_path / "before", "a.png", None)
    write_table(tmp_path / "before", table, [(f"{tmp_path}/before/a.png", "a")])
    shutil.copytree(tmp_path / "before", tmp_path / "after")
    line = 1 if table.endswith("jsonl") else 2
    assert_fault(f"{table}, line {line}", "is not within", "copy", folder=tmp_path / "after")
    (tmp_path / "before-and-after").mkdir()  # its name only begins alike
    write_table(tmp_path / "before", table, [(f"{tmp_path}/before-and-after/a.png", "a")])
    assert_fault("is not within", folder=tmp_path / "before")


def test_a_link_within_the_folder_keeps_its_own_name(tmp_path):
    put(tmp_path, "a.png", None)
    (tmp_path / "b.png").symlink_to("a.png")
    write_table(tmp_path, "metadata.csv", [(f"{tmp_path}/{n}.png", n) for n in "ab"])
    assert len(CaptionedImageFolder(tmp_path, 8, strict=True)) == 2


# Other files


def test_other_files_are_counted_in_one_line(tmp_path):
    put(tmp_path, "a.png")
    assert "looked" not in CaptionedImageFolder(tmp_path, 8).report()
    (tmp_path / "b.PDF").touch()
    other = "1 other file was not looked at: .pdf"
    total = "1 picture with 1 caption; 0 files left out"
    assert CaptionedImageFolder(tmp_path, 8, strict=True).report() == f"{other}\n{total}"
    for name in ("sub/c.docx", "d.jpg_large", "e.jpg_large", "README", "captions.csv", ".hidden"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    other = "6 other files were not looked at: .jpg_large, .csv, .docx, .pdf, no suffix"
    assert CaptionedImageFolder(tmp_path, 8).report() == f"{other}\n{total}"
    for i in range(20):
        (tmp_path / f"f.{i:02d}").touch()
    line = CaptionedImageFolder(tmp_path, 8).report().splitlines()[0]
    assert line.startswith("26 other files were") and line.endswith(", …") and len(line) < 120


def test_only_files_of_other_kinds(tmp_path):
    (tmp_path / "a.jpg_large").touch()
    assert_fault(tmp_path, "no pictures; put some there", "1 other file was not looked at: "
                 ".jpg_large", folder=tmp_path)  # fmt: skip


def test_a_picture_of_another_suffix_that_a_table_names(tmp_path):
    put(tmp_path, "a.png", None).rename(tmp_path / "a.jpg_large")
    write_table(tmp_path, "metadata.csv", [("a.jpg_large", "a")])
    report = CaptionedImageFolder(tmp_path, 8).report()
    assert report == "1 picture with 1 caption; 0 files left out"


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".tar"])
def test_containers_say_what_to_do(tmp_path, suffix):
    for i in range(3):
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / f"train-{i}{suffix}").write_bytes(b"PAR1")
    assert_fault(f"data/train-0{suffix}: ", "is not read; ", f"(and 2 more {suffix})",
                 folder=tmp_path)  # fmt: skip
    put(tmp_path, "a.png", None)
    assert_fault(f"data/train-0{suffix}: ", "is not read; ", folder=tmp_path)  # no captions either
    put(tmp_path, "a.png")
    pairs = CaptionedImageFolder(tmp_path, 8)
    ((path, reason),) = pairs.skipped
    assert path.name == f"train-0{suffix}" and "is not read" in reason
    assert pairs.report().splitlines()[1:] == ["1 picture with 1 caption; 1 file left out"]


def test_parquet_says_how_to_convert_it(tmp_path):
    put(tmp_path, "a.png", None)
    (tmp_path / "metadata.parquet").write_bytes(b"PAR1")
    assert_fault("metadata.parquet: Parquet is not read", "pandas.read_parquet",
                 ".to_csv('metadata.csv', index=False)", folder=tmp_path)  # fmt: skip

"""Captions as strangers write them: which text belongs to which picture, and which is none."""

import json
import tracemalloc
import unicodedata

import pytest
from PIL import Image

from minidalle.datasets import caption_files
from minidalle.datasets.image_folder import CaptionedImageFolder
from tests.datasets.test_image_folder import assert_fault, noise, put

NFC, NFD = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))


def captions(folder, **options):
    pairs = CaptionedImageFolder(folder, 8, **options)
    return [pairs.caption(i) for i in range(len(pairs))]


def reasons(folder):
    return {path.name: reason for path, reason in CaptionedImageFolder(folder, 8).skipped}


# Several captions in one text file


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\n\n \t\n"], ids=repr)
def test_each_line_of_a_text_is_a_caption(tmp_path, end):
    text = end.join(["a red boat", " ein rotes Boot\u2028auf See ", "红色的船", ""])
    put(tmp_path, "a.png", None)
    (tmp_path / "a.txt").write_text(text, encoding="utf-8", newline="")
    assert captions(tmp_path) == ["a red boat", "ein rotes Boot auf See", "红色的船"]
    report = CaptionedImageFolder(tmp_path, 8).report()
    assert report == "1 picture with 3 captions; 0 files left out"


def test_all_captions_of_a_text_are_in_one_split(tmp_path):
    for i in range(30):
        put(tmp_path, f"{i}.png", f"{i} one\n{i} two", noise(i))
    pairs = CaptionedImageFolder(tmp_path, 8)
    sides = [{pairs.caption(i).split()[0] for i in side} for side in pairs.split(0.3)]
    assert len(sides[0]) + len(sides[1]) == 30 and sides[1]


# Two columns that may hold the caption


def write(folder, kind, columns, rows):
    put(folder, "a.png", None)
    put(folder, "b.png", None)
    if kind == "csv":
        lines = [",".join(columns), *(",".join(row) for row in rows)]
    else:
        lines = [json.dumps(dict(zip(columns, row, strict=True))) for row in rows]
    path = folder / f"metadata.{kind}"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


both = pytest.mark.parametrize("kind", ["csv", "jsonl"])
COLUMNS = ("file_name", "text", "caption")


@both
@pytest.mark.parametrize(
    "rows",
    [
        [("a.png", "STOP", "a sign"), ("b.png", "EXIT", "a door")],  # OCR
        [("a.png", "", "a sign"), ("b.png", "EXIT", "")],  # each row has one
        [("a.png", "a sign", "a sign"), ("b.png", "a door", "a door")],
    ],
)
def test_two_columns_in_use_are_refused(tmp_path, kind, rows):
    """Catches a model that learns what is written on signs in place of what they are."""
    table = write(tmp_path, kind, COLUMNS, rows)
    assert_fault(table, "the columns “text” and “caption” are both in use; keep one of them",
                 folder=tmp_path)  # fmt: skip


@both
@pytest.mark.parametrize("empty", ["", "  "])
def test_a_column_that_is_empty_in_every_row_is_none(tmp_path, kind, empty):
    write(tmp_path, kind, COLUMNS, [("a.png", empty, "a sign"), ("b.png", empty, "a door")])
    assert captions(tmp_path, strict=True) == ["a sign", "a door"]
    write(tmp_path, kind, COLUMNS, [("a.png", "a sign", empty), ("b.png", "a door", empty)])
    assert captions(tmp_path, strict=True) == ["a sign", "a door"]


@both
def test_the_user_chooses_the_column(tmp_path, kind):
    columns = ("file_name", "text", "caption", "prompt")
    table = write(tmp_path, kind, columns, [("a.png", "1", "2", "3"), ("b.png", "4", "5", "6")])
    for column, expected in {"text": "14", "caption": "25", "prompt": "36"}.items():
        assert captions(tmp_path, caption_column=column) == list(expected)
    line = "no column “label”; choose one of its columns: file_name, text, caption, prompt"
    assert_fault(table, line, folder=tmp_path, caption_column="label")
    table.unlink()
    (tmp_path / "a.txt").write_text("of no column")
    assert_fault("no table with a column “prompt”; leave caption_column (--caption-column) out",
                 folder=tmp_path, caption_column="prompt")  # fmt: skip


@pytest.mark.parametrize("column", ["", "file_name"])
def test_a_column_that_cannot_hold_captions(tmp_path, column):
    """Catches an option that is ignored, and a model that learns the names of files."""
    write(tmp_path, "csv", ("file_name", "text"), [("a.png", "a sign")])
    assert_fault(f"caption_column must name the column of the captions, got {column!r}; leave",
                 folder=tmp_path, caption_column=column)  # fmt: skip


@both
def test_one_column_twice(tmp_path, kind):
    table = write(tmp_path, kind, ("file_name", "text", "x"), [("a.png", "one", "two")])
    table.write_text(table.read_text().replace("x", "text").replace("tetextt", "text"))
    assert_fault(table, "line 1: two columns “text”; keep one", folder=tmp_path)


@both
def test_the_chosen_column_twice(tmp_path, kind):
    """Catches the last of two captions taken in silence; columns that are not read may repeat."""
    table = write(tmp_path, kind, ("file_name", "text", "old", "new"), [("a.png", "1", "2", "3")])
    table.write_text(table.read_text().replace("old", "new"))
    assert_fault(table, "line 1: two columns “new”; keep one", folder=tmp_path,
                 caption_column="new")  # fmt: skip
    assert captions(tmp_path) == ["1"]


# Names that are not quite the same


def test_case_and_unicode_form_of_the_text_file(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "b.JPG")
    Image.new("RGB", (8, 8)).save(tmp_path / f"{NFD}.png")
    Image.new("RGB", (8, 8)).save(tmp_path / f"{NFD} 2.png")
    (tmp_path / "B.TXT").write_text("b")
    (tmp_path / f"{NFC}.txt").write_text("one")
    (tmp_path / f"{NFC.upper()} 2.txt").write_text("two")
    assert captions(tmp_path, strict=True) == ["b", "two", "one"]


@pytest.mark.parametrize(
    ("pictures", "texts"),
    [
        (["Cat.png"], ["CAT.txt", "cat.txt"]),
        (["CAT.jpg", "cat.png"], ["Cat.txt"]),
        (["cat.png"], ["cat.TXT", "cat.txt"]),
        ([f"{NFD}.png"], [f"{NFC.upper()}.txt", f"{NFC.title()}.txt"]),
    ],
)
def test_what_fits_in_two_ways_is_listed_not_guessed(tmp_path, pictures, texts):
    put(tmp_path, "good.png")
    for name in pictures:
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    for name in texts:
        (tmp_path / name).write_text(name)
    assert captions(tmp_path) == ["a red square"]
    names = ", ".join([*pictures, *texts])
    said = f"not clear which belong together, {names}; give a picture one text of exactly its name"
    assert reasons(tmp_path) == dict.fromkeys(pictures, said)


def test_an_exact_name_comes_before_an_alike_one(tmp_path):
    put(tmp_path, "cat.png", "exact")
    (tmp_path / "CAT.txt").write_text("alike")
    Image.new("RGB", (8, 8)).save(tmp_path / "Cat.jpg")
    put(tmp_path / "more", "dog.png", None)
    (tmp_path / "dog.txt").write_text("in another folder")
    pairs = CaptionedImageFolder(tmp_path, 8)
    assert [pairs.caption(i) for i in range(len(pairs))] == ["alike", "exact"]
    assert {p.name for p, _ in pairs.skipped} == {"dog.png", "dog.txt"}


@both
def test_case_and_unicode_form_of_a_name_in_a_table(tmp_path, kind):
    for name in ("B.JPG", f"{NFC}.png", "two.png", "TWO.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    rows = [("b.jpg", "b"), (f"{NFD}.png", "café"), ("two.png", "exact"), ("Two.png", "?")]
    table = write(tmp_path, kind, ("file_name", "text"), rows)
    for name in ("a.png", "b.png"):
        (tmp_path / name).unlink()
    assert captions(tmp_path) == ["b", "café", "exact"]
    assert reasons(tmp_path) == {
        "TWO.png": "no caption; write TWO.txt next to it",
        "Two.png": f"{table.name}, line {5 if kind == 'csv' else 4}: "
        "'TWO.png' and 'two.png' both fit; write one of them exactly",
    }


# Captions and tables that are too long


@both
def test_a_long_caption_is_listed_with_its_line(tmp_path, kind):
    long = "x" * 10_001
    write(tmp_path, kind, ("file_name", "text"), [("a.png", long), ("b.png", long[1:])])
    assert captions(tmp_path) == [long[1:]]
    line = 2 if kind == "csv" else 1
    said = f"metadata.{kind}, line {line}: the caption has more than 10,000 characters; shorten it"
    assert reasons(tmp_path) == {"a.png": said}
    put(tmp_path, "c.png", f"short\n{long}")
    assert "c.txt, line 2: the caption has more than 10,000" in reasons(tmp_path)["c.png"]


@both
def test_a_huge_line_is_refused_without_being_read(tmp_path, kind):
    """Catches 6.65 GB of memory for a file of 98 MB."""
    table = write(
        tmp_path, kind, ("file_name", "text"), [("a.png", "fine"), ("b.png", "x" * 3 * 10**7)]
    )
    tracemalloc.start()
    try:
        words = ("longer than 1 million characters", "at most 10,000")
        assert_fault(table, f"line {3 if kind == 'csv' else 2}", *words, folder=tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 15_000_000
    finally:
        tracemalloc.stop()


def test_a_table_of_many_long_rows_keeps_the_captions_alone(tmp_path):
    put(tmp_path, "a.png", None)
    row = json.dumps({"file_name": "a.png", "text": "a", "embedding": "0" * 900_000}) + "\n"
    with (tmp_path / "metadata.jsonl").open("w") as file:
        for _ in range(30):
            file.write(row)
    tracemalloc.start()
    try:
        assert len(captions(tmp_path)) == 30
        assert tracemalloc.get_traced_memory()[1] < 15_000_000
    finally:
        tracemalloc.stop()


@both
def test_a_table_that_is_too_large(tmp_path, kind):
    table = write(tmp_path, kind, ("file_name", "text"), [("a.png", "fine")])
    with table.open("r+b") as file:
        file.truncate(caption_files.MAX_TABLE + 1)  # takes no room
    assert_fault(table, "larger than 2 GB; keep file_name and text alone", folder=tmp_path)


def test_a_text_that_is_too_large(tmp_path):
    put(tmp_path, "a.png", "fine")
    put(tmp_path, "b.png", "fine\n" * 300_000)
    assert captions(tmp_path) == ["fine"]
    assert reasons(tmp_path) == {"b.png": "b.txt, larger than 1 MB; write one caption per line"}


def test_json_nested_in_a_long_line(tmp_path):
    put(tmp_path, "a.png", None)
    table = tmp_path / "metadata.jsonl"
    table.write_text('{"file_name": "a.png", "text": ' + "[" * 900_000)
    assert_fault(table, "line 1: not JSON", "write one object per line", folder=tmp_path)


def test_the_table_of_an_old_mac(tmp_path):
    put(tmp_path, "a.png", None)
    (tmp_path / "metadata.csv").write_text("file_name,text\ra.png,red\ra.png,blue\r", newline="")
    assert captions(tmp_path) == ["red", "blue"]

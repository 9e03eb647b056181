"""Captions of a folder's pictures, from text files and tables."""

import os
import posixpath
from collections.abc import Iterator
from pathlib import Path

from minidalle.datasets.caption_files import TABLES, clean_caption, read_captions, read_table
from minidalle.datasets.folder_files import (
    FOREIGN,
    PICTURES,
    Skip,
    check_inside,
    describe_containers,
    describe_others,
    relative_to,
    suffix,
)
from minidalle.datasets.matching import NameIndex, match_stems, stem
from minidalle.datasets.problems import CONTAINERS, Unusable, describe_error, format_problem
from minidalle.errors import MinidalleError


class FolderCaptions:
    """The captions of each picture in `folder`.

    Args:
        folder: the folder.
        files: the names of its files, relative to it.
        skip: called for each file that is left out.
        column: the column of the tables' captions; None for “text” or “caption”.

    Raises:
        MinidalleError: there is no picture or no caption; a table is malformed.
    """

    by_picture: dict[str, list[str]]
    others: str | None  # a line on files that are neither pictures nor captions

    def __init__(
        self, folder: Path, files: list[str], skip: Skip, column: str | None = None
    ) -> None:
        self.folder, self.skip, self.column = folder, skip, column
        self.by_picture = {}
        pictures = [f for f in files if suffix(f) in PICTURES | FOREIGN]
        texts = [f for f in files if suffix(f) == ".txt"]
        tables = [f for f in files if posixpath.basename(f) in TABLES]
        containers = list(describe_containers(files))
        in_tables = self._read_tables(tables, files) if tables else set()
        known = {*pictures, *texts, *tables, *in_tables}
        self.others = describe_others(
            f for f in files if f not in known and suffix(f) not in CONTAINERS
        )
        self._check_any(pictures, texts, tables, containers)
        for name, problem in containers:
            skip(name, problem)
        self._read_texts([f for f in pictures if f not in in_tables], texts, pictures)

    def _check_any(
        self,
        pictures: list[str],
        texts: list[str],
        tables: list[str],
        containers: list[tuple[str, str]],
    ) -> None:
        """Raise MinidalleError if there are no pictures or no captions at all."""
        if tables or (pictures and texts):
            if self.column and not tables:
                problem = (
                    f"no table with a column “{self.column}”; leave caption_column"
                    " (--caption-column) out"
                )
                raise MinidalleError(format_problem(self.folder, problem))
            return
        for name, problem in containers:
            raise MinidalleError(format_problem(self.folder / name, problem))
        if not pictures:
            problem = f"no pictures; put some there ({' '.join(sorted(PICTURES))})"
            if self.others:
                problem += f"; {self.others}"
        else:
            problem = (
                "no captions; put cat.txt next to cat.png, or write metadata.csv: file_name,text"
            )
        raise MinidalleError(format_problem(self.folder, problem))

    # --- Text files ---

    def _read_texts(self, pictures: list[str], texts: list[str], all_pictures: list[str]) -> None:
        """Captions from text files for `pictures`, those that no table names."""
        wanted = set(pictures)
        seen: set[str] = set()
        for some, files in match_stems(all_pictures, texts):
            seen.update(some, files)
            if len(files) > 1 or len({stem(name) for name in some}) > 1:
                for name in sorted(wanted.intersection(some)):
                    self.skip(name, _describe_choice(some, files))
                continue
            try:
                captions = read_captions(self.folder / files[0]) if wanted & set(some) else []
            except (OSError, Unusable) as error:
                for name in sorted(wanted.intersection(some)):
                    reason = f"{posixpath.basename(files[0])}, {describe_error(error)}"
                    self.skip(name, reason)
                continue
            for name in wanted.intersection(some):
                self.by_picture[name] = captions
        for name in pictures:
            if name not in seen:
                text = f"{posixpath.basename(stem(name))}.txt"
                self.skip(name, f"no caption; write {text} next to it")
        for name in texts:
            if name not in seen:
                self.skip(name, "no picture of this name next to it; add one or remove this")

    # --- Tables ---

    def _read_tables(self, tables: list[str], files: list[str]) -> set[str]:
        """Captions from tables; the pictures that they name, with a usable caption or without."""
        if len({posixpath.dirname(table) for table in tables}) < len(tables):
            problem = "metadata.jsonl and metadata.csv in one folder; keep one"
            raise MinidalleError(format_problem(self.folder, problem))
        index = NameIndex(files)
        named: set[str] = set()
        for table in tables:
            for name, caption in self._read_table(table, index):
                named.add(name)
                if caption:
                    self.by_picture.setdefault(name, []).append(caption)
        return named

    def _read_table(self, table: str, index: NameIndex) -> Iterator[tuple[str, str | None]]:
        """(picture, caption) of each row; the caption is None if the row cannot be used."""
        path = self.folder / table
        try:
            for line, given, raw in read_table(path, self.column):
                if not isinstance(given, str) or not given:
                    raise Unusable(f"line {line}: no file_name; name the picture")
                given = given.replace("\\", "/")  # written on Windows
                name = relative_to(self.folder, given)
                if name == given:  # it is relative to its table, or outside the folder
                    name = posixpath.join(posixpath.dirname(table), given)
                name = posixpath.normpath(name)
                check_inside(self.folder, name, f"{path}, line {line}")
                found = index.find(name)
                try:
                    if len(found) > 1:
                        choice = " and ".join(map(repr, found))
                        raise Unusable(f"line {line}: {choice} both fit; write one of them exactly")
                    name = found[0] if found else name  # none is listed: hidden, or missing
                    caption: str | None = clean_caption(raw, line)
                    if not os.path.isfile(self.folder / name):
                        raise Unusable(f"line {line}: no such picture; add it or drop the line")
                except Unusable as error:
                    caption = None
                    self.skip(name, f"{table}, {error}")
                yield name, caption
        except (OSError, Unusable) as error:
            raise MinidalleError(format_problem(path, describe_error(error))) from error


def _describe_choice(pictures: list[str], texts: list[str]) -> str:
    """Why no caption was taken for pictures and texts with alike names."""
    names = ", ".join(posixpath.basename(name) for name in (*pictures, *texts))
    return f"not clear which belong together, {names}; give a picture one text of exactly its name"

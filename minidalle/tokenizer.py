"""Byte-level BPE: captions become the token ids that the prior reads.

The 256 bytes can encode any text in any script, but the sequences are long. Byte pair encoding
(Sennrich et al. 2016) shortens them: find the most frequent pair of adjacent tokens, give it a new
id, replace every occurrence of the pair, and repeat. Because the first tokens are bytes (Radford et
al. 2019), no text is "unknown". Three merges by hand:

    a   a   a   b d a   a   a   b a c     aa is most frequent: 4 times, with overlaps 256 = a a
    256     a   b d 256     a   b a c     (a, b) and (256, a) tie; the smaller wins   257 = a b
    256     257   d 256     257   a c     (256, 257) occurs twice                     258 = 256 257
    258           d 258           a c

>>> tokenizer = Tokenizer.train(["aaabdaaabac"], vocab_size=259)
>>> tokenizer.merges
[(97, 97), (97, 98), (256, 257)]
>>> tokenizer.encode("aaabdaaabac")
[258, 100, 258, 97, 99]
>>> tokenizer.tokens("aaabdaaabac")
['aaab', 'd', 'aaab', 'a', 'c']
>>> tokenizer.decode([258, 100, 258, 97, 99])
'aaabdaaabac'
>>> tokenizer.batch(["aaab", ""], length=3)  # 259 + t: padding at position t
tensor([[258, 260, 261],
        [259, 260, 261]])

As in the paper (Ramesh et al. 2021, section 2.2), captions are lower-cased, each position has its
own padding token, and training drops merges at random (BPE dropout). The paper has 16 384 tokens
and at most 256 per caption. We allow 2048 tokens, fewer if no pair occurs twice. Spellings that
read the same become one (`normalise_caption`).
"""

from __future__ import annotations

import heapq
import json
import random
import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

import torch

from minidalle.errors import MinidalleError
from minidalle.files import write_file
from minidalle.normalise import EXTEND, HAN, MARKS, normalise_caption, quote

# 1. Pieces ----------------------------------------------------------------------------------------
# A token lies within one piece, so "red" is learned once and not again in "red." and "red,". A word
# includes the space before it, as in GPT-2, and its combining marks (vowels in Hindi). Chinese has
# no spaces, so each character is a piece: merges across a clause would give 色的鸟 (half a colour
# and a bird), which fits one pair only. Runs are short: encoding is quadratic in a piece's length.
RUN = 16  # characters per piece at most; few words are longer
LETTER = rf"[^\W\d_{HAN}{MARKS}]"
WORD = rf" ?{LETTER}(?:{LETTER}|[{EXTEND}]){{0,{RUN - 1}}}"
PIECE = re.compile(
    rf"[{HAN}][{EXTEND}]{{0,{RUN - 1}}}"
    rf"| ?(?>{LETTER}{{1,{RUN}}})(?![{EXTEND}])"  # letters, and letters with marks: a mark is
    rf"|{WORD}(?![{EXTEND}])|{WORD}"  # not cut off where it can be helped
    rf"| ?\d{{1,{RUN}}}"  # digits
    rf"| ?(?:[^\s\w]|[_{MARKS}]){{1,{RUN}}}"  # all else but white space: punctuation, emoji
    rf"|\s{{1,{RUN}}}(?!\S)|\s"  # white space, except the last space before a word
)
Pair = tuple[int, int]  # of token ids
LONGEST = 4 * (RUN + 1)  # bytes in the longest piece, and therefore in any token


def to_bytes(text: str) -> bytes:
    """UTF-8; a lone surrogate, which UTF-8 forbids, is encoded like any other code point."""
    return text.encode("utf-8", "surrogatepass")


def to_text(data: bytes) -> str:
    """The inverse of `to_bytes`; invalid bytes become the replacement character U+FFFD."""
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return data.decode("utf-8", "replace")


def replace_pair(ids: list[int], pair: Pair, new: int) -> list[int]:
    """Replace each occurrence of `pair` by `new`, left to right: aaa becomes (aa)a, not a(aa)."""
    out: list[int] = []
    for i in ids:
        if out and (out[-1], i) == pair:
            out[-1] = new
        else:
            out.append(i)
    return out


class Tokenizer:
    """Text to token ids and back. Token 256 + k is the pair merges[k], in the order learned; tokens
    0 … 255 are the bytes."""

    CACHE = 1 << 16  # pieces; a limit, because a server may read any number of prompts

    def __init__(self, merges: Iterable[Pair] = ()) -> None:
        self.merges = list(merges)
        self._token = {pair: 256 + k for k, pair in enumerate(self.merges)}
        self._spelling = [bytes([b]) for b in range(256)]
        for left, right in self.merges:
            self._spelling.append(self._spelling[left] + self._spelling[right])
        self._cache: dict[str, list[int]] = {}

    @property
    def vocab_size(self) -> int:
        """256 + the number of merges; the first padding id."""
        return 256 + len(self.merges)

    # 2. Training ----------------------------------------------------------------------------------
    @classmethod
    def train(
        cls, captions: Iterable[str], vocab_size: int = 2048, merges: Iterable[Pair] = ()
    ) -> Tokenizer:
        """Learn merges from normalised captions (Sennrich et al. 2016, algorithm 1) after `merges`.

        Stops with a smaller vocabulary when no pair occurs twice. Of equally frequent pairs, the
        smaller (left id, right id) is merged, as in Hugging Face's tokenizers.
        """
        if isinstance(captions, str):
            raise TypeError("captions must be a list, got one string; use train([caption])")
        if vocab_size < 256:
            raise MinidalleError(f"vocab_size must be ≥ 256 (bytes), got {vocab_size}; try 2048")
        # Captions repeat their words, so each distinct piece is counted once, with a weight.
        seen = Counter(piece for c in captions for piece in PIECE.findall(normalise_caption(c)))
        given = cls(merges)
        words = [given._merge(list(to_bytes(piece)), 0.0, None) for piece in seen]
        weights = list(seen.values())
        counts: Counter[Pair] = Counter()
        places: defaultdict[Pair, set[int]] = defaultdict(set)  # words with each pair
        for w, word in enumerate(words):
            for pair in pairwise(word):
                counts[pair] += weights[w]
                places[pair].add(w)

        # A merge changes few counts: only those are updated. The heap returns the largest. A count
        # in the heap can only fall, so an outdated entry is corrected and returned.
        heap = [(-count, pair) for pair, count in counts.items()]
        heapq.heapify(heap)
        merges = list(given.merges)
        while heap and len(merges) < vocab_size - 256:
            count, best = heapq.heappop(heap)
            if -count != counts[best]:
                heapq.heappush(heap, (-counts[best], best))
                continue
            if -count < 2:  # occurs once: not a pattern
                break
            new = 256 + len(merges)
            merges.append(best)
            fresh = set()
            for w in places.pop(best):
                for pair in pairwise(words[w]):
                    counts[pair] -= weights[w]
                words[w] = replace_pair(words[w], best, new)
                for pair in pairwise(words[w]):
                    counts[pair] += weights[w]
                    if new in pair:
                        places[pair].add(w)
                        fresh.add(pair)
            for pair in fresh:
                heapq.heappush(heap, (-counts[pair], pair))
        return cls(merges)

    # 3. Encoding ----------------------------------------------------------------------------------
    def encode(
        self, text: str, dropout: float = 0.0, rng: random.Random | None = None
    ) -> list[int]:
        """Text to ids below `vocab_size`; `decode` returns exactly this text.

        Args:
            text: any string; it is not normalised.
            dropout: BPE dropout (Provilkov et al. 2020), the probability, 0 … 1, that a possible
                merge is skipped: 0 is plain BPE, 1 is bytes, the paper has 0.1. The model sees
                rarer segmentations, and generalises better to new words.
            rng: the random generator; None for that of the `random` module.
        """
        if not 0 <= dropout <= 1:
            raise ValueError(f"dropout must be in [0, 1], got {dropout}; try 0.1")
        ids = []
        for piece in PIECE.findall(text):
            found = None if dropout else self._cache.get(piece)
            if found is None:
                found = self._merge(list(to_bytes(piece)), dropout, rng)
                if not dropout:
                    if len(self._cache) >= self.CACHE:
                        self._cache.clear()
                    self._cache[piece] = found
            ids += found
        return ids

    def _merge(self, ids: list[int], dropout: float, rng: random.Random | None) -> list[int]:
        """Merge the adjacent pair whose merge was learned first, the leftmost of equals; repeat."""
        uniform = random.random if rng is None else rng.random
        token = self._token.get
        while True:
            known = [(new, i) for i, pair in enumerate(pairwise(ids)) if (new := token(pair))]
            # Dropping each at random and taking the best of the rest is the same as trying them in
            # order until one is not dropped.
            for new, i in sorted(known):
                if not dropout or uniform() >= dropout:
                    ids[i : i + 2] = [new]
                    break
            else:
                return ids

    # 4. Decoding ----------------------------------------------------------------------------------
    def decode(self, ids: Iterable[int]) -> str:
        """Ids to text. Padding (ids ≥ `vocab_size`) is skipped; half a character is U+FFFD."""
        ids = ids.tolist() if isinstance(ids, torch.Tensor) else list(ids)
        if any(i < 0 for i in ids):
            raise ValueError(f"token ids must be ≥ 0, got {min(ids)}; use ids from encode or batch")
        return to_text(b"".join(self._spelling[i] for i in ids if i < self.vocab_size))

    def tokens(self, text: str) -> list[str]:
        r"""One readable string per token, for figures; part of a character is shown as \xe7\xba."""
        return [self._spelling[i].decode("utf-8", "backslashreplace") for i in self.encode(text)]

    # 5. Batches -----------------------------------------------------------------------------------
    def batch(
        self,
        captions: Sequence[str],
        length: int,
        dropout: float = 0.0,
        rng: random.Random | None = None,
    ) -> torch.Tensor:
        """Captions, normalised, to int64 B T with T = `length`.

        Position t after a caption's end is vocab_size + t, a padding token for EACH position
        (section 2.2): a model embeds vocab_size + length ids. A caption that is too long is
        truncated, with a warning that quotes what is lost.
        """
        if isinstance(captions, str):
            raise TypeError("captions must be a list, got one string; use batch([caption], length)")
        rows = self.empty_captions(len(captions), length)  # B T
        for row, caption in zip(rows, captions, strict=True):
            caption = normalise_caption(caption)
            ids = self.encode(caption, dropout, rng)
            if dropout and len(ids) > length:  # dropout must not truncate a caption
                ids = self.encode(caption)
            if len(ids) > length:
                data, kept = to_bytes(caption), sum(len(self._spelling[i]) for i in ids[:length])
                while data[kept] & 0xC0 == 0x80:  # inside a character: all of it is lost
                    kept -= 1
                cut = f"caption cut from {len(ids)} to {length} tokens"
                warnings.warn(f"{cut}; dropped: {quote(to_text(data[kept:]))}", stacklevel=2)
            row[: len(ids)] = torch.tensor(ids[:length], dtype=torch.int64)
        return rows

    def empty_captions(self, n: int, length: int) -> torch.Tensor:
        """n empty captions, all padding, int64 n T: the unconditional input of guidance."""
        if length < 1:
            raise ValueError(f"length must be ≥ 1 text position, got {length}; try 32")
        return torch.arange(self.vocab_size, self.vocab_size + length).repeat(n, 1)

    # 6. On disk -----------------------------------------------------------------------------------
    FORMAT = "minidalle tokenizer 1"

    def to_json(self) -> dict:
        """Plain JSON values: the merges, and vocab_size as a checksum."""
        merges = [list(pair) for pair in self.merges]
        return {"format": self.FORMAT, "vocab_size": self.vocab_size, "merges": merges}

    @classmethod
    def from_json(cls, d: dict, file: str | Path = "tokenizer JSON") -> Tokenizer:
        """The inverse of `to_json`. Raises MinidalleError, with `file`, if d is not a tokenizer."""

        def check(ok: bool, cause: str) -> None:
            if not ok:
                raise MinidalleError(f"{file}: {cause}; restore this file or train again")

        check(isinstance(d, dict) and d.get("format") == cls.FORMAT, f"not a {cls.FORMAT!r}")
        check(isinstance(d.get("merges"), list), "it has no list of merges")
        lengths = [1] * 256  # bytes that each token spells
        for k, pair in enumerate(d["merges"]):
            is_pair = isinstance(pair, list) and len(pair) == 2
            known = is_pair and all(type(i) is int and 0 <= i < 256 + k for i in pair)
            check(known, f"merge {k} is not a pair of earlier tokens")
            lengths.append(lengths[pair[0]] + lengths[pair[1]])
            check(lengths[-1] <= LONGEST, f"merge {k} spells a token longer than any piece of text")
        merges = [tuple(pair) for pair in d["merges"]]
        check(len(set(merges)) == len(merges), "a merge appears twice")
        check(d.get("vocab_size") == 256 + len(merges), "vocab_size and the merges disagree")
        return cls(merges)

    def save(self, path: str | Path) -> None:
        """Write one JSON file atomically. Raises MinidalleError."""
        write_file(path, json.dumps(self.to_json()).encode())

    @classmethod
    def load(cls, path: str | Path) -> Tokenizer:
        """Read a file written by `save`. Raises MinidalleError with the file name."""
        try:
            d = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            cause = getattr(error, "strerror", None) or "not JSON"
            raise MinidalleError(f"{path}: {cause}; restore this file or train again") from error
        return cls.from_json(d, file=path)

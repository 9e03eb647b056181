"""Byte-level BPE: how a caption becomes the numbers that the prior reads.

A byte is one of 256, so bytes can spell any text in any script, but at length. Byte pair encoding
(Sennrich et al. 2016) shortens it: find the pair of neighbours seen most often, give it a new
number, write that number wherever the pair stood, and begin again. Because we start from bytes
(Radford et al. 2019), no text is ever "unknown". Three merges, by hand:

    a   a   a   b d a   a   a   b a c     aa is seen most: 4 times, overlaps count    256 = a a
    256     a   b d 256     a   b a c     (a, b) and (256, a) tie; smaller wins       257 = a b
    256     257   d 256     257   a c     (256, 257) is seen twice                    258 = 256 257
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
>>> tokenizer.batch(["aaab", ""], length=3)  # 259 + t says "position t is past the end"
tensor([[258, 260, 261],
        [259, 260, 261]])

As in the paper (Ramesh et al. 2021, section 2.2) the model reads lower-cased captions, each
position has a padding token of its own, and in training merges are dropped at random. The paper
has 16 384 tokens and at most 256 a caption. We allow 2048, and stop when nothing repeats any more.
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

# 1. Pieces ----------------------------------------------------------------------------------------
# No token crosses a piece, so "red" is learned once and not again in "red." and "red,". A word owns
# the space before it, as in GPT-2. Chinese writes no spaces, and a clause as one piece teaches
# tokens like 色的鸟 (half a colour and a bird), which no new pair of colour and animal can use; so
# each Chinese character is a piece. Runs are capped, or one long line of them would make training
# and encoding quadratic.
RUN = 16  # characters; few words are longer
HAN = "\u3400-\u9fff\U00020000-\U0003ffff"
PIECE = re.compile(
    rf"[{HAN}]"
    rf"| ?[^\W\d_{HAN}]{{1,{RUN}}}"  # letters
    rf"| ?\d{{1,{RUN}}}"  # digits
    rf"| ?(?:[^\s\w]|_){{1,{RUN}}}"  # anything else that shows: punctuation, emoji, zero width
    rf"|\s{{1,{RUN}}}(?!\S)|\s"  # white space, leaving the last space to the word that follows
)
LONGEST = 4 * (RUN + 1)  # bytes in the longest piece, and so in any token


def to_bytes(text: str) -> bytes:
    """UTF-8; a lone surrogate, which UTF-8 forbids, is spelt like any other code point."""
    return text.encode("utf-8", "surrogatepass")


def to_text(data: bytes) -> str:
    """The inverse of `to_bytes`; bytes that spell no text become the replacement character."""
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return data.decode("utf-8", "replace")


def replace_pair(ids: list[int], pair: tuple[int, int], new: int) -> list[int]:
    """Write `new` for each occurrence of `pair`, left to right: aaa becomes (aa)a, not a(aa)."""
    out: list[int] = []
    for i in ids:
        if out and (out[-1], i) == pair:
            out[-1] = new
        else:
            out.append(i)
    return out


class Tokenizer:
    """Text to token ids and back.

    Args:
        merges: the pairs in the order learned; token 256 + k is the pair merges[k], and tokens
            0 … 255 are the bytes. Without merges it is a plain byte tokenizer.
    """

    CACHE = 1 << 16  # pieces remembered; a bound, because a server reads prompts for ever

    def __init__(self, merges: Iterable[tuple[int, int]] = ()):
        self.merges = list(merges)
        self._token = {pair: 256 + k for k, pair in enumerate(self.merges)}
        self._spelling = [bytes([b]) for b in range(256)]
        for left, right in self.merges:
            self._spelling.append(self._spelling[left] + self._spelling[right])
        self._cache: dict[str, list[int]] = {}

    @property
    def vocab_size(self) -> int:
        """256 + the number of merges. Padding ids begin here."""
        return 256 + len(self.merges)

    # 2. Training ----------------------------------------------------------------------------------
    @classmethod
    def train(cls, captions: Iterable[str], vocab_size: int = 2048) -> Tokenizer:
        """Learn merges from captions, lower-cased (Sennrich et al. 2016, algorithm 1).

        Stops early, with a smaller vocabulary, when no pair is left that is seen twice. Of pairs
        seen equally often the smaller (left id, right id) is merged, as Hugging Face does.
        """
        if isinstance(captions, str):
            raise TypeError("captions is one string; give a list of captions: train([caption])")
        if vocab_size < 256:
            raise MinidalleError(
                f"vocab_size is {vocab_size}: the 256 bytes come first, so ask for 256 or more"
            )
        # Captions repeat their words, so count each distinct piece once and weigh it.
        seen = Counter(piece for caption in captions for piece in PIECE.findall(caption.lower()))
        words = [list(to_bytes(piece)) for piece in seen]
        weights = list(seen.values())
        counts: Counter[tuple[int, int]] = Counter()
        places: defaultdict[tuple[int, int], set[int]] = defaultdict(set)  # pair -> words with it
        for w, word in enumerate(words):
            for pair in pairwise(word):
                counts[pair] += weights[w]
                places[pair].add(w)

        # A merge changes few counts, so only those are mended. The heap hands out the largest; a
        # count can only fall once its pair is in the heap, so a stale entry goes back, corrected.
        heap = [(-count, pair) for pair, count in counts.items()]
        heapq.heapify(heap)
        merges: list[tuple[int, int]] = []
        while heap and len(merges) < vocab_size - 256:
            count, best = heapq.heappop(heap)
            if -count != counts[best]:
                heapq.heappush(heap, (-counts[best], best))
                continue
            if -count < 2:  # seen once: not a pattern
                break
            new = 256 + len(merges)
            merges.append(best)
            born = set()
            for w in places.pop(best):
                for pair in pairwise(words[w]):
                    counts[pair] -= weights[w]
                words[w] = replace_pair(words[w], best, new)
                for pair in pairwise(words[w]):
                    counts[pair] += weights[w]
                    if new in pair:
                        places[pair].add(w)
                        born.add(pair)
            for pair in born:
                heapq.heappush(heap, (-counts[pair], pair))
        return cls(merges)

    # 3. Encoding ----------------------------------------------------------------------------------
    def encode(self, text: str, dropout=0.0, rng: random.Random | None = None) -> list[int]:
        """Text to ids below `vocab_size`; `decode` gives back exactly this text.

        Args:
            text: any string; nothing is lower-cased here.
            dropout: BPE dropout (Provilkov et al. 2020), the chance that a possible merge is passed
                over at each step: 0 is plain BPE, 1 is bytes, the paper trains with 0.1. It shows
                the model rarer spellings of a caption, so that a new word is not a shock.
            rng: where the chances come from; the `random` module's own generator when None.
        """
        if not 0 <= dropout <= 1:
            raise ValueError(f"dropout is a probability, from 0 to 1, not {dropout}")
        ids: list[int] = []
        if dropout:
            for piece in PIECE.findall(text):
                ids += self._merge(list(to_bytes(piece)), dropout, rng or random)
            return ids
        for piece in PIECE.findall(text):
            found = self._cache.get(piece)
            if found is None:
                if len(self._cache) >= self.CACHE:
                    self._cache.clear()
                found = self._cache[piece] = self._merge(list(to_bytes(piece)), 0.0, random)
            ids += found
        return ids

    def _merge(self, ids: list[int], dropout: float, rng) -> list[int]:
        """Merge the neighbours whose merge was learned first, the leftmost of equals; repeat."""
        token = self._token.get
        while True:
            known = [(new, i) for i, pair in enumerate(pairwise(ids)) if (new := token(pair))]
            # To drop each by chance and take the best of the rest is to go down from the best until
            # one is not dropped.
            for new, i in sorted(known):
                if not dropout or rng.random() >= dropout:
                    ids[i : i + 2] = [new]
                    break
            else:
                return ids

    # 4. Decoding ----------------------------------------------------------------------------------
    def decode(self, ids: Iterable[int]) -> str:
        """Ids to text. Padding (ids from `vocab_size` up) is silent; half a character is U+FFFD."""
        ids = ids.tolist() if isinstance(ids, torch.Tensor) else list(ids)
        if any(i < 0 for i in ids):
            raise ValueError(f"token ids are never negative, but these hold {min(ids)}")
        return to_text(b"".join(self._spelling[i] for i in ids if i < self.vocab_size))

    def tokens(self, text: str) -> list[str]:
        r"""One readable string a token, for figures; part of a character is shown as \xe7\xba."""
        return [self._spelling[i].decode("utf-8", "backslashreplace") for i in self.encode(text)]

    # 5. What the model reads ----------------------------------------------------------------------
    def batch(self, captions: Sequence[str], length: int, dropout=0.0, rng=None) -> torch.Tensor:
        """Captions, lower-cased, to int64 B T with T = `length`.

        Position t past a caption's end holds vocab_size + t: the paper learns a padding token for
        EACH position (section 2.2), so a model embeds vocab_size + length ids. A caption that does
        not fit is cut, with a warning that shows what was lost.
        """
        if isinstance(captions, str):
            raise TypeError("captions is one string; give a list of captions: batch([caption], 32)")
        rows = self.empty_captions(len(captions), length)  # B T
        for row, caption in zip(rows, captions, strict=True):
            caption = caption.lower()
            ids = self.encode(caption, dropout, rng)
            if dropout and len(ids) > length:  # a rarer spelling must not cost the caption words
                ids = self.encode(caption)
            if len(ids) > length:
                data, kept = to_bytes(caption), sum(len(self._spelling[i]) for i in ids[:length])
                while data[kept] & 0xC0 == 0x80:  # the cut is inside a character: all of it is lost
                    kept -= 1
                cut = f"caption cut from {len(ids)} to {length} tokens"
                warnings.warn(f"{cut}; dropped: {to_text(data[kept:])!r}", stacklevel=2)
            row[: len(ids)] = torch.tensor(ids[:length], dtype=torch.int64)
        return rows

    def empty_captions(self, n: int, length: int) -> torch.Tensor:
        """The empty caption, all padding, int64 n T: what guidance takes as "no condition"."""
        if length < 1:
            raise ValueError(f"length is the number of text positions, 1 or more, not {length}")
        return torch.arange(self.vocab_size, self.vocab_size + length).repeat(n, 1)

    # 6. On disk -----------------------------------------------------------------------------------
    FORMAT = "minidalle tokenizer 1"

    def to_json(self) -> dict:
        """Plain JSON values. The merges are all there is to know; vocab_size guards them."""
        merges = [list(pair) for pair in self.merges]
        return {"format": self.FORMAT, "vocab_size": self.vocab_size, "merges": merges}

    @classmethod
    def from_json(cls, d: dict, file: str | Path = "tokenizer JSON") -> Tokenizer:
        """The inverse of `to_json`; MinidalleError, naming `file`, when d is not a tokenizer."""

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
        """Write one JSON file, whole or not at all. Raises MinidalleError."""
        write_file(path, json.dumps(self.to_json()).encode())

    @classmethod
    def load(cls, path: str | Path) -> Tokenizer:
        """Read what `save` wrote; MinidalleError, naming the file, when that is not possible."""
        try:
            d = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            cause = getattr(error, "strerror", None) or "not JSON"
            raise MinidalleError(f"{path}: {cause}; restore this file or train again") from error
        return cls.from_json(d, file=path)

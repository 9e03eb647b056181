"""Chapter 05, text becomes tokens: the checks of its exercises."""

from collections import Counter
from itertools import pairwise

import torch
from torch import Tensor

from minidalle import tokenizer
from minidalle.lab.checks.engine import Mistake, Property, Task
from minidalle.tokenizer import Tokenizer

A, B, C = 97, 98, 99

# --- count_pairs ----------------------------------------------------------------------------------


def count_pairs(words: list) -> dict:
    return dict(Counter(pair for word in words for pair in pairwise(word)))


COUNT_PAIRS = Task(
    name="count_pairs", chapter=5, difficulty=1, minutes=10, answer=count_pairs,
    cases=lambda: [([],), ([[A]],), ([[A, B]],), ([[A, A, A]],), ([[A, B], [B, A]],),
                   ([[A, B, A, B], [A, B], [C]],), ([[A, A, A, A], [], [B]],),
                   ([[A, B, C], [A, B, C], [A, B, C]],)],
    mistakes=(
        Mistake("Pairs are counted across the border of two words, where no merge may go.",
                lambda words: dict(Counter(pairwise([i for w in words for i in w])))),
        Mistake("Every second pair is skipped: a token has two neighbours.",
                lambda words: dict(Counter(
                    tuple(w[i:i + 2]) for w in words for i in range(0, len(w) - 1, 2)))),
        Mistake("Tokens are counted, and pairs of neighbours are wanted.",
                lambda words: dict(Counter(i for w in words for i in w))),
        Mistake("Each pair counts once a word, however often it stands there.",
                lambda words: dict(Counter(p for w in words for p in set(pairwise(w))))),
        Mistake("(a, b) and (b, a) are two different pairs: keep their order.",
                lambda words: dict(Counter(
                    tuple(sorted(p)) for w in words for p in pairwise(w)))),
    ),
    hints=(
        "itertools.pairwise gives the neighbours of a list.",
        "One Counter for all words, fed word by word.",
        "Counter(pair for word in words for pair in pairwise(word)), as a dict.",
    ),
)  # fmt: skip


# --- replace_pair ---------------------------------------------------------------------------------


def _from_the_right(ids, pair, new):
    flipped = tokenizer.replace_pair(list(reversed(ids)), (pair[1], pair[0]), new)
    return list(reversed(flipped))


def _overlapping(ids, pair, new):
    out, i = [], 0
    while i < len(ids):
        hit = tuple(ids[i : i + 2]) == tuple(pair)
        out.append(new if hit else ids[i])
        i += 1
    return out


def _first_only(ids, pair, new):
    for i in range(len(ids) - 1):
        if (ids[i], ids[i + 1]) == pair:
            return [*ids[:i], new, *ids[i + 2 :]]
    return list(ids)


REPLACE_PAIR = Task(
    name="replace_pair", chapter=5, difficulty=2, minutes=15, answer=tokenizer.replace_pair,
    cases=lambda: [([], (A, B), 256), ([A, B], (A, B), 256), ([B, A], (A, B), 256),
                   ([A, A, A], (A, A), 256), ([A, B, A, B, C], (A, B), 256),
                   ([A, A, A, A, A], (A, A), 256), ([C, A, B], (A, B), 300),
                   ([A, A, A, A], (A, A), 256), ([A], (A, B), 256), ([A, A, B, B], (A, B), 256),
                   ([A, B, C, 256, C], (256, C), 257), ([C, B, A, B, A], (B, A), 256)],
    properties=(
        Property("the new list is never longer", lambda out, ids, *_: len(out) <= len(ids)),
    ),
    mistakes=(
        Mistake("In aaa you merge the *right* pair. Left to right, as the encoder does.",
                _from_the_right),
        Mistake("The second token of a pair stays behind: step over both of them.", _overlapping),
        Mistake("Only the first occurrence is replaced.", _first_only),
        Mistake("The order of the pair does not matter to you, and it must.",
                lambda ids, p, new: tokenizer.replace_pair(
                    tokenizer.replace_pair(ids, p, new), (p[1], p[0]), new)),
        Mistake("Both tokens are replaced wherever they stand, neighbours or not.",
                lambda ids, p, new: [new if i in p else i for i in ids]),
    ),
    hints=(
        "Walk through the list with an index, or build a new one token by token.",
        "After a hit, go on two places further, not one.",
        "Or: append each token, and whenever the last two of the new list are the pair, put `new`"
        " in their place.",
    ),
)  # fmt: skip


# --- encode ---------------------------------------------------------------------------------------

_MERGES = [(A, B), (256, C), (B, C), (257, 257)]


def encode(ids: list, merges: list) -> list:
    for k, pair in enumerate(merges):
        ids = tokenizer.replace_pair(ids, pair, 256 + k)
    return ids


def _greedy(ids, merges):
    """Merge the leftmost pair that is known, whatever its age."""
    ids, known = list(ids), {p: 256 + k for k, p in enumerate(merges)}
    i = 0
    while i + 1 < len(ids):
        if (ids[i], ids[i + 1]) in known:
            ids[i : i + 2] = [known[ids[i], ids[i + 1]]]
            i = 0
        else:
            i += 1
    return ids


ENCODE = Task(
    name="encode", chapter=5, difficulty=3, minutes=20, answer=encode,
    cases=lambda: [([], _MERGES), ([A], _MERGES), ([A, B], _MERGES), ([A, B, C], _MERGES),
                   ([B, C, A, B], _MERGES), ([A, B, C, A, B, C], _MERGES),
                   ([A, B, B, C, C], _MERGES), ([A, B, C], [(B, C), (A, B)]),
                   ([A, B, C, B, C], [(B, C), (A, 256), (A, B)]), ([A, B, A], []),
                   ([A, A, A, A, A, A, A], [(A, A), (256, 256), (257, A)])],
    mistakes=(
        Mistake("The leftmost known pair is merged first. The pair that was *learned* first goes"
                " first; otherwise training and encoding disagree.", _greedy),
        Mistake("The merges are applied from the last to the first.",
                lambda ids, merges: _backwards(ids, merges)),
        Mistake("Only the first merge is applied.",
                lambda ids, merges: encode(ids, merges[:1])),
        Mistake("New tokens are numbered from 0; the first 256 are the bytes.",
                lambda ids, merges: _numbered(ids, merges, 0)),
        Mistake("New tokens are numbered from 257: one too many.",
                lambda ids, merges: _numbered(ids, merges, 257)),
    ),
    hints=(
        "Training made the merges one after the other. Do the same again.",
        "For each merge, in order, replace its pair everywhere.",
        "The k-th merge makes token 256 + k; use your replace_pair.",
    ),
)  # fmt: skip


def _backwards(ids, merges):
    for k in range(len(merges))[::-1]:
        ids = tokenizer.replace_pair(ids, merges[k], 256 + k)
    return ids


def _numbered(ids, merges, first):
    for k, pair in enumerate(merges):
        ids = tokenizer.replace_pair(ids, pair, first + k)
    return ids


# --- decode ---------------------------------------------------------------------------------------


def decode(ids: list, merges: list) -> str:
    return Tokenizer(merges).decode(ids)


def _spellings(merges) -> list[bytes]:
    spelling = [bytes([b]) for b in range(256)]
    for left, right in merges:
        spelling.append(spelling[left] + spelling[right])
    return spelling


_BEAR = list("熊".encode())
_BEARS = [(_BEAR[0], _BEAR[1]), (256, _BEAR[2])]


def _one_level(ids, merges):
    flat = []
    for i in ids:
        flat += [i] if i < 256 else list(merges[i - 256])
    return bytes(i for i in flat if i < 256).decode("utf-8", "replace")


DECODE = Task(
    name="decode", chapter=5, difficulty=3, minutes=20, answer=decode,
    cases=lambda: [([], []), ([A], []), ([256], [(A, B)]), ([257, C], [(A, B), (256, C)]),
                   (_BEAR, []), ([257], _BEARS), ([256], _BEARS), ([A, 256, _BEAR[2]], _BEARS),
                   ([258, 257, 256], [(A, B), (256, 256), (257, C)]), ([0, 255, 127], []),
                   ([A, 555, 300], [(A + k % 5, 255 + k if k else B) for k in range(300)])],
    mistakes=(
        Mistake("A merge may be made of merges: unfold until only bytes are left.", _one_level),
        Mistake("Token by token, half a character is no text. Join all bytes first, then decode"
                " them once.",
                lambda ids, merges: "".join(
                    _spellings(merges)[i].decode("utf-8", "replace") for i in ids)),
        Mistake("Half a character at the end is an error for you; a reader is better served by the"
                " replacement character.",
                lambda ids, merges: b"".join(_spellings(merges)[i] for i in ids).decode()),
        Mistake("Bytes are not characters: chr() is right for English only.",
                lambda ids, merges: "".join(chr(b) for i in ids for b in _spellings(merges)[i])),
        Mistake("The two halves of a merge are joined in the wrong order.",
                lambda ids, merges: decode(ids, merges)[::-1]),
    ),
    hints=(
        "Give every token its spelling, a `bytes`: the first 256 are easy.",
        "The spelling of a merge is that of its left plus that of its right, in the order learned.",
        "b''.join of all spellings, then .decode('utf-8', 'replace'), once.",
    ),
)  # fmt: skip


# --- pad ------------------------------------------------------------------------------------------


def pad(ids: list, length: int, vocab_size: int) -> Tensor:
    row = torch.arange(vocab_size, vocab_size + length)
    kept = torch.tensor(ids[:length], dtype=torch.int64)
    row[: len(kept)] = kept
    return row


def _padded(fill):
    def answer(ids, length, vocab_size):
        ids = ids[:length]
        rest = [fill(p, vocab_size, len(ids), length) for p in range(len(ids), length)]
        return torch.tensor([*ids, *rest], dtype=torch.int64)

    return answer


PAD = Task(
    name="pad", chapter=5, difficulty=2, minutes=10, answer=pad,
    cases=lambda: [([], 2, 10), ([3], 1, 10), ([3, 4], 5, 10), ([1, 2, 3, 4], 3, 20),
                   ([8, 0, 5, 0], 6, 300), ([9, 9, 9, 9, 9], 5, 10)],
    properties=(Property("tokens are int64", lambda row, *_: row.dtype == torch.int64),),
    mistakes=(
        Mistake("Padding with 0: that is a byte, and a word to the model.",
                _padded(lambda p, v, n, length: 0)),
        Mistake("One padding token for all: DALL·E learns one for each *position*.",
                _padded(lambda p, v, n, length: v)),
        Mistake("Padding is counted from the end of the caption. The token of position p is"
                " vocab_size + p, wherever the caption ends.",
                _padded(lambda p, v, n, length: v + p - n)),
        Mistake("Positions are counted from 1: the first is 0.",
                _padded(lambda p, v, n, length: v + p + 1)),
        Mistake("A caption that is too long is not cut: the stream has room for `length` tokens.",
                lambda ids, length, v: torch.tensor([*ids, *range(v + len(ids), v + length)],
                                                    dtype=torch.int64)),
    ),
    hints=(
        "Start from a row that is all padding, and write the caption over it.",
        "The padding of position p is the number vocab_size + p.",
        "torch.arange(vocab_size, vocab_size + length), its beginning replaced by the ids.",
    ),
)  # fmt: skip

TASKS = (COUNT_PAIRS, REPLACE_PAIR, ENCODE, DECODE, PAD)

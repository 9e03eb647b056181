"""Chapter 17, encoder and decoder: the checks of its exercises."""

import torch
from torch import Tensor

from minidalle.lab.checks.engine import Mistake, Property, Task

# --- cross_attend ---------------------------------------------------------------------------------


def _weights(q: Tensor, k: Tensor, dim: int = -1, root: float | None = None) -> Tensor:
    return (q @ k.T / (q.shape[-1] ** 0.5 if root is None else root)).softmax(dim)


def cross_attend(x: Tensor, h: Tensor, wq: Tensor, wk: Tensor, wv: Tensor) -> Tensor:
    return _weights(x @ wq, h @ wk) @ (h @ wv)


def _picture_and_text(cells: int, words: int, width: int, d: int, size: float = 1.0) -> tuple:
    x, h = torch.randn(cells, width), torch.randn(words, width)
    return size * x, size * h, *(torch.randn(width, d) for _ in range(3))


CROSS_ATTEND = Task(
    name="cross_attend", chapter=17, difficulty=2, minutes=15, answer=cross_attend,
    trained=("x", "h", "wq", "wk", "wv"),
    cases=lambda: [
        *[_picture_and_text(*sizes) for sizes in (
            (1, 1, 2, 2), (1, 2, 2, 2), (2, 2, 3, 2), (3, 1, 4, 2), (2, 3, 4, 4), (4, 3, 6, 3),
            (5, 5, 4, 2))],
        _picture_and_text(3, 4, 4, 2, size=20.0),  # scores of hundreds
    ],
    mistakes=(
        Mistake("The queries come from the text: that gives one row per *word*. Each cell of the"
                " picture asks, so the queries are the picture's.",
                lambda x, h, wq, wk, wv: _weights(h @ wq, x @ wk) @ (x @ wv)),
        Mistake("That is self-attention: the picture asks itself, and no word is read. Keys and"
                " values are the text's.",
                lambda x, h, wq, wk, wv: _weights(x @ wq, x @ wk) @ (x @ wv)),
        Mistake("The √d is missing: wide heads then pick one word before they have learned which.",
                lambda x, h, wq, wk, wv: _weights(x @ wq, h @ wk, root=1) @ (h @ wv)),
        Mistake("d is the width of a query, and not that of x: the product has d terms.",
                lambda x, h, wq, wk, wv: _weights(
                    x @ wq, h @ wk, root=x.shape[-1] ** 0.5) @ (h @ wv)),
        Mistake("You divide by d and not by its square root.",
                lambda x, h, wq, wk, wv: _weights(x @ wq, h @ wk, root=wq.shape[-1]) @ (h @ wv)),
        Mistake("The softmax runs over the cells: each cell shares out its weight over the *words*,"
                " the last dimension.",
                lambda x, h, wq, wk, wv: _weights(x @ wq, h @ wk, dim=0) @ (h @ wv)),
        Mistake("The keys are mixed in place of the values: a key says where to find a word, its"
                " value what is passed on.",
                lambda x, h, wq, wk, wv: _weights(x @ wq, h @ wk) @ (h @ wk)),
        Mistake("The matrices are exchanged: wq makes queries of x, wk keys of h.",
                lambda x, h, wq, wk, wv: _weights(x @ wk, h @ wq) @ (h @ wv)),
        Mistake("All words weigh alike: that is the bag of words again.",
                lambda x, h, wq, wk, wv: (h @ wv).mean(0).expand(len(x), -1)),
    ),
    hints=(
        "Who asks, and who answers? The result has one row for each cell of the picture.",
        "Queries x @ wq; keys h @ wk and values h @ wv. The scores are cells × words.",
        "softmax(q @ kᵀ / √d) over the last dimension, times v; d = q.shape[-1].",
    ),
)  # fmt: skip


# --- context_mask ---------------------------------------------------------------------------------


def context_mask(text: Tensor, vocab_size: int) -> Tensor:
    bos = torch.ones(len(text), 1, dtype=torch.bool)
    return torch.cat([bos, text < vocab_size], dim=1)


def _captions(vocab_size: int, *captions: list[int], length: int) -> tuple:
    """As the tokenizer pads: a token of its own for each position."""
    rows = [[*c, *range(vocab_size + len(c), vocab_size + length)] for c in captions]
    return torch.tensor(rows), vocab_size


CONTEXT_MASK = Task(
    name="context_mask", chapter=17, difficulty=1, minutes=10, answer=context_mask,
    axes=("position", "caption"),
    cases=lambda: [
        _captions(5, [3], length=1), _captions(5, [], length=1), _captions(9, [8], length=2),
        _captions(4, [0, 3], length=3), _captions(6, [5, 0, 1, 2], length=4),
        _captions(9, [8, 1], [], [2, 0, 7], length=3),
        _captions(5, [4, 4], [1], [0, 1, 2, 3, 4], length=5),
    ],
    properties=(
        Property("BOS is always seen, or an empty caption has nothing to attend to",
                 lambda m, *_: bool(m[:, 0].all())),
    ),
    mistakes=(
        Mistake("BOS is missing: the context has 1 + T positions.", lambda t, v: t < v),
        Mistake("BOS is masked: an empty caption then sees nothing, and a softmax of nothing is"
                " nan.", lambda t, v: torch.cat([t[:, :1] < 0, t < v], 1)),
        Mistake("BOS stands before the caption, not after it.",
                lambda t, v: torch.cat([t < v, t[:, :1] >= 0], 1)),
        Mistake("The mask is turned round: True means *may be seen*.",
                lambda t, v: torch.cat([t[:, :1] >= 0, t >= v], 1)),
        Mistake("Words are the ids 0 … vocab_size − 1, so vocab_size itself is padding: <, not ≤.",
                lambda t, v: torch.cat([t[:, :1] >= 0, t <= v], 1)),
        Mistake("There is a padding token for each position: vocab_size, vocab_size + 1 and so on,"
                " not one id.", lambda t, v: torch.cat([t[:, :1] >= 0, t != v], 1)),
        Mistake("Token 0 is a word like any other.",
                lambda t, v: torch.cat([t[:, :1] >= 0, (t < v) & (t > 0)], 1)),
    ),
    hints=(
        "Which ids are words? Those that the vocabulary has. And one position comes before them.",
        "text < vocab_size is B × T. A column of True goes to its left.",
        "torch.cat([torch.ones(len(text), 1, dtype=torch.bool), …], dim=1).",
    ),
)  # fmt: skip


# --- encoder_mask ---------------------------------------------------------------------------------


def encoder_mask(is_word: Tensor, causal: bool) -> Tensor:
    n = len(is_word)
    mask = is_word.expand(n, n)
    return mask.tril() if causal else mask


def _row(*seen: int) -> Tensor:
    return torch.tensor(seen).bool()


def _outer(is_word: Tensor, causal: bool) -> Tensor:
    return encoder_mask(is_word, causal) & is_word[:, None]


ENCODER_MASK = Task(
    name="encoder_mask", chapter=17, difficulty=2, minutes=15, answer=encoder_mask,
    axes=("key", "query"),
    cases=lambda: [(_row(*seen), causal) for causal in (False, True) for seen in (
        (1,), (1, 1), (1, 0), (1, 1, 1), (1, 1, 0, 0), (1, 0, 0, 0), (1, 1, 1, 1, 1),
        (1, 1, 1, 1, 0, 0))],
    properties=(
        Property("every position sees BOS, the first: a row of all False gives nan",
                 lambda m, *_: bool(m[:, 0].all())),
    ),
    mistakes=(
        Mistake("`causal` is ignored: then a word sees later words.",
                lambda w, c: encoder_mask(w, False)),
        Mistake("It is always causal: a bidirectional encoder sees all words, later ones too.",
                lambda w, c: encoder_mask(w, True)),
        Mistake("The padding is not masked.", lambda w, c: encoder_mask(torch.ones_like(w), c)),
        Mistake("The rows of padding are emptied too. They are read by nobody, and a softmax of"
                " nothing is nan: mask keys, not queries.", _outer),
        Mistake("It is transposed: the query is the row, the key the column.",
                lambda w, c: encoder_mask(w, c).T),
        Mistake("A word does not see itself: j ≤ i, not j < i.",
                lambda w, c: encoder_mask(w, False).tril(-1) if c else encoder_mask(w, c)),
        Mistake("It looks ahead and not back: j ≤ i is wanted.",
                lambda w, c: encoder_mask(w, False).triu() if c else encoder_mask(w, c)),
        Mistake("The mask is turned round: True means *may be seen*.",
                lambda w, c: ~encoder_mask(w, c)),
    ),
    hints=(
        "Two rules: what kind of position may be seen, and, if causal, how far.",
        "Every row begins as a copy of is_word. A causal reader loses what is right of itself.",
        "is_word.expand(n, n), and .tril() of it if causal.",
    ),
)  # fmt: skip


# --- same_bag -------------------------------------------------------------------------------------


def same_bag(a: list, b: list) -> bool:
    return all(a.count(i) * len(b) == b.count(i) * len(a) for i in {*a, *b})


SAME_BAG = Task(
    name="same_bag", chapter=17, difficulty=3, minutes=15, answer=same_bag,
    cases=lambda: [
        ([1], [1]), ([1], [2]), ([1, 2], [2, 1]), ([1, 2], [1, 3]), ([1, 3], [2, 2]),
        ([1, 2, 2], [1, 1, 2]), ([1, 1], [1]), ([1, 2], [1, 2, 1, 2]), ([1, 2, 1], [2, 1]),
        ([5, 1, 7, 5, 2, 8], [5, 2, 7, 5, 1, 8]), ([5, 1, 7, 5, 2, 8], [5, 2, 7, 6, 1, 8]),
        ([3, 1, 2, 2, 1, 3], [2, 3, 1]), ([4, 0, 0], [0, 4, 4]), ([1, 2], [1, 2, 3]),
    ],
    mistakes=(
        Mistake("The order is compared, and a mean has none.", lambda a, b: a == b),
        Mistake("A set forgets how often a word occurs; a mean does not.",
                lambda a, b: set(a) == set(b)),
        Mistake("A mean divides by the number of words: a caption said twice has the same mean."
                " Compare how often a word occurs *per word*.",
                lambda a, b: sorted(a) == sorted(b)),
        Mistake("The mean of ids says nothing: it is their *vectors* that are averaged, and 1 and 3"
                " do not make a 2.", lambda a, b: sum(a) / len(a) == sum(b) / len(b)),
        Mistake("One word that occurs equally often is not enough: all of them.",
                lambda a, b: any(a.count(i) * len(b) == b.count(i) * len(a) for i in {*a, *b})),
    ),
    hints=(
        "When are two sums of word vectors, each divided by its number of words, the same?",
        "When each word has the same *share* in both captions.",
        "a.count(i) / len(a) == b.count(i) / len(b) for every id i; without rounding,"
        " multiplied out.",
    ),
)  # fmt: skip


# --- count_matrices -------------------------------------------------------------------------------


def count_matrices(width: int, encoder_layers: int, decoder_layers: int) -> int:
    return (12 * encoder_layers + 16 * decoder_layers) * width**2


def _per_layer(encoder: int, decoder: int):
    return lambda d, e, n: (encoder * e + decoder * n) * d**2


COUNT_MATRICES = Task(
    name="count_matrices", chapter=17, difficulty=2, minutes=10, answer=count_matrices,
    cases=lambda: [(1, 1, 0), (1, 0, 1), (2, 1, 1), (3, 2, 5), (128, 6, 0), (128, 1, 4),
                   (512, 6, 6)],
    mistakes=(
        Mistake("A decoder layer has a second attention, to the text: four more matrices.",
                _per_layer(12, 12)),
        Mistake("Keys and values of the text are made by each decoder layer, with matrices of its"
                " own: cross-attention has four, not two.", _per_layer(12, 14)),
        Mistake("Cross-attention has an output matrix as well: queries, keys, values, output.",
                _per_layer(12, 15)),
        Mistake("The encoder attends to itself alone: it has no cross-attention.",
                _per_layer(16, 16)),
        Mistake("The MLP goes to 4 D *and back*: two matrices of 4 D² each.", _per_layer(8, 12)),
        Mistake("Encoder and decoder are exchanged: it is the decoder that attends twice.",
                _per_layer(16, 12)),
        Mistake("A matrix has D × D numbers, so the width counts twice.",
                lambda d, e, n: (12 * e + 16 * n) * d),
    ),
    hints=(
        "Count the D × D matrices of one layer of each kind; an MLP is worth eight of them.",
        "Self-attention: four. MLP: eight. What has a decoder layer besides?",
        "(12 · encoder_layers + 16 · decoder_layers) · D².",
    ),
)  # fmt: skip


# --- context_products -----------------------------------------------------------------------------


def context_products(layers: int, width: int, context: int, steps: int, cached: bool) -> int:
    return 2 * layers * context * width**2 * (1 if cached else steps)


CONTEXT_PRODUCTS = Task(
    name="context_products", chapter=17, difficulty=2, minutes=10, answer=context_products,
    cases=lambda: [
        (1, 1, 1, 1, False), (1, 1, 1, 3, True), (1, 1, 1, 3, False), (2, 1, 1, 2, True),
        (1, 3, 1, 2, False), (1, 1, 4, 2, True), (3, 2, 5, 4, False), (4, 128, 33, 144, True),
        (4, 128, 33, 144, False),
    ],
    properties=(
        Property("a cache never costs more", lambda out, layers, width, context, steps, cached: (
            out <= 2 * layers * context * width**2 * steps)),
    ),
    mistakes=(
        Mistake("Keys *and* values: two products for each position of the context.",
                lambda n, d, c, s, k: n * c * d * d * (1 if k else s)),
        Mistake("Queries come from the picture: the context has keys and values alone.",
                lambda n, d, c, s, k: 3 * n * c * d * d * (1 if k else s)),
        Mistake("A vector times a matrix of D × D takes D² multiplications, not D.",
                lambda n, d, c, s, k: 2 * n * c * d * (1 if k else s)),
        Mistake("The cache is turned round: *with* it, one computation serves all steps.",
                lambda n, d, c, s, k: 2 * n * c * d * d * (s if k else 1)),
        Mistake("`cached` is ignored: with a cache the number of steps does not matter.",
                lambda n, d, c, s, k: 2 * n * c * d * d * s),
        Mistake("Each layer has matrices of its own, so each computes its own keys and values.",
                lambda n, d, c, s, k: 2 * c * d * d * (1 if k else s)),
        Mistake("The context does not grow while the picture is drawn: it has C positions at every"
                " step.", lambda n, d, c, s, k: (
                    2 * n * c * d * d if k else n * c * d * d * s * (s + 1))),
    ),
    hints=(
        "How many multiplications for the key of one position, in one layer?",
        "D² for the key and D² for the value; for all positions, in all layers.",
        "2 · layers · context · D², and without a cache as many times as there are steps.",
    ),
)  # fmt: skip

TASKS = (
    CROSS_ATTEND, CONTEXT_MASK, ENCODER_MASK, SAME_BAG, COUNT_MATRICES, CONTEXT_PRODUCTS,
)  # fmt: skip

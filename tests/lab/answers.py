"""Answers that a check once judged wrongly, or nearly: (task, what it does, the answer).

WRONG ones must fail; all of them were accepted by a check, or could be by one that is careless of
gradients, ties, extreme inputs, odd shapes, or of an argument. RIGHT ones must pass: they say the
same in numpy, in lists, in tuples, or in another type of number.
"""

import math
import re

import numpy as np
import torch
import torch.nn.functional as F

from minidalle.world.captions import parse
from tests.lab import alternatives as good
from tests.lab.variants import solutions


def right(name):
    """The teacher's answer of a task."""
    return solutions()[name][1][name]


def _detached(name):
    return lambda *arguments: right(name)(*arguments).detach()


def _as_number(name):
    return lambda *arguments: torch.tensor(right(name)(*arguments).item())


def _returned_as(convert, name):
    return lambda *arguments: convert(right(name)(*arguments))


def _ignoring(name, position, value):
    """The right answer with an argument that it does not look at."""

    def answer(*arguments):
        fixed = value(*arguments) if callable(value) else value
        return right(name)(*arguments[:position], fixed, *arguments[position + 1 :])

    return answer


# --- Wrong ----------------------------------------------------------------------------------------


def _same_but_size(a, b):
    def facts(caption):
        found = parse(caption)
        return [(t.kind, t.colour) for t in found.things], found.relation, found.place

    return facts(a) == facts(b)


def _colour_cut_above_only(r, a, b):
    return ((r - b) @ a / (a @ a)).clamp(max=255)


def _colour_wrapped(r, a, b):
    return ((r - b) @ a / (a @ a)) % 256


def _kind_is_asked(stated, seen):
    return (
        stated.kind == seen.kind
        and stated.colour in (None, seen.colour)
        and stated.size in (None, seen.size)
    )


def _softmax_of_exp(x):
    return x.exp() / x.exp().sum(-1, keepdim=True)


def _attend_by_exp(q, k, v, mask):
    weights = (q @ k.T / q.shape[-1] ** 0.5).exp() * mask
    return weights / weights.sum(-1, keepdim=True) @ v


def _attend_masked_by_little(q, k, v, mask):
    return (q @ k.T / q.shape[-1] ** 0.5).masked_fill(~mask, -50.0).softmax(-1) @ v


def _naive_kl(logits):
    q = logits.softmax(-1)
    return (q * q.log()).sum(-1).mean() + math.log(logits.shape[-1])


def _naive_contrast(images, texts, scale):
    table = (scale * images @ texts.T).exp()
    rows, columns = table.diag() / table.sum(1), table.diag() / table.sum(0)
    return -(rows.log() + columns.log()).mean() / 2


def _square_patches(image, p):
    c, side, _ = image.shape
    squares = image.reshape(c, side // p, p, side // p, p).permute(1, 3, 0, 2, 4)
    return squares.reshape(-1, c * p * p)


def _threshold_nucleus(logits, p):
    chances = logits.softmax(-1)
    ordered = chances.sort(descending=True).values
    before = ordered.cumsum(-1) - ordered
    last = ordered.masked_fill(before >= p, 2.0).amin(-1, keepdim=True)
    return logits.masked_fill(chances < last, -torch.inf)


def _frechet(a, b, least=-math.inf):
    cov_a, cov_b = torch.cov(a.T), torch.cov(b.T)
    roots = torch.linalg.eigvals(cov_a @ cov_b).real.clamp(min=least).sqrt().sum()
    mean = (a.mean(0) - b.mean(0)).square().sum()
    return (mean + cov_a.trace() + cov_b.trace() - 2 * roots).item()


def _shares_of_two(skills, right):
    pairs = list(zip(skills, right, strict=True))
    return {
        skill: sum(r for s, r in pairs if s == skill) / min(2, skills.count(skill))
        for skill in dict.fromkeys(skills)
    }


def _ordered_nearly(scores, right):
    pairs = [(s, t) for s, r in zip(scores, right, strict=True) if r
             for t, q in zip(scores, right, strict=True) if not q]  # fmt: skip
    won = [0.5 if abs(s - t) < 1e-6 else float(s > t) for s, t in pairs]
    return sum(won) / len(won) if won else math.nan


def _two_ones(soft):
    hard = (soft == soft.amax(-1, keepdim=True)).to(soft.dtype)
    return hard + (soft - soft.detach())


def _loss_of_words(text_nll, is_word, code_nll, text_weight):
    text = (text_nll * is_word).sum() / is_word.sum()
    return text_weight * text + (1 - text_weight) * code_nll.mean()


def _clipped_above_one(gradients, longest):
    length = math.sqrt(sum(float(g.square().sum()) for g in gradients))
    return [g * min(1.0, longest / length) if length > 1 else g.clone() for g in gradients]


WRONG = [
    # every argument matters
    ("attend", "ignores its mask", _ignoring("attend", 3, lambda q, *_: good.causal_mask(len(q)))),
    ("attend", "sees all", _ignoring("attend", 3, lambda q, *_: torch.ones(len(q), len(q)).bool())),
    ("joint_loss", "weighs by an eighth", _ignoring("joint_loss", 3, 1 / 8)),
    ("elbo", "ignores beta", _ignoring("elbo", 2, 1.0)),
    ("best_colour", "may be negative", _colour_cut_above_only),
    ("best_colour", "wraps around", _colour_wrapped),
    ("best_colour", "weighs all pixels alike", _ignoring("best_colour", 1, lambda r, a, b: (
        torch.ones_like(a)))),
    ("best_colour", "ignores b", _ignoring("best_colour", 2, lambda r, a, b: torch.zeros_like(b))),
    ("block", "uses a norm of its own", _ignoring("block", 3, lambda *_: lambda x: F.layer_norm(
        x, x.shape[-1:]))),
    ("gumbel_softmax", "ignores tau", _ignoring("gumbel_softmax", 2, 1.0)),
    ("gumbel_softmax", "ignores the noise", _ignoring("gumbel_softmax", 1, 0.0)),
    ("fsq", "ignores the levels", _ignoring("fsq", 1, lambda h, levels: torch.full_like(
        levels, 8))),
    ("fsq", "as many levels as the first number has", _ignoring("fsq", 1, lambda h, levels: levels[
        :1].expand(len(levels)))),
    ("contrastive_loss", "ignores the scale", _ignoring("contrastive_loss", 2, 1.0)),
    ("temper", "ignores the temperature", _ignoring("temper", 1, 1.0)),
    ("top_k", "ignores k", _ignoring("top_k", 1, 2)),
    ("top_p", "ignores p", _ignoring("top_p", 1, 0.9)),
    ("guide", "ignores the guidance", _ignoring("guide", 2, 2.0)),
    ("prime", "ignores the rows", _ignoring("prime", 1, 1)),
    ("patches", "ignores p", _ignoring("patches", 1, 1)),
    ("best_of", "ignores n", _ignoring("best_of", 2, lambda s, *_: len(s))),
    ("learning_rate", "ignores the peak", _ignoring("learning_rate", 2, 1.0)),
    ("learning_rate", "ignores the warm-up", _ignoring("learning_rate", 3, 10)),
    ("follow", "ignores the decay", _ignoring("follow", 2, 0.9)),
    ("clip_gradients", "ignores the length", _ignoring("clip_gradients", 1, 1.0)),
    ("drop_captions", "ignores the rate", _ignoring("drop_captions", 2, 0.1)),
    ("convolutional_mask", "ignores the kernel", _ignoring("convolutional_mask", 2, 3)),
    ("shows_held_out", "knows the secret", _ignoring("shows_held_out", 1, frozenset(
        {("car", "green"), ("dog", "blue")}))),
    ("cosine", "ends at 0", _ignoring("cosine", 1, 0.0)),
    ("log_normal", "ignores the scale", _ignoring("log_normal", 2, 1.0)),
    ("pad", "ignores the vocabulary", _ignoring("pad", 2, 10)),
    ("shift", "starts with 0", _ignoring("shift", 1, 0)),
    ("thing_holds", "ignores a kind that is open", _kind_is_asked),
    ("same_facts", "ignores the size", _same_but_size),
    ("drop_units", "drops half", _ignoring("drop_units", 2, 0.5)),
    ("drop_units", "has random numbers of its own", _ignoring("drop_units", 1, lambda x, *_: (
        torch.rand_like(x)))),
    ("adamw_step", "ignores lr", _ignoring("adamw_step", 2, 0.1)),
    ("prune_smallest", "prunes half", _ignoring("prune_smallest", 1, 0.5)),
    ("cross_attend", "one matrix for keys and values", lambda x, h, wq, wk, wv: (
        right("cross_attend")(x, h, wq, wk, wk))),
    ("context_mask", "knows the vocabulary", _ignoring("context_mask", 1, 5)),
    ("encoder_mask", "reads forwards only", _ignoring("encoder_mask", 1, True)),
    ("encoder_mask", "sees padding", _ignoring("encoder_mask", 0, lambda w, _: w | True)),
    ("count_matrices", "knows the width", _ignoring("count_matrices", 0, 128)),
    ("context_products", "ignores the context", _ignoring("context_products", 2, 33)),
    ("fgsm", "ignores epsilon", _ignoring("fgsm", 2, 0.1)),
    ("fgsm", "moves at random", lambda image, gradient, e: (
        image + e * torch.randn_like(gradient).sign()).clamp(0, 1)),
    ("sharpen", "ignores τ", _ignoring("sharpen", 1, 0.5)),
    ("total_variation", "in per cent", lambda p, q: 100 * right("total_variation")(p, q)),
    ("balanced_weights", "by the alphabet", lambda groups: right("balanced_weights")(
        sorted(groups))),
    ("exposure", "of the first", _ignoring("exposure", 1, 0)),
    ("copies", "ignores the share", _ignoring("copies", 3, 0.5)),
    ("wilson", "ignores z", _ignoring("wilson", 2, 1.96)),
    # what is trained through has a gradient
    *[(name, "detached", _detached(name)) for name in (
        "log_normal", "reparameterise", "gaussian_kl", "elbo", "gumbel_softmax", "kl_to_uniform",
        "straight_through", "logit_laplace_nll", "attend", "joint_loss", "block",
        "contrastive_loss", "drop_units", "fsq", "cross_attend")],
    *[(name, "torch.tensor of a number", _as_number(name)) for name in (
        "gaussian_kl", "elbo", "kl_to_uniform", "joint_loss", "contrastive_loss")],
    ("gaussian_kl", "a float", lambda mu, ln_var: right("gaussian_kl")(mu, ln_var).item()),
    ("gaussian_kl", "mu without a gradient", lambda mu, ln_var: right("gaussian_kl")(
        mu.detach(), ln_var)),
    ("reparameterise", "by numpy", lambda mu, v, e: torch.tensor(
        mu.detach().numpy() + np.exp(0.5 * v.detach().numpy()) * e.numpy())),
    ("reparameterise", "the spread without a gradient", lambda mu, v, e: mu + (
        0.5 * v).exp().detach() * e),
    ("contrastive_loss", "the scale is never learned", lambda i, t, s: right("contrastive_loss")(
        i, t, float(s))),
    ("joint_loss", "only the picture learns", lambda t, w, c, a: right("joint_loss")(
        t.detach(), w, c, a)),
    ("attend", "the weights without a gradient", lambda q, k, v, m: right("attend")(
        q.detach(), k.detach(), v, m)),
    ("block", "the second half without a gradient", lambda x, a, t, n: (
        lambda y: y + t(n(y)).detach())(x + a(n(x)))),
    ("straight_through", "the remainder of a division", lambda soft: F.one_hot(
        soft.argmax(-1), soft.shape[-1]) + soft % soft.detach()),
    # ties
    ("straight_through", "two ones", _two_ones),
    ("retrieval", "a tie is a find", lambda s: (s.diag() >= s.amax(1)).float().mean().item()),
    ("retrieval", "a near tie is a find", lambda s: torch.isclose(
        s.diag(), s.amax(1)).double().mean().item()),
    ("retrieval", "what is merely near the best is a find", lambda s: (
        s.diag() > s.amax(1) - 1e-6).float().mean().item() if len(s.unique()) > 1 else 1 / len(s)),
    ("top_p", "a threshold", _threshold_nucleus),
    ("ordered", "near ties are ties", _ordered_nearly),
    ("ordered", "rounded", lambda s, r: right("ordered")([round(x, 3) for x in s], r)),
    # extreme inputs
    ("adamw_step", "no ε", lambda w, g, lr, d: w * (1 - lr * d) - lr * g / g.abs()),
    ("fgsm", "a tiny gradient is none", lambda x, g, e: right("fgsm")(
        x, g * (g.abs() > 1e-4), e)),
    ("prune_smallest", "a small weight is none", lambda w, s: right("prune_smallest")(
        w * (w.abs() > 1e-3), s)),
    ("gumbel_softmax", "exp overflows", lambda a, g, tau: _softmax_of_exp((a + g) / tau)),
    ("temper", "exp overflows", lambda a, t: _softmax_of_exp(a / t)),
    ("attend", "exp overflows", _attend_by_exp),
    ("attend", "−50 is not −∞", _attend_masked_by_little),
    ("cache_step", "exp overflows", lambda q, k, v, ks, vs: _softmax_of_exp(
        q @ torch.cat([ks, k]).T / q.shape[-1] ** 0.5) @ torch.cat([vs, v])),
    ("kl_to_uniform", "nan for a code that is certain", _naive_kl),
    ("contrastive_loss", "exp overflows", _naive_contrast),
    ("log_normal", "the density underflows", lambda x, m, s: torch.log(
        torch.exp(-0.5 * ((x - m) / s) ** 2) / (s * math.sqrt(2 * math.pi)))),
    ("joint_loss", "nan without a word", _loss_of_words),
    ("joint_loss", "a mean of nothing", lambda t, w, c, a: torch.lerp(c.mean(), t[w].mean(), a)),
    ("frechet", "single precision", _frechet),
    ("frechet", "single precision, clamped", lambda a, b: _frechet(a, b, least=0.0)),
    ("clip_gradients", "a length below 1 is never clipped", _clipped_above_one),
    ("elbo", "never above 1", lambda ll, kl, b: right("elbo")(ll, kl, b).clamp(max=1)),
    ("kl_price", "never above 1", lambda beta, f: min(1.0, beta / (3 * f * f))),
    # shapes, and more than two of a kind
    ("gumbel_softmax", "no dim", lambda a, g, tau: F.softmax((a + g) / tau)),
    ("kl_to_uniform", "no dim", lambda a: (F.softmax(a) * F.log_softmax(a)).sum(
        -1).mean() + math.log(a.shape[-1])),
    ("temper", "no dim", lambda a, t: F.softmax(a / t)),
    ("temper", "dim 1", lambda a, t: F.softmax(a / t, -1 if a.ndim == 1 else 1)),
    ("patches", "square pictures only", _square_patches),
    ("prime", "r (r + 1) codes", lambda codes, r: codes.flatten()[: r * (r + 1)]),
    ("prime", "one row too few", lambda codes, r: codes[: max(1, r - 1) if r else 0].flatten()),
    ("skill_shares", "divided by two at most", _shares_of_two),
    ("skill_shares", "divided by two", lambda s, r: {k: sum(
        y for x, y in zip(s, r, strict=True) if x == k) / (2 if s.count(k) > 1 else 1) for k in s}),
    ("pad", "sorted", lambda ids, n, v: right("pad")(sorted(ids), n, v)),
    ("nearest_code", "the sum of differences", lambda f, c: torch.cdist(f, c, p=1).argmin(-1)),
    ("nearest_code", "fourth powers", lambda f, c: torch.cdist(f, c, p=4).argmin(-1)),
    ("nearest_code", "the largest difference", lambda f, c: torch.cdist(
        f, c, p=math.inf).argmin(-1)),
    ("psnr", "a mean of rows", lambda x, y: -10 * (x - y).square().mean(-1).log10().mean()),
    # types
    ("patches", "half precision", lambda x, p: right("patches")(x.half(), p).float()),
    ("pad", "int32", lambda ids, n, v: right("pad")(ids, n, v).int()),
    ("place", "a division with a remainder", lambda i, grid: (i / grid, i % grid)),
    ("causal_mask", "numbers for truth values", lambda n: np.tri(n)),
    ("rank", "similarities", lambda images, text: sorted((images @ text).tolist())[::-1]),
    ("replace_pair", "a list that holds itself", lambda ids, pair, new: _endless()),
    ("concepts", "no pairs", _ignoring("concepts", 1, [])),
    ("concepts", "the first pair only", _ignoring("concepts", 1, lambda n, twins: twins[:1])),
    ("stop_at", "a patience of 3", _ignoring("stop_at", 1, 3)),
    ("stop_at", "rounds the losses", _ignoring("stop_at", 0, lambda losses, p: [
        float(round(x)) if abs(x) < 1e6 else x for x in losses])),
    ("grow_tokens", "no padding", _ignoring("grow_tokens", 1, lambda rows, *_: len(rows))),
    ("gaussian_distance", "one width", _ignoring("gaussian_distance", 3, lambda a, p, b, q: p)),
    ("interval", "always 95 %", _ignoring("interval", 2, 0.95)),
    ("interval", "sorted picks", _ignoring("interval", 1, lambda v, picks, s: picks.sort(0)[0])),
    ("forgetting", "two stages only", _ignoring("forgetting", 0, lambda scores: scores[-2:])),
    ("masked_loss", "detached", _detached("masked_loss")),
    ("masked_loss", "a new tensor", _as_number("masked_loss")),
    ("hidden_counts", "no offsets", _ignoring("hidden_counts", 0, lambda o, cells: [0.5] * len(o))),
    ("choose_cells", "no noise", _ignoring("choose_cells", 1, lambda p, z, h, n: 0 * z)),
    ("choose_cells", "−10 for visible ones", lambda p, z, h, n: torch.zeros_like(h).scatter(
        0, torch.where(h, p + z, -10.0).topk(n).indices, True)),
    ("halton_cells", "always four across", _ignoring("halton_cells", 0, 4)),
]  # fmt: skip


def _endless():
    out: list = []
    out.append(out)
    return out


# --- Right ----------------------------------------------------------------------------------------


def _unraveled(i, grid):
    return np.unravel_index(i, (grid, grid))


def _all_hold(stated, seen):
    parts = ("kind", "colour", "size")
    return np.all([getattr(stated, p) in (None, getattr(seen, p)) for p in parts])


def _colour_by_channel(r, a, b):
    colour = [float(a @ (x - y) / (a @ a)) for x, y in zip(r, b, strict=True)]
    return [min(255.0, max(0.0, c)) for c in colour]


def _dice_in_numpy(d, p):
    d, p = d.numpy(), p.numpy()
    return np.float32(2 * (d @ p) / (d @ d + p @ p))


def _rank_as_a_list(images, text):
    scores = images @ text
    return sorted(range(len(images)), key=lambda i: scores[i], reverse=True)


def _codes_as_a_list(features, codebook):
    return [int(((codebook - f) ** 2).sum(1).argmin()) for f in features]


def _usage_as_a_tensor(counts):
    return torch.tensor(right("usage")(counts))


def _quiet_kl(logits):
    q = logits.softmax(-1)
    return torch.special.xlogy(q, q).sum(-1).mean() + math.log(logits.shape[-1])


def _last_of_ties(soft):
    hard = F.one_hot(soft.shape[-1] - 1 - soft.flip(-1).argmax(-1), soft.shape[-1])
    return hard + (soft - soft.detach())


def _rank_last_first(images, text):
    return (images @ text).argsort(stable=True).flip(0)


def _frechet_by_singular_values(a, b):
    a, b = a.double(), b.double()
    left = (a - a.mean(0)) / (len(a) - 1) ** 0.5
    other = (b - b.mean(0)) / (len(b) - 1) ** 0.5
    cross = torch.linalg.matrix_norm(left @ other.T, "nuc")
    mean = (a.mean(0) - b.mean(0)) ** 2
    return (mean.sum() + left.square().sum() + other.square().sum() - 2 * cross).numpy()


def _attend_one_by_one(q, k, v, mask):
    rows = [(q[i] @ k[mask[i]].T / len(q[i]) ** 0.5).softmax(0) @ v[mask[i]] for i in range(len(q))]
    return torch.stack(rows)


def _top_k_exactly(logits, k):
    order = logits.argsort(-1, descending=True).argsort(-1)
    return logits.masked_fill(order >= k, -torch.inf)


def _fair_retrieval(similarity):
    best = similarity == similarity.amax(1, keepdim=True)
    return (best.double() / best.sum(1, keepdim=True)).diag().mean()


RIGHT = [
    ("place", "np.unravel_index", _unraveled),
    ("place", "a list", _returned_as(list, "place")),
    ("place", "a tensor", _returned_as(torch.tensor, "place")),
    ("thing_holds", "np.all", _all_hold),
    ("shows_held_out", "np.any", lambda things, held: np.any(
        [(t.kind, t.colour) in held for t in things])),
    ("best_of", "np.argmax", lambda scores, right, n: np.array(right)[np.argmax(scores[:n])]),
    ("best_of", "torch.argmax", lambda scores, right, n: torch.tensor(right)[
        torch.tensor(scores[:n]).argmax()]),
    ("best_colour", "numpy", _returned_as(torch.Tensor.numpy, "best_colour")),
    ("best_colour", "a list of numbers", _colour_by_channel),
    ("dice", "np.float32", _dice_in_numpy),
    ("dice", "a tensor", lambda d, p: 2 * (d @ p) / (d @ d + p @ p)),
    ("rank", "a sorted list", _rank_as_a_list),
    ("rank", "numpy", lambda images, text: np.argsort(-(images @ text).numpy(), kind="stable")),
    ("rank", "equals the other way round", _rank_last_first),
    ("nearest_code", "a list of indices", _codes_as_a_list),
    ("fsq", "a sigmoid of twice the number", lambda h, n: (lambda p: 2 * (
        p + (p.round() - p).detach()) / (n - 1) - 1)((n - 1) * torch.sigmoid(2 * h))),
    ("nearest_code", "numpy", _returned_as(torch.Tensor.numpy, "nearest_code")),
    ("causal_mask", "np.tri of bool", lambda n: np.tri(n, dtype=bool)),
    ("row_mask", "numpy", _returned_as(torch.Tensor.numpy, "row_mask")),
    ("clip_gradients", "a tuple", _returned_as(tuple, "clip_gradients")),
    ("usage", "a tensor of two", _usage_as_a_tensor),
    ("usage", "a list", _returned_as(list, "usage")),
    ("usage", "numpy", _returned_as(np.array, "usage")),
    ("lost_where", "numpy", _returned_as(np.array, "lost_where")),
    ("helped_or_hurt", "numpy", _returned_as(np.array, "helped_or_hurt")),
    ("drop_captions", "a tuple", _returned_as(tuple, "drop_captions")),
    ("replace_pair", "a tuple", _returned_as(tuple, "replace_pair")),
    ("encode", "numpy", lambda ids, merges: np.array(right("encode")(ids, merges), dtype=int)),
    ("shift", "lists", lambda stream, start: ([start, *stream.tolist()[:-1]], stream.tolist())),
    ("skill_shares", "np.mean", lambda s, r: {k: np.mean(
        [y for x, y in zip(s, r, strict=True) if x == k]) for k in s}),
    ("standard_error", "np.sqrt", lambda p, n: np.sqrt(p * (1 - p) / n)),
    ("learning_rate", "np.float64", lambda *a: np.float64(right("learning_rate")(*a))),
    ("count_parameters", "np.int64", lambda width, layers: np.int64(12) * layers * width**2),
    ("ordered", "np.float64", lambda s, r: np.float64(right("ordered")(s, r))),
    ("ordered", "np.sign", lambda s, r: np.mean(
        (np.sign(np.subtract.outer(np.array(s)[np.array(r)], np.array(s)[~np.array(r)])) + 1) / 2)
        if any(r) and not all(r) else np.nan),
    ("unpatch", "F.fold", lambda patches, p, columns: F.fold(
        patches.T[None], (len(patches) // columns * p, columns * p), p, stride=p)[0]),
    ("gumbel", "with a small ε", lambda u: -torch.log(-torch.log(u + 1e-8) + 1e-8)),
    ("kl_to_uniform", "with a small ε", lambda a: (a.softmax(-1) * (a.softmax(-1) + 1e-10).log())
        .sum(-1).mean() + math.log(a.shape[-1])),
    ("kl_to_uniform", "an entropy", lambda a: math.log(
        a.shape[-1]) - torch.distributions.Categorical(logits=a).entropy().mean()),
    ("kl_to_uniform", "xlogy", _quiet_kl),
    ("straight_through", "the last of equals", _last_of_ties),
    ("attend", "row by row", _attend_one_by_one),
    ("attend", "a large negative number", lambda q, k, v, m: (q @ k.T / q.shape[1] ** 0.5)
        .masked_fill(~m, -1e9).softmax(-1) @ v),
    ("top_k", "exactly k of equals", _top_k_exactly),
    ("retrieval", "a tie counts in part", _fair_retrieval),
    ("frechet", "singular values", _frechet_by_singular_values),
    ("mirror_sides", "by a placeholder", lambda c: re.sub(r"\bright\b", "left", re.sub(
        r"\bleft\b", "\0", c)).replace("\0", "right").translate(str.maketrans("左右", "右左"))),
    ("drop_units", "F.dropout's way", lambda x, u, p, t: x * ((u >= p) / (1 - p)) if t else x + 0),
    ("adamw_step", "the sign, where there is a gradient", lambda w, g, lr, d: (
        w - lr * d * w - lr * torch.where(g.abs() > 1e-4, g.sign(), g / (g.abs() + 1e-8)))),
    ("cross_attend", "PyTorch's own", lambda x, h, wq, wk, wv: F.scaled_dot_product_attention(
        x @ wq, h @ wk, h @ wv)),
    ("context_mask", "lists", _returned_as(torch.Tensor.tolist, "context_mask")),
    ("encoder_mask", "numpy", _returned_as(torch.Tensor.numpy, "encoder_mask")),
    ("same_bag", "means of one-hot vectors", lambda a, b: bool(np.allclose(*(
        np.eye(9)[ids].mean(0) for ids in (a, b))))),
    ("prune_smallest", "numpy", _returned_as(torch.Tensor.numpy, "prune_smallest")),
    ("prune_smallest", "the last of equals", lambda w, s: right("prune_smallest")(
        w.flatten().flip(0), s).flip(0).view_as(w)),
    ("fgsm", "numpy", lambda x, g, e: np.clip(x.numpy() + e * np.sign(g.numpy()), 0, 1)),
    ("sharpen", "a list", _returned_as(torch.Tensor.tolist, "sharpen")),
    ("balanced_weights", "a tensor", _returned_as(torch.tensor, "balanced_weights")),
    ("copies", "a list", _returned_as(torch.Tensor.tolist, "copies")),
    ("wilson", "a list", _returned_as(list, "wilson")),
    ("exposure", "a tensor", _returned_as(torch.tensor, "exposure")),
    ("contrastive_loss", "the sum of logits", lambda i, t, s: (lambda table: (
        table.logsumexp(0) + table.logsumexp(1) - 2 * table.diag()).mean() / 2)(s * i @ t.T)),
    ("concepts", "a tensor", _returned_as(torch.tensor, "concepts")),
    ("stop_at", "a list", _returned_as(list, "stop_at")),
    ("grow_tokens", "numpy", _returned_as(torch.Tensor.numpy, "grow_tokens")),
    ("gaussian_distance", "a tensor", _returned_as(torch.tensor, "gaussian_distance")),
    ("interval", "np.quantile", lambda values, picks, share: np.quantile(
        values.numpy()[picks.numpy()].mean(1), [(1 - share) / 2, (1 + share) / 2])),
    ("forgetting", "numpy", _returned_as(np.array, "forgetting")),
    ("masked_loss", "by picking", lambda a, c, h: -a[h].log_softmax(-1)[
        torch.arange(int(h.sum())), c[h]].mean()),
    ("hidden_counts", "a tensor", _returned_as(torch.tensor, "hidden_counts")),
    ("impossible_share", "a tensor", _returned_as(torch.tensor, "impossible_share")),
    ("reveal_counts", "numpy", _returned_as(np.array, "reveal_counts")),
    ("choose_cells", "numpy", _returned_as(torch.Tensor.numpy, "choose_cells")),
    ("halton_cells", "a tuple", _returned_as(tuple, "halton_cells")),
    ("point_and_velocity", "a list", _returned_as(list, "point_and_velocity")),
    ("slerp", "numpy", lambda a, b, share: good.slerp(a, b, share).numpy()),
    ("patches", "F.unfold", lambda image, p: F.unfold(image[None], p, stride=p)[0].T),
]  # fmt: skip


# --- Wrong, and why: each written in another way than the mistake that its task names -------------


def _nucleus_by_gather(logits, p):
    ordered, order = torch.sort(logits, dim=-1, descending=True)
    chances = F.softmax(ordered, dim=-1)
    cut = torch.cumsum(chances, -1) - chances >= p
    return torch.gather(ordered.masked_fill(cut, -torch.inf), -1, order)


def _top_k_by_gather(logits, k):
    _, indices = logits.topk(k)
    return torch.full(logits.shape, -math.inf).gather(-1, indices)


def _frechet_of_rows(a, b):
    a, b = a.double(), b.double()
    mean = ((a.mean(0) - b.mean(0)) ** 2).sum()
    cov_a, cov_b = torch.cov(a), torch.cov(b)
    cross = torch.linalg.eigvals(cov_a @ cov_b).real.clamp(min=0).sqrt().sum()
    return float(mean + torch.trace(cov_a) + torch.trace(cov_b) - 2 * cross)


def _bits(logits):
    q = logits.softmax(-1)
    return (q * q.log2()).sum(-1).mean() + math.log2(logits.shape[-1])


def _all_right(kept, candidates, chosen):
    n = len(kept)
    prior = sum(not all(c) for c in candidates) / n
    rerank = sum(all(c) and not c[i] for c, i in zip(candidates, chosen, strict=True)) / n
    return kept.count(False) / n, prior, rerank


DIAGNOSED = [
    ("kl_to_uniform", "log₂", _bits),
    ("gumbel", "log₂", lambda u: -np.log2(-np.log2(u.numpy()))),
    ("psnr", "log₂", lambda x, y: 10 * math.log2(1 / F.mse_loss(x, y).item())),
    ("contrastive_loss", "In bits", lambda i, t, s: (lambda table: -(
        table.log_softmax(1) + table.log_softmax(0)).diag().mean() / 2 / math.log(2))(s * i @ t.T)),
    ("usage", "Base 2", lambda n: (float((n > 0).double().mean()), math.exp(
        -sum(p * math.log2(p) for p in (n / n.sum()).tolist() if p)))),
    ("top_p", "`gather`", _nucleus_by_gather),
    ("top_k", "`gather`", _top_k_by_gather),
    ("guide", "the wrong sign", lambda w, e, g: (1 + g) * e - g * w),
    ("fsq", "no gradient comes back", lambda h, n: torch.round(
        (n - 1) * torch.sigmoid(2 * h)) * 2 / (n - 1) - 1),
    ("fsq", "skips the tanh", lambda h, n: h + (good.fsq(h, n) - h).detach()),
    ("shows_held_out", "any, not all", lambda things, held: {
        (t.kind, t.colour) for t in things} <= held),
    ("lost_where", "`all` where `any`", _all_right),
    ("frechet", "transpose", _frechet_of_rows),
    ("causal_mask", "Numbers in place", lambda n: np.tri(n)),
    ("causal_mask", "must see itself", lambda n: np.tri(n, k=-1, dtype=bool)),
    ("place", "Row and column are swapped", lambda i, grid: np.unravel_index(
        i, (grid, grid))[::-1]),
    ("rank", "The worst comes first", lambda images, text: (images @ text).argsort().tolist()),
    ("joint_loss", "no word to divide by", lambda t, w, c, a: a * t[w].mean() + (1 - a) * c.mean()),
    ("mirror_sides", "whole words", lambda c: c.translate(str.maketrans("左右", "右左")).replace(
        "left", "\0").replace("right", "left").replace("\0", "right")),
    ("drop_units", "The wrong way round", lambda x, u, p, t: (
        torch.where(u < p, x / (1 - p), 0.0) if t else x)),
    ("adamw_step", "L2 in Adam", lambda w, g, lr, d: (lambda h: w - lr * h / (
        h.square().sqrt() + 1e-8))(g + d * w)),
    ("cross_attend", "one row per *word*", lambda x, h, wq, wk, wv: F.scaled_dot_product_attention(
        h @ wq, x @ wk, x @ wv)),
    ("encoder_mask", "mask keys, not queries", lambda w, c: (
        torch.outer(w, w).tril() if c else torch.outer(w, w))),
    ("context_mask", "BOS is missing", lambda t, v: torch.where(t < v, True, False)),
    ("prune_smallest", "the size |w|", lambda w, s: torch.where(
        w.flatten().argsort().argsort().view_as(w) < round(s * w.numel()), 0.0, w)),
    ("sharpen", "The power is 1/τ", lambda p, tau: torch.exp(p.log() * tau) / sum(p**tau)),
    ("total_variation", "Half of it", lambda p, q: 2 * good.total_variation(p, q)),
    ("balanced_weights", "The wrong way round", lambda groups: [
        groups.count(g) / sum(groups.count(h) for h in groups) for g in groups]),
    ("exposure", "a lower one", lambda nats, secret: math.log2(len(nats)) - math.log2(
        1 + sum(n > nats[secret].item() for n in nats.tolist()))),
    ("copies", "a copy is *nearer*", lambda drawn, training, fresh, share: torch.cdist(
        drawn, training).amin(1) > torch.cdist(fresh, training).amin(1).quantile(share)),
    ("wilson", "no width", lambda count, n, z: (lambda p, h: (p - h, p + h))(
        count / n, z * (count / n * (n - count) / n / n) ** 0.5)),
    ("fgsm", "makes the loss smaller", lambda x, g, e: torch.clamp(x + e * (-g).sign(), 0, 1)),
    ("retrieval", "A tie is no find", lambda s: np.mean(
        [bool(row[i] >= row.max()) for i, row in enumerate(s)])),
    ("gaussian_distance", "Variances are subtracted", lambda a, p, b, q: float(
        ((a - b) ** 2).sum() + (p**2 + q**2 - 2 * p * q).sum())),
    ("grow_tokens", "after the padding", lambda rows, vocab, merges: torch.cat([
        rows, good.grow_tokens(rows, vocab, merges)[vocab:vocab + len(merges)]])),
    ("stop_at", "the last look", lambda losses, p: (good.stop_at(losses, p)[1],) * 2),
    ("forgetting", "nothing is ever negative", lambda scores: [
        max(0.0, x) for x in good.forgetting(scores)]),
    ("masked_loss", "Visible codes are counted", lambda a, c, h: -a.log_softmax(-1)[
        torch.arange(len(c)), c].mean()),
    ("hidden_counts", "No strata", lambda offsets, cells: [
        int(np.ceil(np.cos(np.pi / 2 * u) * cells)) for u in offsets]),
    ("impossible_share", "the share of *pairs*", lambda p: float((p == 0).sum() / p.numel())),
    ("choose_cells", "Visible cells get a score of 0", lambda p, z, h, n: torch.zeros_like(
        h).scatter(0, torch.where(h, p + z, 0.0).topk(n).indices, True)),
    ("point_and_velocity", "runs the other way", lambda x, e, t: (
        good.point_and_velocity(e, x, t)[0], x - e)),
    ("guided_velocity", "The two are exchanged", lambda c, u, x, t, g: good.guided_velocity(
        u, c, x, t, g)),
    ("slerp", "from b to a", lambda a, b, share: good.slerp(a, b, 1 - share)),
    ("unpatch", "are scattered", lambda patches, p, columns: patches.view(
        -1, columns, 3, p, p).permute(2, 3, 0, 4, 1).reshape(3, -1, p * columns)),
]  # fmt: skip

"""For every exercise another right answer, written as somebody else would write it.

A check must not insist on one way: loops, other functions of PyTorch, other algebra.
"""

import math
import re
from collections import Counter
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F

from minidalle.world.captions import parse


# --- 01
def thing_holds(stated, seen):
    for part in ("kind", "colour", "size"):
        asked = getattr(stated, part)
        if asked is not None and asked != getattr(seen, part):
            return False
    return True


def best_colour(r, a, b):
    solved = torch.linalg.lstsq(a[:, None], (r - b).T).solution[0]
    return torch.stack([min(max(c, torch.tensor(0.0)), torch.tensor(255.0)) for c in solved])


def dice(d, p):
    return float(2 * sum(a * b for a, b in zip(d, p, strict=True)) / (sum(d**2) + sum(p**2)))


def same_facts(a, b):
    one, two = parse(a), parse(b)
    return (one.things, one.relation, one.place) == (two.things, two.relation, two.place)


def shows_held_out(things, held_out):
    return bool({(t.kind, t.colour) for t in things} & held_out)


# --- 02
def log_normal(x, mean, scale):
    return torch.distributions.Normal(mean, scale).log_prob(x)


def reparameterise(mean, ln_var, noise):
    return torch.addcmul(mean, torch.sqrt(torch.exp(ln_var)), noise)


def gaussian_kl(mu, ln_var):
    p = torch.distributions.Normal(torch.zeros_like(mu), 1.0)
    q = torch.distributions.Normal(mu, (ln_var / 2).exp())
    return torch.distributions.kl_divergence(q, p).sum(-1).mean(0)


def elbo(log_likelihood, kl, beta):
    return log_likelihood.mean() - beta * kl.mean()


# --- 03
def gumbel(u):
    return (1 / u).log().log().neg()


def gumbel_softmax(logits, noise, tau):
    y = logits / tau + noise / tau
    return torch.exp(y - y.logsumexp(-1, keepdim=True))


def straight_through(soft):
    hard = torch.zeros_like(soft).scatter(-1, soft.argmax(-1, keepdim=True), 1.0)
    return soft + (hard - soft).detach()


def kl_to_uniform(logits):
    q = logits.softmax(-1)
    uniform = torch.full_like(q, 1 / q.shape[-1])
    return F.kl_div(uniform.log(), q, reduction="batchmean")


def nearest_code(features, codebook):
    return torch.stack([((codebook - f) ** 2).sum(1).argmin() for f in features])


def usage(counts):
    p = (counts / counts.sum()).numpy()
    used = np.count_nonzero(p) / len(p)
    return used, float(np.prod([x**-x for x in p if x > 0]))


def fsq(features, levels):
    bounded = torch.tanh(features)
    nearest = torch.zeros_like(features)
    for i, n in enumerate(levels.tolist()):
        grid = torch.linspace(-1, 1, n)
        nearest[:, i] = grid[(bounded[:, i, None] - grid).abs().argmin(-1)]
    return bounded + (nearest - bounded).detach()


# --- 04
def to_unit(x):
    return torch.lerp(torch.full_like(x, 0.1), torch.full_like(x, 0.9), x)


def from_unit(y):
    return torch.minimum(torch.maximum(1.25 * y - 0.125, torch.zeros(())), torch.ones(()))


def logit_laplace_nll(x, mu, ln_b):
    laplace = torch.distributions.Laplace(mu, ln_b.exp())
    return -(laplace.log_prob(torch.logit(x)) - (x * (1 - x)).log())


def cosine(start, end, progress):
    t = np.clip(progress, 0, 1)
    return float((start + end) / 2 + (start - end) / 2 * np.cos(np.pi * t))


def kl_price(beta, factor):
    return beta * (1 / 3) * factor**-2


def psnr(x, y):
    return 10 * torch.log10(1 / F.mse_loss(x, y))


# --- 05
def count_pairs(words):
    counts = {}
    for word in words:
        for i in range(len(word) - 1):
            pair = (word[i], word[i + 1])
            counts[pair] = counts.get(pair, 0) + 1
    return counts


def replace_pair(ids, pair, new):
    out, i = [], 0
    while i < len(ids):
        if i + 1 < len(ids) and (ids[i], ids[i + 1]) == pair:
            out.append(new)
            i += 2
        else:
            out.append(ids[i])
            i += 1
    return out


def encode(ids, merges):
    ids = list(ids)
    while True:
        found = [merges.index(p) for p in pairwise(ids) if p in merges]
        if not found:
            return ids
        ids = replace_pair(ids, merges[min(found)], 256 + min(found))


def decode(ids, merges):
    def spell(i):
        return bytes([i]) if i < 256 else spell(merges[i - 256][0]) + spell(merges[i - 256][1])

    return b"".join(map(spell, ids)).decode("utf-8", errors="replace")


def pad(ids, length, vocab_size):
    row = list(ids[:length])
    while len(row) < length:
        row.append(vocab_size + len(row))
    return torch.LongTensor(row)


# --- 06
def attend(q, k, v, mask):
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def causal_mask(n):
    return torch.tensor([[j <= i for j in range(n)] for i in range(n)])


def _loop_mask(text, grid, near):
    n = text + grid * grid
    mask = torch.zeros(n, n, dtype=torch.bool)
    for i in range(n):
        for j in range(i + 1):
            mask[i, j] = j < text or near(divmod(i - text, grid), divmod(j - text, grid), i - j)
    return mask


def row_mask(text, grid):
    return _loop_mask(text, grid, lambda a, b, back: back <= grid)


def column_mask(text, grid):
    return _loop_mask(text, grid, lambda a, b, back: a[1] == b[1])


def convolutional_mask(text, grid, kernel):
    r = kernel // 2
    return _loop_mask(text, grid, lambda a, b, back: a[0] - b[0] <= r and abs(a[1] - b[1]) <= r)


def cache_step(q, k, v, keys, values):
    keys, values = torch.vstack([keys, k]), torch.vstack([values, v])
    return F.scaled_dot_product_attention(q[None], keys[None], values[None])[0]


# --- 07
def shift(stream, start):
    inputs = stream.roll(1)
    inputs[0] = start
    return inputs, stream.clone()


def place(i, grid):
    row = 0
    while i >= grid:
        i, row = i - grid, row + 1
    return row, i


def joint_loss(text_nll, is_word, code_nll, text_weight):
    text = text_nll[is_word].mean() if is_word.any() else torch.zeros(())
    return torch.lerp(code_nll.mean(), text, text_weight)


def block(x, attend, think, norm):
    for half in (attend, think):
        x = x + half(norm(x))
    return x


def count_parameters(width, layers):
    attention = 4 * width * width
    mlp = width * (4 * width) + (4 * width) * width
    return layers * (attention + mlp)


# --- 08
def learning_rate(step, steps, peak, warmup):
    rise = (step + 1) / warmup if step < warmup else 1.0
    return peak * rise * math.cos(math.pi * step / (2 * steps)) ** 2


def follow(mean, now, decay):
    return mean + (1 - decay) * (now - mean)


def clip_gradients(gradients, longest):
    copies = [torch.nn.Parameter(torch.zeros_like(g)) for g in gradients]
    for p, g in zip(copies, gradients, strict=True):
        p.grad = g.clone()
    torch.nn.utils.clip_grad_norm_(copies, longest)
    return [p.grad for p in copies]


def drop_captions(captions, draws, rate):
    out = list(captions)
    for i, u in enumerate(draws):
        if u < rate:
            out[i] = ""
    return out


# --- 09
def temper(logits, temperature):
    powers = logits.softmax(-1) ** (1 / temperature)
    return powers / powers.sum(-1, keepdim=True)


def top_k(logits, k):
    least = logits.topk(k).values[..., -1:]
    return torch.where(logits >= least, logits, -torch.inf)


def top_p(logits, p):
    rows = logits.clone().reshape(-1, logits.shape[-1])
    for row in rows:
        chances, total = row.softmax(0), 0.0
        for i in chances.argsort(descending=True).tolist():
            if total >= p:
                row[i] = -torch.inf
            total += chances[i].item()
    return rows.view_as(logits)


def guide(with_caption, empty, guidance):
    return torch.lerp(empty, with_caption, guidance)


def prime(codes, rows):
    return codes.flatten()[: rows * codes.shape[1]]


# --- 10
def patches(image, p):
    c, h, w = image.shape
    squares = image.view(c, h // p, p, w // p, p).permute(1, 3, 0, 2, 4)
    return squares.reshape(-1, c * p * p)


def cosines(a, b):
    return F.cosine_similarity(a[:, None], b[None], dim=-1)


def contrastive_loss(images, texts, scale):
    table = scale * images @ texts.T
    return -(table.log_softmax(1).diag() + table.log_softmax(0).diag()).mean() / 2


def retrieval(similarity):
    own = similarity.diagonal()
    others = similarity.clone().fill_diagonal_(-math.inf).amax(1)
    return np.mean((own > others).numpy())


# --- 11
def rank(images, text):
    scores = [float(image @ text) for image in images]
    return torch.tensor(sorted(range(len(scores)), key=lambda i: -scores[i]))


def best_of(scores, right, n):
    return sorted(zip(scores[:n], right[:n], strict=True))[-1][1]


def some_right(p, n):
    return sum(math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(1, n + 1))


def ordered(scores, right):
    total, pairs = 0.0, 0
    for s, r in zip(scores, right, strict=True):
        for t, q in zip(scores, right, strict=True):
            if r and not q:
                pairs += 1
                total += 1.0 if s > t else 0.5 if s == t else 0.0
    return total / pairs if pairs else float("nan")


# --- 12
def skill_shares(skills, right):
    asked, done = Counter(skills), Counter()
    for skill, is_right in zip(skills, right, strict=True):
        done[skill] += is_right
    return {skill: done[skill] / asked[skill] for skill in asked}


def standard_error(p, n):
    return math.sqrt(p - p * p) / math.sqrt(n)


def lost_where(kept, candidates, chosen):
    n = len(kept)
    dvae = kept.count(False) / n
    prior = sum(not any(c) for c in candidates) / n
    rerank = sum(any(c) and not c[i] for c, i in zip(candidates, chosen, strict=True)) / n
    return dvae, prior, rerank


def frechet(a, b):
    a, b = a.double(), b.double()
    mean = ((a.mean(0) - b.mean(0)) ** 2).sum()
    values, vectors = torch.linalg.eigh(torch.cov(a.T))
    root = vectors * values.clamp(min=0).sqrt()  # root @ root.T is the covariance
    cross = torch.linalg.eigvalsh(root.T @ torch.cov(b.T) @ root).clamp(min=0).sqrt().sum()
    return float(mean + torch.cov(a.T).trace() + torch.cov(b.T).trace() - 2 * cross)


def helped_or_hurt(before, after):
    changes = [int(a) - int(b) for b, a in zip(before, after, strict=True)]
    return changes.count(1), changes.count(-1)


# --- 13
def evidence(codes, free, num_codes):
    table = torch.full((codes.numel(), num_codes), -math.inf)
    for cell, (code, is_free) in enumerate(zip(codes.flatten(), free.flatten(), strict=True)):
        if is_free:
            table[cell] = 0
        else:
            table[cell, code] = 0
    return table


def repair_cell(square, looks, log_prior, sigma):
    channel = torch.distributions.Normal(looks, sigma)
    score = channel.log_prob(square).sum(-1) + log_prior
    return (score - score.logsumexp(0)).exp()


def blend(before, after, free, factor):
    mixed = before.clone()
    for row, column in free.nonzero().tolist():
        y, x = factor * row, factor * column
        mixed[y : y + factor, x : x + factor] = after[y : y + factor, x : x + factor]
    return mixed


def importance_weights(log_p, kept):
    score = log_p[:, kept].sum(1)
    return (score - score.logsumexp(0)).exp()


def caption_posterior(log_p, prior):
    score = torch.stack([row.sum() for row in log_p]).double() + prior.double().log()
    weights = (score - score.max()).exp()
    return (weights / weights.sum()).float()


def noise_level(squares, looks):
    left = [min(((s - look) ** 2).mean().item() for look in looks) for s in squares]
    return math.sqrt(np.median(left))


# --- 14
def concepts(n, twins):
    near = {i: {i} for i in range(n)}
    for i, j in twins:
        near[i].add(j)
        near[j].add(i)
    numbers = []
    for start in range(n):
        seen, waiting = {start}, [start]
        while waiting:
            new = near[waiting.pop()] - seen
            seen |= new
            waiting += new
        numbers.append(min(seen))
    return numbers


def stop_at(losses, patience):
    end = len(losses) - 1
    for look in range(patience, len(losses) if patience else 0):
        first = look + 1 - patience  # of the last `patience` looks
        if min(losses[first : look + 1]) >= min(losses[:first]):
            end = look
            break
    seen = losses[: end + 1]
    return seen.index(min(seen)), end


def grow_tokens(rows, vocab, merges):
    out = torch.zeros(len(rows) + len(merges), rows.shape[1])
    out[:vocab], out[vocab + len(merges) :] = rows[:vocab], rows[vocab:]
    for k, pair in enumerate(merges):
        out[vocab + k] = out[list(pair)].mean(0)
    return out


def gaussian_distance(mean_a, var_a, mean_b, var_b):
    total = 0.0
    for m, v, n, w in zip(*(x.tolist() for x in (mean_a, var_a, mean_b, var_b)), strict=True):
        total += (m - n) ** 2 + (v**0.5 - w**0.5) ** 2
    return total


def interval(values, picks, share):
    means = np.array([values.numpy()[row].mean() for row in picks.numpy()])
    return tuple(np.percentile(means, [50 - 50 * share, 50 + 50 * share]))


def forgetting(scores):
    table = np.array(scores)
    return list((table[:-1].max(0) - table[-1])[:-1])


# --- 15
def mirror_sides(caption):
    parts = re.split(r"(\bleft\b|\bright\b|左|右)", caption)
    sides = ["left", "right", "左", "右"]
    return "".join(sides[sides.index(p) ^ 1] if p in sides else p for p in parts)


def drop_units(x, u, rate, training):
    return torch.where(u < rate, 0.0, x / (1.0 - rate)) if training else 1.0 * x


def adamw_step(weight, gradient, lr, decay):
    direction = gradient / (gradient.square().sqrt() + 1e-8)
    return weight * (1 - lr * decay) - lr * direction


def prune_smallest(weight, share):
    kept = weight.numel() - round(share * weight.numel())
    flat = weight.flatten()
    at = flat.abs().topk(kept).indices
    return torch.zeros_like(flat).index_copy(0, at, flat[at]).reshape(weight.shape)


def fgsm(image, gradient, epsilon):
    up, down = (image + epsilon).clamp(max=1), (image - epsilon).clamp(min=0)
    return torch.where(gradient > 0, up, torch.where(gradient < 0, down, image))


# --- 16
def masked_loss(logits, codes, hidden):
    log_p = logits - logits.logsumexp(-1, keepdim=True)
    one_hot = F.one_hot(codes, logits.shape[-1])
    return -(log_p * one_hot)[hidden].sum() / hidden.sum()


def hidden_counts(offsets, cells):
    u = (np.arange(len(offsets)) + np.array(offsets)) / len(offsets)
    return [int(count) for count in np.ceil(np.cos(np.pi / 2 * u) * cells)]


def impossible_share(joint):
    total, (rows, columns) = 0.0, joint.shape
    for i in range(rows):
        for j in range(columns):
            if not joint[i, j]:
                total += joint[i].sum().item() * joint[:, j].sum().item()
    return total


def reveal_counts(cells, passes):
    drawn = []
    for t in range(1, passes + 1):
        hidden = int(cells * math.cos(math.pi / 2 * t / passes))
        drawn.append(max(1, cells - sum(drawn) - hidden))
    return drawn


def choose_cells(log_p, noise, hidden, count):
    where = hidden.nonzero()[:, 0]
    order = (log_p + noise)[where].argsort(descending=True)
    chosen = torch.zeros(len(hidden), dtype=torch.bool)
    chosen[where[order[:count]]] = True
    return chosen


def halton_cells(grid, count):
    def mirrored(i, base):
        return 0.0 if i == 0 else (i % base + mirrored(i // base, base)) / base

    found = dict.fromkeys(
        int(mirrored(i, 2) * grid) * grid + int(mirrored(i, 3) * grid) for i in range(50 * grid**2)
    )
    return list(found)[:count]


# --- 17
def cross_attend(x, h, wq, wk, wv):
    rows = []
    for query in x @ wq:
        scores = torch.stack([query.dot(key) for key in h @ wk]) / math.sqrt(len(query))
        rows.append(torch.einsum("c,cd->d", torch.softmax(scores, 0), h @ wv))
    return torch.stack(rows)


def context_mask(text, vocab_size):
    return F.pad(text, (1, 0), value=0) < vocab_size


def encoder_mask(is_word, causal):
    n = len(is_word)
    rows = [[bool(is_word[j]) and (j <= i or not causal) for j in range(n)] for i in range(n)]
    return torch.tensor(rows)


def same_bag(a, b):
    return Counter(a * len(b)) == Counter(b * len(a))


def count_matrices(width, encoder_layers, decoder_layers):
    attention, mlp = 4 * width * width, 2 * width * 4 * width
    return encoder_layers * (attention + mlp) + decoder_layers * (2 * attention + mlp)


def context_products(layers, width, context, steps, cached):
    total = 0
    for _ in range(1 if cached else steps):
        total += layers * context * (width * width + width * width)
    return total


# --- 18
def best_discriminator(x, real, fake):
    (m, s), (n, t) = real, fake
    odds_of_fake = ((x - m) / s) ** 2 / 2 - ((x - n) / t) ** 2 / 2 + math.log(s / t)
    return 1 / (1 + odds_of_fake.exp())


def generator_loss(scores):
    return F.binary_cross_entropy_with_logits(scores, torch.ones_like(scores))


def hinge_loss(real, fake):
    on_real = torch.where(real < 1, 1 - real, 0.0).sum() / len(real)
    return on_real + torch.where(fake > -1, 1 + fake, 0.0).sum() / len(fake)


def r1(score, weights, x):
    total = 0.0
    for picture in x:
        one = picture[None].clone().requires_grad_(True)
        (slope,) = torch.autograd.grad(score(weights, one)[0], one, create_graph=True)
        total = total + (slope * slope).sum() / 2
    return total / len(x)


def projection_score(features, captions, w, b):
    own = torch.einsum("bd,bd->b", features, captions) / math.sqrt(features.shape[-1])
    return torch.einsum("bd,d->b", features, w) + own + b


def agreement(readings):
    agree = 0
    for i, a in enumerate(readings):
        for j, b in enumerate(readings):
            agree += i != j and a is not None and a == b
    return agree / (len(readings) * (len(readings) - 1))


# --- 19
def point_and_velocity(x, noise, t):
    rows = [torch.lerp(e, one, s) for one, e, s in zip(x, noise, t, strict=True)]
    return torch.stack(rows), torch.sub(x, noise)


def flow_gaussian(noise, mean, std, steps):
    x = noise.double()
    for i in range(steps):
        t = i / steps
        slope = t * std.double() ** 2 / ((t * std.double()) ** 2 + (1 - t) ** 2)
        x = x + (mean + slope * (x - t * mean) - x) / (steps - i)
    return x.float()


def guided_velocity(cond, uncond, x_t, t, guidance):
    left = (1 - t).unsqueeze(1)
    return (1 - guidance) * (uncond - x_t) / left + guidance * (cond - x_t) / left


def adaptive_layer(x, weight, shift, scale, gate):
    centred = x - x.mean(-1, keepdim=True)
    normed = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    return torch.addcmul(x, gate, F.linear(normed + normed * scale + shift, weight))


def slerp(a, b, share):
    a, b = a / a.norm(), b / b.norm()
    angle = torch.acos((a @ b).double().clamp(-1, 1))
    if angle < 1e-3:
        return a
    return (((1 - share) * angle).sin() * a + (share * angle).sin() * b).float() / angle.sin()


def unpatch(patches, p, columns):
    blocks = [patch.view(3, p, p) for patch in patches]
    rows = [blocks[i : i + columns] for i in range(0, len(blocks), columns)]
    return torch.cat([torch.cat(row, dim=2) for row in rows], dim=1)


# --- 20
def sharpen(p, tau):
    logits = p.double().log() / tau
    return (logits - logits.logsumexp(0)).exp().float()


def total_variation(p, q):
    more = 0.0
    for name, share in p.items():
        more += max(0.0, share - q.get(name, 0.0))
    return more  # what p has more than q, q has more elsewhere


def balanced_weights(groups):
    names = sorted(set(groups))
    return [1 / len(names) / groups.count(group) for group in groups]


def exposure(nats, secret):
    ordered = sorted(nats.tolist())
    return math.log2(len(ordered)) - math.log2(1 + ordered.index(nats[secret].item()))


def copies(drawn, training, fresh, share):
    def near(rows):
        return torch.cdist(rows.double(), training.double()).min(1).values

    return near(drawn) < np.quantile(near(fresh).numpy(), share)


def wilson(count, n, z):
    # the two p at which the count lies z standard errors off: a quadratic equation
    a, b, c = n + z * z, -(2 * count + z * z), count * count / n
    root = math.sqrt(max(0.0, b * b - 4 * a * c))
    return (-b - root) / (2 * a), (-b + root) / (2 * a)

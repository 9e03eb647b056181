"""Faults that others shipped, or that are easily made, each as one change of one line.

(what goes wrong, module, the line as it is, the line with the fault, the tests that must notice)
"""

from typing import NamedTuple


class Fault(NamedTuple):
    """One planted fault."""

    name: str
    module: str
    right: str
    wrong: str
    tests: str  # files that are run against it, in tests/


A, P, T = "attention", "prior", "transformer"
Q, D, S = "quantize", "dvae", "sampling"
K, C, R = "tokenizer", "clip", "training/trainer"

FAULTS = [
    # --- attention and its masks
    Fault("the future is seen", A, "past = j <= i", "past = j <= i + 1", A),
    Fault("a code does not see itself", A, "past = j <= i", "past = j < i", A),
    Fault("a row one code short", A, "query - key <= grid", "query - key < grid", A),
    Fault("a row that is the whole picture", A, "query - key <= grid", "key <= query", A),
    Fault("columns mistaken for rows", A, "across == 0", "down == 0", A),
    Fault("a convolution that looks below", A,
          "(down <= kernel // 2) & (across.abs() <= kernel // 2)",
          "(down.abs() <= kernel) & (across.abs() <= kernel // 2)", A),
    Fault("a convolution that wraps around the edge", A, "across = query % grid - key % grid",
          "across = (query - key + grid // 2) % grid - grid // 2", A),
    Fault("text hidden from codes", A, "past & (near | (key < 0))", "past & near", A),
    Fault("the paper's order shifted by one", A, "(i - 2) % 4 == 0", "(i - 1) % 4 == 0", A),
    Fault("heads mixed up", A, '"b s (n m d) -> n b m s d"', '"b s (n d m) -> n b m s d"', A),
    Fault("keys and values swapped", A, "F.scaled_dot_product_attention(q, k, v,",
          "F.scaled_dot_product_attention(q, v, k,", A),
    Fault("no √d where weights are shown", A, "q @ k.mT / q.shape[-1] ** 0.5", "q @ k.mT", T),
    Fault("the cache forgets where it was", A, "self.length = end", "self.length += 1", A),
    Fault("candidates share one cache row in the wrong order", A,
          "self.keys = self.keys.repeat_interleave(n, 0)",
          "self.keys = self.keys.repeat(n, 1, 1, 1)", S),
    # --- the stack and the prior
    Fault("norm after the sum", T, "x = x + self.dropout(self.attention(self.norm_1(x), mask, "
          "cache))", "x = self.norm_1(x + self.dropout(self.attention(x, mask, cache)))", T),
    Fault("every layer has the mask of the first", T, "x = block(x, masks[i] if masks else None, "
          "caches", "x = block(x, masks[0] if masks else None, caches", T),
    Fault("a code predicts itself", P, "self.embed_codes(codes[:, :-1])",
          "self.embed_codes(codes[:, 1:])", P),
    Fault("text positions sliced off by one", P, "self.text_head(y[:, :t]), self.code_head(y[:, "
          "t:])", "self.text_head(y[:, 1 : t + 1]), self.code_head(y[:, t:])", P),
    Fault("text and picture weights swapped", P, "text_weight * text + (1 - text_weight) * image",
          "(1 - text_weight) * text + text_weight * image", P),
    Fault("padding is a target", P, "is_word = text < self.config.vocab_size",
          "is_word = text >= 0", P),
    Fault("rows mistaken for columns", P, "self.row(at // grid) + self.column(at % grid)",
          "self.row(at % grid) + self.column(at // grid)", P),
    Fault("one padding token for all positions", K, "torch.arange(self.vocab_size, self.vocab_size "
          "+ length)", "torch.full((length,), self.vocab_size)", K),
    Fault("a step continues one position late", P, "start = 1 + self.config.text_length + position",
          "start = 2 + self.config.text_length + position", P),
    # --- quantisers
    Fault("normal noise in place of Gumbel's", Q, "return u.clamp_(1e-20, 1 - 1e-7).log_().neg_()"
          ".log_().neg_()", "return u.normal_()", Q),
    Fault("Gumbel noise with its sign turned", Q, ".log_().neg_().log_().neg_()",
          ".log_().neg_().log_()", Q),
    Fault("temperature on the logits alone", Q, "(logits + gumbel_noise(logits, generator)) / tau",
          "logits / tau + gumbel_noise(logits, generator)", Q),
    Fault("straight-through without a gradient", Q, "return hard + (soft - soft.detach())",
          "return hard + (soft.detach() - soft.detach())", Q),
    Fault("a KL that is negative", Q, "kl = (q * log_q).sum(-1).mean() + math.log(",
          "kl = (q * log_q).sum(-1).mean() - math.log(", Q),
    Fault("a KL the wrong way round", Q, "kl = (q * log_q).sum(-1).mean() + math.log(logits.shape"
          "[-1])", "kl = -log_q.mean() - math.log(logits.shape[-1])", Q),
    Fault("a KL that grows with the batch", Q, "kl = (q * log_q).sum(-1).mean()",
          "kl = (q * log_q).sum(-1).mean((1, 2)).sum()", Q),
    Fault("entropy of each code in place of their mean", Q, "mean_q = q.mean((0, 1, 2))",
          "mean_q = q[0, 0, 0]", Q),
    Fault("VQ takes the farthest code", Q, ".argmin(-1)", ".argmax(-1)", Q),
    Fault("dead codes stay dead", Q, "dead = self.counts < 1 / 30", "dead = self.counts < 0", Q),
    # --- the dVAE
    Fault("densities averaged, not their logarithms", D,
          "nll = logit_laplace_nll(x, mu, ln_b).mean()",
          "nll = -(-logit_laplace_nll(x, mu, ln_b)).exp().mean().log()", D),
    Fault("the Jacobian of the sigmoid left out", D,
          "math.log(2) + ln_b + x.log() + (1 - x).log() +", "math.log(2) + ln_b +", D),
    Fault("b grows where it should shrink", D, "(torch.logit(x) - mu).abs() * (-ln_b).exp()",
          "(torch.logit(x) - mu).abs() * ln_b.exp()", D),
    Fault("pixels never mapped back", D, "return ((x - EPSILON) / (1 - 2 * EPSILON)).clamp(0, 1)",
          "return x.clamp(0, 1)", D),
    Fault("no KL in the loss", D, "(kl_weight - certainty_bonus) * z.kl",
          "(0 * kl_weight - certainty_bonus) * z.kl", D),
    Fault("β not divided by the subpixels of a code", D, "/ (3 * c.factor**2)", "/ 3", D),
    Fault("τ falls in a line", D, "0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, progress))))",
          "(1 - min(1.0, max(0.0, progress)))", D),
    Fault("β starts where it ends", D, "cosine(0.0, beta, progress / 0.1)",
          "cosine(beta, beta, progress / 0.1)", D),
    Fault("patches folded one way and unfolded another", D,
          '"b (c p q) h w -> b c (h p) (w q)"', '"b (c q p) h w -> b c (h p) (w q)"', D),
    # --- tokenizer
    Fault("pairs replaced twice in aaa", K, "out[-1] = new", "out.append(new)", K),
    Fault("the rarest pair is merged first", K, "heap = [(-count, pair)", "heap = [(count, pair)",
          K),
    Fault("a pair seen once is a pattern", K, "if -count < 2:", "if -count < 1:", K),
    Fault("merges applied in order of place", K, "for new, i in sorted(known):",
          "for new, i in known:", K),
    Fault("dropout does nothing", K, "if not dropout or uniform() >= dropout:", "if True:", K),
    Fault("captions not lower-cased", K, "caption = caption.lower()", "caption = caption", K),
    Fault("captions cut in silence", K, "warnings.warn(f", "str(f", K),
    # --- CLIP
    Fault("a one-sided loss", C, "CLIPLosses((rows + columns) / 2,", "CLIPLosses(rows,", C),
    Fault("a loss whose columns are rows", C, "F.cross_entropy(logits.T, target)",
          "F.cross_entropy(logits, target)", C),
    Fault("vectors of any length", C, "F.normalize(self.project(self.transformer(x)[:, 0]).float()"
          ", dim=-1)", "self.project(self.transformer(x)[:, 0]).float()", C),
    Fault("towers that know no places", C, "x + self.position]", "x + 0 * self.position]", C),
    Fault("the scale's gradient is cut at its ceiling", C,
          "return (self.logit_scale - over).exp()",
          "return self.logit_scale.clamp(max=math.log(self.config.max_scale)).exp()", C),
    Fault("the worst candidate first", C, "argsort(descending=True, stable=True)",
          "argsort(descending=False, stable=True)", C),
    # --- sampling and guidance
    Fault("top-k accepted and ignored", S, "if config.top_k is not None and", "if False and", S),
    Fault("top-p loses the code that crosses the mark", S, "before = p.cumsum(-1) - p",
          "before = p.cumsum(-1)", S),
    Fault("top-p on probabilities of another order", S, ".scatter(-1, order, ordered)",
          ".copy_(ordered)", S),
    Fault("temperature multiplies", S, "logits.float() / max(config.temperature, 1e-6)",
          "logits.float() * max(config.temperature, 1e-6)", S),
    Fault("guidance that does nothing", S, "without + config.guidance * (with_caption - without)",
          "with_caption", S),
    Fault("guidance the wrong way", S, "without + config.guidance * (with_caption - without)",
          "with_caption + config.guidance * (without - with_caption)", S),
    Fault("guidance on the first step only", S, "step = torch.cat([code, code]) if is_guided else "
          "code", "step = torch.cat([code, 0 * code]) if is_guided else code", S),
    Fault("all candidates share their luck", S, "torch.Generator().manual_seed((seed * 1_000_003 "
          "+ c) % 2**63)", "torch.Generator().manual_seed(seed)", S),
    Fault("the given codes are drawn over", S, "if position < given.shape[1]:",
          "if position + 1 < given.shape[1]:", S),
    # --- training and resume
    Fault("the same dice at every step", R, "config.seed * 1_000_003 + state.step",
          "config.seed * 1_000_003", R),
    Fault("gradients pile up", R, "model.zero_grad(set_to_none=True)", "pass", R),
    Fault("gradients are not clipped", R,
          "clip_grad_norm_(model.parameters(), config.max_grad_norm)",
          "clip_grad_norm_(model.parameters(), 1e9)", R),
    Fault("no warm-up", R, "rise = min(1.0, (step + 1) / max(1, config.warmup_steps))",
          "rise = 1.0", R),
    Fault("the optimiser's state is not restored", R,
          "set_optimizer_state_dict(self.model, self.optimizers, optimizer, options=FLAT)", "pass",
          R),
    Fault("the running mean is not restored", R, 'load_weights(self.ema, tensors["ema"]',
          'load_weights(self.ema, tensors["model"]', R),
    Fault("a resumed run starts again from step 0", R, 'self.step = metadata["step"]',
          "self.step = 0", R),
    Fault("the running mean does not move", R, "torch._foreach_lerp_(mean, now, 1 - decay)",
          "pass", R),
    Fault("a loss that is not finite is learnt from", R, "if not math.isfinite(value):",
          "if False:", R),
    Fault("norms and biases decay", R, '{"params": vectors, "weight_decay": 0.0}',
          '{"params": vectors}', R),
    # --- microbatches and rows
    Fault("a token weighs more in a microbatch with few of them", "training/objectives",
          "text_loss = losses.text * (share * n / len(rows))", "text_loss = losses.text",
          "training/run"),
    Fault("half of each process's rows is reconstructed, not of the batch", "training/objectives",
          "sum(row < config.batch_size // 2 for row in rows)", "len(images) // 2", "training/run"),
    Fault("colour jitter to the end", "training/objectives", "progress < colour_jitter",
          "progress <= 1", "training/run"),
    Fault("swapped pairs for ever", "training/objectives", "progress < SWAPS_ONLY_UNTIL",
          "progress <= 1", "training/run"),
    Fault("a microbatch takes the rows of another process", "training/distributed",
          "first = (rank() * accumulate + microbatch) * rows", "first = microbatch * rows",
          "training/run"),
    Fault("a held-out colour by colour jitter", "world/scenes",
          "if min(COLOURS, key=lambda name: math.dist(COLOURS[name], mixed)) == colour:",
          "if mixed:", "world/storybook"),
    # --- files
    Fault("a changed file is replaced", "files", "wrong = sorted(present - ours)",
          "wrong = list[str]()", "files"),
    Fault("a bundle with a file missing is replaced", "files",
          "sorted(listed.keys() - present)]", "[]]", "files"),
    Fault("a link to itself is followed", "files", "error.errno == errno.ELOOP", "False", "files"),
    Fault("a checkpoint is believed without its hash", "training/checkpoint",
          'UNSIGNED)).hexdigest() != header["sha256"]:', "UNSIGNED)).hexdigest() is None:",
          "training/checkpoint"),
    # --- runs and terminals
    Fault("a stage of another dVAE is accepted", "training/run",
          "if known.get(needed) != digest:", "if False:", "training/identity"),
    Fault("another preset is accepted", "training/identity",
          "if difference := _difference(known[1], sizes):",
          "if difference := None:", "training/identity"),
    Fault("a run without its record is anybody's", "training/identity",
          "_check_checkpoints(out, source, sizes)\n        try:", "try:", "training/identity"),
    Fault("weights that are not finite are accepted", "bundle",
          "if not value.isfinite().all():", "if False:", "hostile_bundle"),
    Fault("parts of different trainings are accepted", "bundle", "if ours != theirs:",
          "if False:", "hostile_bundle"),
    Fault("a config of absurd sizes is built", "errors", "not low <= number <= high",
          "number is None", "hostile_bundle"),
    # --- grading
    Fault("a crash takes the verdicts before it along", "lab/grading_runner",
          "self.report(cell=self.cell, verdicts=verdicts, interrupted=interrupted)",
          "self.report(cell=self.cell)", "lab/grading"),
    Fault("a verdict counts wherever it is shown", "lab/grading_runner",
          'task in tasks and f"check.{task}(" in cell.source', "task in tasks", "lab/grading"),
    Fault("what a notebook started in its own session is left", "lab/grading",
          "processes = marked_processes(folder)", "processes = []",
          "lab/grading"),
    Fault("the start of the kernel counts against the first cell", "lab/grading",
          'if state["cell"]:\n                limit', "if True:\n                limit",
          "lab/grading"),
    Fault("logits that are not finite are drawn from", "sampling",
          "if not logits.isfinite().all():", "if False:", "sampling"),
    Fault("a similarity that is not finite is ranked", "clip",
          "if not similarity.isfinite().all():", "if False:", "pipeline"),
    Fault("a bundle's text length is forgotten", "training/run", "**preset.models, **sizes}",
          "**preset.models}", "training/identity"),
    # --- captions and labels
    Fault("what CLIP alone cuts is not told", "pipeline", "if length < tokens <= prior:",
          "if False:", "pipeline"),
    Fault("captions are read as they were pasted", K, "caption = normalise_caption(caption)",
          "caption = caption.lower()", K),
    Fault("a word is cut before its marks", K, "(?:{LETTER}|[{EXTEND}]){{0,", "{LETTER}{{0,", K),
    Fault("a box counts as a glyph", "contact_sheet",
          "return (glyph.size, bytes(glyph)) != (notdef.size, bytes(notdef))", "return True",
          "contact_sheet"),
    Fault("pictures overwrite others", "pipeline", 'path.open("xb")', 'path.open("wb")',
          "pipeline"),
    # --- data
    Fault("--crop never reaches the pictures", "cli/train", 'crop=args.crop or "centre"',
          'crop="centre"', "cli/data_options"),
    Fault("--caption-column never reaches the pictures", "cli/train",
          "caption_column=args.caption_column", "caption_column=None", "cli/data_options"),
    Fault("what another process unpacks is swept", "datasets/archives", "if is_locked:\n "
          "                           _sweep(folder)", "if True:\n                            "
          "_sweep(folder)", "datasets/archives"),
    Fault("pictures are no part of the digest", "datasets/image_folder", "image.tobytes(), ",
          "", "datasets/folder_files"),
    Fault("of two columns the first is taken", "datasets/caption_files",
          "if len(filled) > 1:", "if False:", "datasets/captions"),
    Fault("a caption is guessed", "datasets/captions",
          "if len(files) > 1 or len({stem(name) for name in some}) > 1:", "if False:",
          "datasets/captions"),
]  # fmt: skip

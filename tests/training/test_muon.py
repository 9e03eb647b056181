"""Muon against torch's own, and against the definition of an orthogonal matrix."""

import pytest
import torch

from minidalle.training.muon import Muon, orthogonalised

SHAPES = [(6, 4), (4, 6), (5, 5), (6, 4)]


def test_muon_equals_torchs():
    """Catches a momentum without Nesterov, a rate that ignores the shape, and a lost decay."""
    torch.manual_seed(0)
    start = [torch.randn(shape) for shape in SHAPES]
    ours, theirs = ([w.clone().requires_grad_() for w in start] for _ in range(2))
    mine = Muon(ours, lr=0.1, weight_decay=0.3)
    other = torch.optim.Muon(theirs, lr=0.1, weight_decay=0.3)
    for _ in range(5):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        mine.step()
        other.step()
    for a, b, first in zip(ours, theirs, start, strict=True):
        moved = (b - first).norm()
        assert (a - b).norm() < 0.02 * moved  # torch computes in bfloat16


@pytest.mark.parametrize("shape", [(3, 8, 20), (2, 20, 8), (1, 9, 9)])
def test_orthogonalised_keeps_directions_and_levels_their_sizes(shape):
    torch.manual_seed(0)
    matrices = torch.randn(shape) * torch.logspace(0, -1, shape[1])[None, :, None]
    u, _, vh = torch.linalg.svd(matrices, full_matrices=False)
    made = orthogonalised(matrices)
    sizes = torch.linalg.svdvals(made)
    assert sizes.min() > 0.3 and sizes.max() < 1.3
    inner = u.mT @ made @ vh.mT  # diagonal, where the directions are the same
    off = inner - torch.diag_embed(inner.diagonal(dim1=1, dim2=2))
    assert off.abs().max() < 1e-3


def test_a_convolution_is_a_matrix_of_its_outputs():
    """Catches an update that is reshaped the wrong way."""
    torch.manual_seed(0)
    flat = torch.randn(4, 18).requires_grad_()
    conv = flat.detach().view(4, 2, 3, 3).clone().requires_grad_()
    flat.grad = torch.randn(4, 18)
    conv.grad = flat.grad.view(4, 2, 3, 3).clone()
    Muon([flat]).step()
    Muon([conv]).step()
    torch.testing.assert_close(conv.flatten(1), flat)


def test_a_parameter_without_gradient_stays():
    p, q = torch.ones(2, 2, requires_grad=True), torch.ones(2, 2, requires_grad=True)
    q.grad = torch.eye(2)
    Muon([p, q], weight_decay=0.5).step()
    assert torch.equal(p, torch.ones(2, 2)) and not torch.equal(q, torch.ones(2, 2))

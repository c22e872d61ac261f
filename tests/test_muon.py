import torch

from stockpot.learning.muon import Muon, orthogonal


def test_the_step_is_nearly_orthogonal():
    """U V^T by singular value decomposition is the oracle: the same vectors, values of 0.7 to 1.2."""
    matrix = torch.randn(20, 60, generator=torch.Generator().manual_seed(0))
    for m in (matrix, matrix.T):
        u, _, v = torch.linalg.svd(m, full_matrices=False)
        inner = u.T @ orthogonal(m, iterations=5) @ v.T
        values = inner.diagonal()
        assert values.min() > 0.6 and values.max() < 1.3
        assert (inner - values.diag()).abs().max() < 1e-4


def test_filters_keep_their_norm_and_go_downhill():
    """The norm is the square root of the number of filters but for the last step."""
    torch.manual_seed(0)
    filters = torch.nn.Parameter(torch.randn(8, 3, 3, 3))
    target = torch.randn(8, 3, 3, 3)
    optimizer = Muon([filters], lr=0.05)
    losses = []
    for _ in range(60):
        loss = -(filters * target).sum()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0] - 5
    assert abs(filters.norm().item() - 8**0.5) < 0.05 * 8**0.5 + 1e-3

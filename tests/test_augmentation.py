import pytest
import torch

from stockpot.learning.augmentation import seed_of, varied


@pytest.fixture
def photo() -> torch.Tensor:
    return torch.randint(0, 256, (32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", ["light", "strong"])
def test_a_seed_decides_the_picture(photo, kind):
    """The same one gives the same picture, others give others, all of the photo's size and type."""
    first = varied(photo, kind, 7)
    assert first.shape == photo.shape and first.dtype == torch.uint8
    assert torch.equal(first, varied(photo, kind, 7))
    assert len({varied(photo, kind, seed).numpy().tobytes() for seed in range(10)}) >= 8


def test_none_is_the_photo(photo):
    """Nothing is varied where nothing was asked for."""
    assert torch.equal(varied(photo, "none", 7), photo)


def test_nobody_elses_chance_is_touched(photo):
    """Random numbers outside come as if no photo had been varied."""
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    varied(photo, "strong", 7)
    assert torch.equal(torch.rand(1), expected)


def test_seeds_of_neighbours_differ():
    """Every photo of every epoch has a seed of its own."""
    assert len({seed_of(s, e, row) for s in range(3) for e in range(20) for row in range(500)}) == 30_000

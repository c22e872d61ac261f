from pathlib import Path

import numpy as np
import pytest
import torch

from stockpot.learning.prefixes import Variation, cached_views, missing_views
from stockpot.photos.photo import Photo
from stockpot.project import create_project


class Counting:
    """An engine whose maps are the photo's colors; it can be made to break."""

    def __init__(self, breaks_after: int = 10**9) -> None:
        self.left = breaks_after
        self.seen = 0

    at_once = 4

    def run(self, pixels):
        """As `Engine.run`."""
        if self.left < len(pixels):
            raise KeyboardInterrupt
        self.left -= len(pixels)
        self.seen += len(pixels)
        maps = pixels.transpose(0, 3, 1, 2).astype(np.float32)
        return maps.mean(axis=(2, 3)), maps


@pytest.fixture
def photos():
    pixels = torch.randint(0, 256, (70, 8, 8, 3), dtype=torch.uint8)
    return [Photo(Path(f"{i}.jpg"), "a", f"{i:064x}", 8, 8, str(i)) for i in range(70)], pixels


THREE = Variation("light", 3, 0)


def views(project, photos, engine, variation=THREE):
    return cached_views(project, *photos, variation, "key", lambda: engine)


def test_the_first_view_is_the_photo(tmp_path, photos):
    """Further ones differ from it and from each other."""
    maps = views(create_project(tmp_path / "p"), photos, Counting()).maps
    assert maps.shape == (70, 3, 3, 8, 8)
    assert np.array_equal(maps[:, 0], photos[1].permute(0, 3, 1, 2).numpy())
    assert not np.array_equal(maps[:, 1], maps[:, 0]) and not np.array_equal(maps[:, 1], maps[:, 2])


def test_what_was_computed_before_a_kill_is_kept(tmp_path, photos):
    """It goes on where it was made to last, and ends with the same bits; then nothing is computed."""
    undisturbed = views(create_project(tmp_path / "whole"), photos, Counting()).maps
    project = create_project(tmp_path / "p")
    with pytest.raises(KeyboardInterrupt):
        views(project, photos, Counting(breaks_after=150))
    assert missing_views(project, photos[0], THREE, "key") == 210 - 128
    rest = Counting()
    again = views(project, photos, rest)
    assert rest.seen == 210 - 128
    assert missing_views(project, photos[0], THREE, "key") == 0
    assert np.array_equal(again.maps, undisturbed)
    idle = Counting()
    views(project, photos, idle)
    assert idle.seen == 0
    again.delete()
    assert not again.folder.exists()


def test_a_file_that_was_cut_is_computed_again(tmp_path, photos):
    """What the journal names and the file does not hold does not count."""
    project = create_project(tmp_path / "p")
    whole = views(project, photos, Counting())
    expected = whole.maps.copy()
    with (whole.folder / "views.f16").open("rb+") as file:
        file.truncate(expected[0, 0].nbytes * 100)
    rest = Counting()
    assert np.array_equal(views(project, photos, rest).maps, expected)
    assert rest.seen == 110


def test_another_seed_is_another_file(tmp_path, photos):
    """Neither seed, nor kind, nor count is taken for another."""
    project = create_project(tmp_path / "p")
    folders = {
        views(project, photos, Counting(), Variation(*variation)).folder
        for variation in (("light", 3, 0), ("light", 3, 1), ("strong", 3, 0), ("light", 2, 0))
    }
    assert len(folders) == 4

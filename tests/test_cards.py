import base64
import io

import numpy as np
import pytest
from PIL import Image

from stockpot.curation.findings import Finding, keep_findings
from stockpot.explanation.channels import Channels
from stockpot.explanation.selection import explain_run
from stockpot.photos.preprocessing import Preprocessing
from stockpot.project import create_project, open_project
from stockpot.reporting.cards import describe_chain, mistake_card
from stockpot.reporting.readings import texts


def picture(url: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(url.split(",")[1])))


class Explained:
    """Three channels whose sums can be done in one's head, as a photo's explanation gives them."""

    residual = 0.0

    def __init__(self, photo):
        self.photo = photo

    def channels(self) -> Channels:
        """As `Explanation.channels`."""
        maps = np.array([[[4, 0], [0, 0]], [[0, 8], [0, 0]], [[1, 1], [1, 1]]], np.float32)
        weight = np.array([1, -2, 0.5], np.float32)
        return Channels("cat", maps, weight, 0.25, self.photo, Preprocessing(64, (0, 0, 0), (1, 1, 1)))


def test_the_chain_says_what_channels_add(solar):
    """By hand: 1, -4 and 0.5; one speaks against the class, and it alone is more than half of all."""
    chain = describe_chain(Explained(solar.split.validation[0].path), 4.0, texts("en"))
    assert chain["reading"].startswith("1 of 3 channels speak against cat. Half of all")
    assert "comes from 1 channels" in chain["reading"] and "the logit -2.25" in chain["reading"]
    captions = [caption for _, caption in chain["strongest"]]
    assert captions[0] == "channel 1: weight -2.000, adds -4.000"
    assert not chain["arbitrary"], "three are all strongest"
    assert [caption for _, caption in chain["steps"]] == [
        "1 of 3: logit -3.75",
        "3 of 3: logit -2.25",
    ]
    tile = np.asarray(picture(chain["strongest"][0][0]))
    assert tile.tolist() == [[0, 255], [0, 0]]


@pytest.mark.parametrize(("rule", "says"), [("wrong label", True), ("off topic", True), ("blank", False)])
def test_a_mistake_shows_both_classes(solar, tmp_path, rule, says):
    """Six pictures; what curation said of the photo by looking at predictions, and nothing else."""
    mistake = explain_run(open_project(solar.project), solar.run, solar.split).mistakes[0]
    other = create_project(tmp_path / "other")
    keep_findings(other, [Finding(mistake.photo.path, mistake.photo.sha256, rule, "looks like a dog", 0.9)])
    shown = mistake_card(other, mistake, 2.0)
    names = ("photo", "predicted_map", "truth_map", "difference", "like_predicted", "like_truth")
    assert len({shown[name] for name in names}) == 6
    assert all(max(picture(shown[name]).size) == 192 for name in names)
    assert shown["doubts"] == (["looks like a dog"] if says else [])

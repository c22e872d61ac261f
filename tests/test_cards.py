import base64
import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from stockpot.curation.findings import Finding, keep_findings
from stockpot.explanation.channels import Channels
from stockpot.explanation.explanation import Explanation
from stockpot.explanation.selection import explain_run
from stockpot.photos.preprocessing import Preprocessing
from stockpot.project import create_project, open_project
from stockpot.reporting.cards import (
    channel_tiles,
    mistake_maps,
    mistake_photos,
    read_channels,
    running_sum,
)
from stockpot.reporting.pictures import Album
from stockpot.reporting.texts import texts


def picture(url: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(url.split(",")[1])))


def test_the_chain_says_what_channels_add(solar):
    """By hand: 1, -4 and 0.5; one speaks against the class, and it alone is more than half of all."""
    maps = np.array([[[4, 0], [0, 0]], [[0, 8], [0, 0]], [[1, 1], [1, 1]]], np.float32)
    weight = np.array([1, -2, 0.5], np.float32)
    photo = solar.split.validation[0].path
    channels = Channels("cat", maps, weight, 0.25, photo, Preprocessing(64, (0, 0, 0), (1, 1, 1)))
    reading = read_channels(channels, 0.0, texts("en"))
    assert reading.startswith("1 of 3 channels speak against cat. Half of all")
    assert "comes from 1 channel (" in reading and "the logit -2.25" in reading
    strongest, arbitrary = channel_tiles(channels, texts("en"))
    assert strongest[0][1] == "channel 1: weight -2.000, adds -4.000"
    assert not arbitrary, "three are all strongest"
    steps = running_sum(channels, 4.0, texts("en"))
    assert [caption for _, caption in steps] == ["1 of 3: logit -3.75", "3 of 3: logit -2.25"]
    assert np.asarray(picture(strongest[0][0].url)).tolist() == [[0, 255], [0, 0]]


def with_threshold(one: Explanation, threshold: float) -> Explanation:
    """The same explanation by a model that says no from another distance on."""
    rejection = replace(one.model.rejection, threshold=threshold)
    return replace(one, model=replace(one.model, rejection=rejection))


@pytest.mark.parametrize(("rule", "says"), [("wrong label", True), ("off topic", True), ("blank", False)])
def test_a_mistake_shows_both_classes(solar, tmp_path, rule, says):
    """Six pictures; what curation said of the photo by looking at predictions, and nothing else."""
    mistake = explain_run(open_project(solar.project), solar.run, solar.split).mistakes[0]
    mistake = replace(mistake, explanation=with_threshold(mistake.explanation, 2.0))
    other = create_project(tmp_path / "other")
    keep_findings(other, [Finding(mistake.photo.path, mistake.photo.sha256, rule, "looks like a dog", 0.9)])
    album, say = Album(), texts("en")
    photos = mistake_photos(other, mistake, album, say)
    maps = mistake_maps(mistake, 2.0, album, say)
    urls = [figure.url for figure, _ in photos["figures"] + maps["figures"]]
    assert len(urls) == 7 and len(set(urls)) == 6, "the photo itself stands in both"
    assert len(album.photos) == 3 and all(max(one.width, one.height) == 192 for one in album.photos.values())
    assert maps["anchor"] == photos["link"][0]
    doubts = ["Look at its label: when it was curated, this photo looks like a dog."]
    assert photos["lines"][1:] == (doubts if says else [])
    strange = replace(mistake, explanation=with_threshold(mistake.explanation, 0.0))
    assert mistake_photos(other, strange, album, say)["lines"][1] == "The model says: none of these."

"""Explained photos as the report shows them: the way from channels to a map, and mistakes with both their maps."""

from typing import Any

import numpy as np

from stockpot.curation.findings import read_reasons
from stockpot.explanation.channels import Channels
from stockpot.explanation.explanation import Explanation
from stockpot.explanation.mistakes import Mistake
from stockpot.photos.photo import Photo, short_name
from stockpot.project import Project
from stockpot.reporting.blocks import Figure
from stockpot.reporting.pictures import THUMBNAIL, Album, jpeg, png
from stockpot.reporting.texts import Texts

STRONGEST, ARBITRARY = 12, 6  # channels shown


def predicted_figure(explanation: Explanation, album: Album, say: Texts) -> Figure:
    """Return a photo, and what it was classified as."""
    sure = say("maps.predicted", label=explanation.predicted, probability=explanation.probability)
    return album.add(explanation.photo), sure


def map_figure(explanation: Explanation, scale: float, say: Texts) -> Figure:
    """Return the map of the class that a photo was given, on the photo."""
    overlay = jpeg(explanation.overlay(None, scale, THUMBNAIL))
    return overlay, say("maps.predicted", label=explanation.predicted, probability=explanation.probability)


def mistake_anchor(photo: Photo) -> str:
    """Return the name of the place where a wrongly classified photo is shown."""
    return f"mistake-{photo.sha256[:12]}"


def mistake_photos(project: Project, mistake: Mistake, album: Album, say: Texts) -> dict[str, Any]:
    """Return a wrongly classified photo beside the nearest training photos of both classes."""
    wrong = mistake.explanation
    return {
        "anchor": mistake_anchor(mistake.photo),
        "title": say("mistakes.title", truth=wrong.truth, predicted=wrong.predicted),
        "figures": [
            (album.add(wrong.photo), short_name(wrong.photo)),
            (album.add(mistake.like_predicted.path), say("mistakes.nearest", label=wrong.predicted)),
            (album.add(mistake.like_truth.path), say("mistakes.nearest", label=wrong.truth)),
        ],
        "lines": [
            say("mistakes.sure", **_sure(wrong)),
            *([say("mistakes.none_of_these")] if wrong.none_of_these else []),
            *(say("mistakes.doubt", reason=reason) for reason in read_reasons(project, mistake.photo)),
        ],
        "link": (f"{mistake_anchor(mistake.photo)}-maps", say("mistakes.to_maps")),
    }


def mistake_maps(mistake: Mistake, scale: float, album: Album, say: Texts) -> dict[str, Any]:
    """Return a wrongly classified photo beside the maps of both classes and their difference."""
    wrong = mistake.explanation
    sure = _sure(wrong)
    shown = {
        say("mistakes.predicted", label=wrong.predicted, probability=wrong.probability): (None, None),
        say("mistakes.truth", label=wrong.truth, probability=sure["truth_probability"]): (wrong.truth, None),
        say("mistakes.difference", label=wrong.predicted, truth=wrong.truth): (None, wrong.truth),
    }
    maps = [
        (jpeg(wrong.overlay(label, scale, THUMBNAIL, rather_than)), caption)
        for caption, (label, rather_than) in shown.items()
    ]
    return {
        "anchor": f"{mistake_anchor(mistake.photo)}-maps",
        "title": say("mistakes.title", truth=wrong.truth, predicted=wrong.predicted),
        "figures": [(album.add(wrong.photo), short_name(wrong.photo)), *maps],
        "lines": [],
        "link": None,
    }


def _sure(wrong: Explanation) -> dict[str, Any]:
    """Return both classes with their probabilities."""
    probabilities = dict(zip(wrong.class_names, wrong.probabilities, strict=True))
    return {
        "predicted": wrong.predicted,
        "probability": wrong.probability,
        "truth": wrong.truth,
        "truth_probability": float(probabilities[wrong.truth]),
    }


def channel_tiles(channels: Channels, say: Texts) -> tuple[list[Figure], list[Figure]]:
    """Return the strongest channels and arbitrary ones: their activations, weights, and what they add."""
    strongest, arbitrary = channels.strongest(STRONGEST), arbitrary_channels(channels)
    return _tiles(channels, strongest, say), _tiles(channels, arbitrary, say)


def _tiles(channels: Channels, numbers: list[int], say: Texts) -> list[Figure]:
    """Return channels on a scale of their own, white the highest activation of them."""
    if not numbers:
        return []
    tiles = channels.tiles(numbers, pixels=channels.maps.shape[-1])
    return [
        (
            png(tile, pixelated=True),
            say(
                "channels.tile",
                channel=str(c),
                weight=float(channels.weight[c]),
                adds=float(channels.contributions[c]),
            ),
        )
        for tile, c in zip(tiles, numbers, strict=True)
    ]


def arbitrary_channels(channels: Channels) -> list[int]:
    """Return the numbers of some channels that are not among the strongest shown."""
    return channels.arbitrary(ARBITRARY, but=STRONGEST)


def running_sum(channels: Channels, scale: float, say: Texts) -> list[Figure]:
    """Return the sum of channel times weight on the photo, after more and more channels."""
    steps = zip(channels.running_overlays(scale, THUMBNAIL), channels.counts, strict=True)
    every = len(channels.weight)
    return [
        (jpeg(overlay), say("channels.step", count=count, all=every, logit=channels.running_logit(count)))
        for overlay, count in steps
    ]


def read_channels(channels: Channels, residual: float, say: Texts) -> str:
    """Say how many channels speak against the class, and how few make up half of the logit."""
    sizes = np.abs(channels.contributions[channels.order])
    half = int(np.searchsorted(sizes.cumsum(), sizes.sum() / 2)) + 1
    return say(
        "channels.reading",
        label=channels.label,
        against=int((channels.contributions < 0).sum()),
        count=len(sizes),
        half=half,
        share=half / len(sizes),
        bias=channels.bias,
        logit=channels.logit,
        residual=residual,
    )

"""Explained photos as the report shows them: a right one, a mistake, and the way from channels to a map."""

from typing import Any

import numpy as np

from stockpot.curation.findings import read_reasons
from stockpot.explanation.explanation import Explanation
from stockpot.explanation.mistakes import Mistake
from stockpot.photos.photo import short_name
from stockpot.photos.pixels import thumbnail
from stockpot.project import Project
from stockpot.reporting.pictures import jpeg_url, png_url
from stockpot.reporting.readings import Say, percent

THUMBNAIL = 192  # pixels, long side
STRONGEST, ARBITRARY = 12, 6  # channels shown


def card(explanation: Explanation, scale: float) -> dict[str, Any]:
    """Return a photo, the map of the class it was given, and how sure the model was."""
    return {
        "name": short_name(explanation.photo),
        "photo": jpeg_url(thumbnail(explanation.photo, THUMBNAIL)),
        "predicted": explanation.predicted,
        "probability": percent(explanation.probability),
        "predicted_map": jpeg_url(explanation.overlay(None, scale, THUMBNAIL)),
    }


def mistake_card(project: Project, mistake: Mistake, scale: float) -> dict[str, Any]:
    """Return what a card has, and the true class beside it: map, difference, nearest training photos of both."""
    wrong = mistake.explanation
    probabilities = dict(zip(wrong.class_names, wrong.probabilities, strict=True))
    return card(wrong, scale) | {
        "doubts": read_reasons(project, mistake.photo),
        "truth": wrong.truth,
        "truth_probability": percent(float(probabilities[wrong.truth])),
        "truth_map": jpeg_url(wrong.overlay(wrong.truth, scale, THUMBNAIL)),
        "difference": jpeg_url(wrong.overlay(None, scale, THUMBNAIL, rather_than=wrong.truth)),
        "like_predicted": jpeg_url(thumbnail(mistake.like_predicted.path, THUMBNAIL)),
        "like_truth": jpeg_url(thumbnail(mistake.like_truth.path, THUMBNAIL)),
    }


def describe_chain(explanation: Explanation, scale: float, say: Say) -> dict[str, Any]:
    """Return pictures and sentences: single channels, then their sum after more and more of them.

    Args:
        explanation: of the photo.
        scale: of the report's maps, in logit units.
        say: the sentences.
    """
    channels = explanation.channels()
    strongest, arbitrary = channels.strongest(STRONGEST), channels.arbitrary(ARBITRARY, but=STRONGEST)
    cells = channels.maps.shape[-1]
    tiles = [png_url(tile) for tile in channels.tiles(strongest + arbitrary, pixels=cells)]
    captions = [
        say("channels.tile", channel=c, weight=f"{channels.weight[c]:+.3f}", adds=f"{share:+.3f}")
        for c, share in ((c, channels.contributions[c]) for c in strongest + arbitrary)
    ]
    shown = list(zip(tiles, captions, strict=True))
    steps = []
    for overlay, count in zip(channels.running_overlays(scale, THUMBNAIL), channels.counts, strict=True):
        logit = f"{channels.running_logit(count):+.2f}"
        steps.append(
            (
                jpeg_url(overlay),
                say("channels.step", count=f"{count:,}", all=f"{len(channels.weight):,}", logit=logit),
            )
        )
    against = int((channels.contributions < 0).sum())
    sizes = np.abs(channels.contributions[channels.order])
    half = int(np.searchsorted(sizes.cumsum(), sizes.sum() / 2)) + 1
    return {
        "how": say(
            "channels.how",
            photo=short_name(explanation.photo),
            label=channels.label,
            count=f"{len(sizes):,}",
            cells=cells,
        ),
        "strongest": shown[: len(strongest)],
        "arbitrary": shown[len(strongest) :],
        "steps": steps,
        "reading": say(
            "channels.reading",
            label=channels.label,
            against=f"{against:,}",
            count=f"{len(sizes):,}",
            half=f"{half:,}",
            share=percent(half / len(sizes)),
            bias=f"{channels.bias:+.3f}",
            logit=f"{channels.logit:+.2f}",
            residual=f"{explanation.residual:.1e}",
        ),
    }

"""Points 6 to 9 of the lab sheet: photos, the channels and maps behind their classes, and mistakes."""

from dataclasses import asdict

from stockpot.explanation.channels import Channels
from stockpot.explanation.explanation import Explanation
from stockpot.model.overlay import color_bar
from stockpot.photos.photo import short_name
from stockpot.reporting.blocks import Block, Blocks, cards, code, heading, pairs, pictures, text
from stockpot.reporting.calls import explaining_calls
from stockpot.reporting.cards import (
    STRONGEST,
    arbitrary_channels,
    channel_tiles,
    map_figure,
    mistake_maps,
    mistake_photos,
    predicted_figure,
    read_channels,
    running_sum,
)
from stockpot.reporting.material import Material
from stockpot.reporting.pictures import Album, png
from stockpot.reporting.readings import read_map
from stockpot.reporting.texts import Texts


def map_points(material: Material, album: Album, say: Texts) -> dict[str, Blocks]:
    """Return what stands below the points on maps."""
    correct, mistakes = material.selection.correct, material.selection.mistakes
    first = correct[0] if correct else mistakes[0].explanation
    return {
        "6": _correct(material, album, say),
        **_inside(first, material, album, say),
        "8": _maps(material, album, say),
        **_mistakes(material, album, say),
    }


def _correct(material: Material, album: Album, say: Texts) -> Blocks:
    correct = material.selection.correct
    if not correct:
        return [text(say("maps.correct_none"))]
    right = material.run.evaluation.n - len(material.selection.mistakes)
    return [
        text(say("maps.correct", count=len(correct), right=right)),
        pictures((predicted_figure(one, album, say) for one in correct), "large"),
    ]


def _inside(first: Explanation, material: Material, album: Album, say: Texts) -> dict[str, Blocks]:
    """Return the whole way from the channels of one photo to its map."""
    channels = first.channels()
    file = f"{material.name}/{first.photo.relative_to(material.project.folder).as_posix()}"
    look, add = explaining_calls(material.run.name, material.name, file)
    strongest, arbitrary = channel_tiles(channels, say)
    count, cells = len(channels.weight), str(channels.maps.shape[-1])
    values = {"label": channels.label, "count": count, "cells": cells}
    others = [heading(_title("arbitrary", channels, say)), pictures(arbitrary)] if arbitrary else []
    return {
        "7": [
            text(
                say(
                    f"channels.{'first' if material.selection.correct else 'first_mistake'}",
                    photo=short_name(first.photo),
                )
            ),
            pictures([predicted_figure(first, album, say)], "large"),
        ],
        "7.1": [
            text(say("channels.how", **values)),
            code(look),
            heading(_title("strongest", channels, say)),
            pictures(strongest),
            *others,
        ],
        "7.2": [
            text(say("channels.sum", **values)),
            code(add),
            text(say("channels.steps", counts=", ".join(f"{count}" for count in channels.counts[:-1]))),
            _legend(material, say),
            pictures(running_sum(channels, material.scale, say), "large"),
            text(read_channels(channels, first.residual, say)),
        ],
        "7.3": [
            pairs([(predicted_figure(first, album, say), map_figure(first, material.scale, say))]),
            text(read_map(first, say)),
            text(_covers(first, say), "quiet"),
        ],
    }


def _title(which: str, channels: Channels, say: Texts) -> str:
    """Return what channels are shown, and which activation is white."""
    numbers = channels.strongest(STRONGEST) if which == "strongest" else arbitrary_channels(channels)
    return say(f"channels.{which}", highest=float(channels.maps[numbers].max()))


def _covers(explanation: Explanation, say: Texts) -> str:
    resize, cells = explanation.model.preprocessing.resize, str(explanation.cam.shape[-1])
    return say("maps.covers", part=say(f"maps.covers_{resize}"), cells=cells)


def _maps(material: Material, album: Album, say: Texts) -> Blocks:
    correct = material.selection.correct
    if not correct:
        return [text(say("maps.correct_none"))]
    both = [(predicted_figure(one, album, say), map_figure(one, material.scale, say)) for one in correct]
    return [text(f"{say('maps.how')} {say('maps.limits')}"), _legend(material, say), pairs(both)]


def _mistakes(material: Material, album: Album, say: Texts) -> dict[str, Blocks]:
    mistakes, n = material.selection.mistakes, material.run.evaluation.n
    shown = material.mistakes
    if not mistakes:
        none = [text(say("mistakes.none", n=n))]
        return {"9": none, "9.1": none, "9.2": none}
    return {
        "9": [text(say("mistakes.count", mistakes=len(mistakes), n=n, shown=len(shown)))],
        "9.1": [
            text(say("mistakes.typical")),
            *_seen_by_a_person(material, say),
            cards(mistake_photos(material.project, one, album, say) for one in shown),
        ],
        "9.2": [
            text(say("mistakes.maps")),
            _legend(material, say),
            cards(mistake_maps(one, material.scale, album, say) for one in shown),
        ],
    }


def _seen_by_a_person(material: Material, say: Texts) -> Blocks:
    """Return what a person saw in the mistakes without their labels, if anybody looked."""
    blind = material.blind
    if not blind.answered:
        return []
    return [text(say("mistakes.blind", **asdict(blind)))]


def _legend(material: Material, say: Texts) -> Block:
    """Return the scale of all maps."""
    scale = material.scale
    ends = (say("maps.below", scale=-scale), "0", say("maps.above", scale=scale))
    bar = png(color_bar(scale, width=64, height=4))
    return Block("legend", {"bar": bar, "ends": ends, "label": say("maps.legend")})

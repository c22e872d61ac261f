"""What a report says of how far maps can be believed, and of what the model goes by."""

from stockpot.explanation.faithfulness import Gain
from stockpot.explanation.shortcuts import Share, Shortcuts
from stockpot.reporting.blocks import Block, Blocks, code, table, text
from stockpot.reporting.material import Material
from stockpot.reporting.texts import Texts


def believe(material: Material, say: Texts) -> Blocks:
    """Return whether maps show what the model uses, measured."""
    found = material.faithfulness
    if found is None:
        return [text(say("belief.few", n=material.run.evaluation.n))]
    over_random = min(found.deletion.interval[0], found.insertion.interval[0]) > 0
    over_permuted = (
        min(found.over_permuted_deletion.interval[0], found.over_permuted_insertion.interval[0]) > 0
    )
    answer = "no" if not over_random else "yes" if over_permuted else "half"
    rows = [
        (say("belief.by_map"), _gain(found.deletion, say), _gain(found.insertion, say)),
        (
            say("belief.by_permuted"),
            _gain(found.permuted_deletion, say),
            _gain(found.permuted_insertion, say),
        ),
    ]
    return [
        text(say("belief.how")),
        table([say("belief.order"), say("belief.deletion"), say("belief.insertion")], rows),
        text(say(f"belief.{answer}", n=found.n)),
        code(
            f'stockpot.measure_faithfulness({material.name + "/runs/" + material.run.name!r}, photos, by="cells")'
        ),
    ]


def _gain(gain: Gain, say: Texts) -> str:
    low, high = gain.interval
    return say("belief.gain", mean=gain.mean, low=low, high=high)


def look_for(material: Material, say: Texts) -> Blocks:
    """Return whether the model seems to go by a place rather than by what photos show."""
    found = material.shortcuts
    if found is None:
        return [text(say("shortcuts.single"))]
    warnings = [
        text(
            say(
                "shortcuts.suspect",
                label=one.label,
                place=_place(one, say),
                evidence=one.evidence,
                area=one.area,
                right=one.right,
                without=one.right_without,
                n=one.n,
            ),
            "bad",
        )
        for one in found.suspects
    ]
    warnings += [text(say("shortcuts.border_suffices"), "bad")] if found.border_suffices else []
    return [
        text(say("shortcuts.how")),
        _shares(found, say),
        *(warnings or [text(say("shortcuts.none"))]),
        text(say("shortcuts.kept_how", n=found.kept[0].n)),
        _kept(found, say),
        text(say("shortcuts.chance", chance=found.chance), "quiet"),
    ]


def _shares(found: Shortcuts, say: Texts) -> Block:
    """Return where the evidence for each class lies."""
    rows = []
    for label in dict.fromkeys(one.label for one in found.shares):
        by_place = {one.place: one for one in found.shares if one.label == label}
        corner = max((one for place, one in by_place.items() if " " in place), key=lambda one: one.denser)
        whole = [
            say("shortcuts.share", evidence=by_place[place].evidence, area=by_place[place].area)
            if place in by_place
            else ""
            for place in ("border", "flat")
        ]
        place = _place(corner, say)
        rows.append(
            (
                label,
                *whole,
                say("shortcuts.share_corner", evidence=corner.evidence, area=corner.area, place=place),
            )
        )
    return table(
        [say("photos.class"), *(say(f"shortcuts.{name}") for name in ("border", "flat", "corner"))],
        rows,
        words=(3,),
    )


def _place(share: Share, say: Texts) -> str:
    if " " in share.place:
        return say(f"maps.{share.place.replace(' ', '_')}")
    return say(f"shortcuts.on_{share.place}")


def _kept(found: Shortcuts, say: Texts) -> Block:
    """Return how photos are classified of which a part is left."""
    head = [
        say("shortcuts.part"),
        say("shortcuts.left"),
        say("comparison.accuracy"),
        say("comparison.interval"),
    ]
    rows = [
        (
            say(f"shortcuts.kept_{one.part}"),
            say.number(one.area, ".0%"),
            say.percent(one.accuracy),
            say.interval(one.interval),
        )
        for one in found.kept
    ]
    return table(head, rows)

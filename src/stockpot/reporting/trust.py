"""What a report says of how far maps can be believed, and of what the model goes by."""

from stockpot.explanation.faithfulness import Gain
from stockpot.explanation.shortcuts import FEWEST, Shortcuts
from stockpot.reporting.blocks import Block, Blocks, code, table, text
from stockpot.reporting.calls import faithfulness_calls
from stockpot.reporting.material import Material
from stockpot.reporting.texts import Texts

ENOUGH = 100  # photos that an answer should rest on
SIDES = {  # of a photo, as the texts on maps call them
    "top": "top_middle",
    "bottom": "bottom_middle",
    "left": "middle_left",
    "right": "middle_right",
    "top left": "top_left",
    "top right": "top_right",
    "bottom left": "bottom_left",
    "bottom right": "bottom_right",
}


def believe(material: Material, say: Texts) -> Blocks:
    """Return whether maps show what the model uses, measured."""
    found = material.faithfulness
    if found is None:
        return [
            text(say("shortcuts.single" if material.one_cell else "belief.few", n=material.run.evaluation.n))
        ]
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
    permuted = found.permuted_deletion.beyond_chance or found.permuted_insertion.beyond_chance
    return [
        text(say("belief.how")),
        table([say("belief.order"), say("belief.deletion"), say("belief.insertion")], rows),
        text(say(f"belief.{answer}", n=found.n)),
        text(say(f"belief.permuted_{'differs' if permuted else 'chance'}")),
        *([text(say("belief.below_hundred"), "quiet")] if found.n < ENOUGH else []),
        code(faithfulness_calls(material.run, material.name)),
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
                place=name_place(one.place, say),
                evidence=one.evidence,
                area=one.area,
                right=one.right,
                without=one.right_without,
                n=one.n,
            ),
            "bad" if one.right_without < one.right else "key",  # red only where answers hang on the place
        )
        for one in found.suspects
    ]
    warnings += [text(say("shortcuts.border_suffices"), "bad")] if found.border_suffices else []
    few = sorted({one.label for one in found.shares if one.n < FEWEST})
    quiet = [text(say("shortcuts.few", names=", ".join(few)))] if few else [text(say("shortcuts.none"))]
    return [
        text(say("shortcuts.how")),
        _shares(found, say),
        *(warnings or quiet),
        text(say("shortcuts.kept_how", n=found.kept[0].n)),
        _kept(found, say),
        text(say("shortcuts.chance", chance=found.chance), "quiet"),
    ]


def _shares(found: Shortcuts, say: Texts) -> Block:
    """Return where the evidence for each class lies."""
    rows = []
    for label in dict.fromkeys(one.label for one in found.shares):
        own = [one for one in found.shares if one.label == label]
        most = max((one for one in own if one.place in SIDES), key=lambda one: one.times)
        whole = [next((one for one in own if one.place == place), None) for place in ("border", "flat")]
        cells = [say("shortcuts.share", evidence=one.evidence, area=one.area) if one else "" for one in whole]
        place = say(
            "shortcuts.share_at", evidence=most.evidence, area=most.area, place=name_place(most.place, say)
        )
        rows.append((label, *cells, place))
    head = [say("photos.class"), *(say(f"shortcuts.{name}") for name in ("border", "flat", "side"))]
    return table(head, rows, words=(3,))


def name_place(place: str, say: Texts) -> str:
    """Return what a place of a photo is called."""
    return say(f"maps.{SIDES[place]}" if place in SIDES else f"shortcuts.on_{place}")


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

"""Points 1 and 2 of the lab sheet: the photos, and how they get from the disk to the network."""

import math
from collections import Counter
from dataclasses import replace

from PIL import Image

from stockpot.photos.photo import Photo, describe_refused, short_name
from stockpot.photos.preprocessing import Preprocessing, read_prepared
from stockpot.photos.splits import Split
from stockpot.reporting.blocks import Block, Blocks, Figure, code, listing, pictures, table, text
from stockpot.reporting.calls import reading_calls, split_call
from stockpot.reporting.material import Material
from stockpot.reporting.origins import describe_photos
from stockpot.reporting.pictures import Album, jpeg, png
from stockpot.reporting.readings import backbone_title
from stockpot.reporting.texts import Texts

SHEET_PHOTOS = 8
CONTACT_PHOTOS = 24


def photo_points(material: Material, album: Album, say: Texts) -> dict[str, Blocks]:
    """Return what stands below the points on photos."""
    about = describe_photos(material.project, material.split, say)
    quoted = material.shell_name
    aside = [text(" ".join(about["curated"]) or say("photos.aside_none", project=quoted))]
    return {
        "1": _counts(material.split, say) + _origins(about, say),
        "1.1": _classes(material.split, album, say),
        "1.2": [text(sentence) for sentence in about["known"]],
        "1.3": aside + listing(say("photos.aside_reasons"), about["aside_files"]),
        "2": [text(say("pixels.data_set"))],
        "2.1": [
            text(say("pixels.how")),
            code(reading_calls(material.split, material.run, material.name)),
        ],
        "2.2": _sizes(material, say),
        "2.3": _split(material, say),
        "2.4": _sheet(material, album, say),
    }


def _counts(split: Split, say: Texts) -> Blocks:
    training = Counter(photo.label for photo in split.training)
    validation = Counter(photo.label for photo in split.validation)
    learned, held = len(split.training), len(split.validation)
    found = learned + held + len(split.refused) + split.skipped
    counts = say("photos.counts", photos=found, classes=len(split.class_names), used=learned + held)
    head = [say(f"photos.{name}") for name in ("class", "all", "training", "validation")]
    rows = [
        (name, training[name] + validation[name], training[name], validation[name])
        for name in split.class_names
    ]
    last = (say("photos.total"), learned + held, learned, held)
    return [text(counts), table(head, rows, last=last), *_left_out(split, say)]


def _left_out(split: Split, say: Texts) -> Blocks:
    """Return the files that do not count, by why, and those that are nearly the same."""

    def same(photos: tuple[Photo, ...]) -> str:
        return " = ".join(short_name(photo.path) for photo in photos)

    conflicts, near = sum(map(len, split.conflicts)), sum(map(len, split.near_duplicates))
    return [
        *listing(say("photos.refused", count=len(split.refused)), describe_refused(split.refused)),
        *listing(say("photos.repeated", count=len(split.repeated)), map(same, split.repeated)),
        *listing(say("photos.conflicts", count=conflicts), map(same, split.conflicts)),
        *listing(
            say("photos.between", count=len(split.between)),
            (short_name(photo.path) for photo in split.between),
        ),
        *listing(say("photos.straddling", groups=len(split.straddling)), map(same, split.straddling)),
        *listing(
            say("photos.near", count=near, groups=len(split.near_duplicates)),
            map(same, split.near_duplicates),
        ),
    ]


def _origins(about: dict[str, list[str]], say: Texts) -> Blocks:
    head = [say("photos.origin"), say("photos.licence"), say("photos.all")]
    named = about["attributions"]
    return [
        table(head, about["origins"], words=(1,)),
        *listing(say("photos.attributions", count=len(named)), named),
    ]


def _classes(split: Split, album: Album, say: Texts) -> Blocks:
    shown = _some_of_each(split, CONTACT_PHOTOS)
    key = "classes" if len(split.class_names) <= CONTACT_PHOTOS else "classes_some"
    names = ", ".join(split.class_names)
    figures = [(album.add(photo.path), photo.label) for photo in sorted(shown, key=lambda one: one.label)]
    return [text(say(f"photos.{key}", count=len(split.class_names), names=names)), pictures(figures)]


def _sizes(material: Material, say: Texts) -> Blocks:
    """Say which runs saw photos of which size."""
    by_size: dict[tuple[int, str], list[str]] = {}
    for run in material.runs:
        by_size.setdefault((run.recipe["image_size"], run.recipe["resize"]), []).append(run.name)
    return [
        text(say("pixels.sizes", resize=say(f"pixels.{resize}"), size=size, runs=", ".join(names)))
        for (size, resize), names in sorted(by_size.items())
    ]


def _split(material: Material, say: Texts) -> Blocks:
    split = material.split
    sides = {"training": len(split.training), "validation": len(split.validation)}
    return [
        text(say("pixels.split", share=split.share, **sides)),
        code(split_call(split, material.name)),
    ]


def _sheet(material: Material, album: Album, say: Texts) -> Blocks:
    """Return training photos: the file, what the network gets, and 32 x 32."""
    large = material.model.preprocessing
    small = replace(large, image_size=32)
    size, backbone = large.image_size, backbone_title(material.run, say)
    columns = [_column(photo, album, large, small) for photo in _some_of_each(material.split, SHEET_PHOTOS)]
    note = say("pixels.sheet_note", size=size, backbone=backbone)
    return [Block("sheet", {"columns": columns}), text(note, "quiet")]


def _column(photo: Photo, album: Album, large: Preprocessing, small: Preprocessing) -> list[Figure]:
    pixels, few = (Image.fromarray(read_prepared(photo.path, size)) for size in (large, small))
    return [
        (album.add(photo.path), photo.label),
        (jpeg(pixels, quality=90, subsampling=0), f"{photo.label}, {large.image_size} px"),
        (png(few, pixelated=True), f"{photo.label}, {small.image_size} px"),
    ]


def _some_of_each(split: Split, count: int) -> list[Photo]:
    """Return training photos, evenly from all classes, or one each of the first where there are more classes."""
    each = max(1, math.ceil(count / len(split.class_names)))
    by_class = [[photo for photo in split.training if photo.label == name] for name in split.class_names]
    rounds = [photos[i] for i in range(each) for photos in by_class if i < len(photos)]
    return rounds[:count]

"""What the search for near duplicates finds and misses: the figures of docs/duplicates.md.

    python benchmarks/duplicates.py ../shared/data [GROUPS.png]

Copies of `food3` photos are made here, by transformations of other strengths than those that the nine crops of a
signature imitate; `dirty_food3` has copies that others made. The last line times everything there is.
"""

import csv
import io
import itertools
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

from stockpot.errors import UnreadablePhoto
from stockpot.photos.duplicates import distinct_photos, near_duplicates, signature
from stockpot.photos.photo import Photo
from stockpot.photos.pixels import read_photo
from stockpot.photos.samples import _files, _spread

chance = random.Random(0)


def crop(share: float) -> Callable[[Image.Image], Image.Image]:
    """Return what cuts a rectangle of a share of each side out, anywhere."""

    def cut(photo: Image.Image) -> Image.Image:
        width, height = int(photo.width * share), int(photo.height * share)
        x, y = chance.randint(0, photo.width - width), chance.randint(0, photo.height - height)
        return photo.crop((x, y, x + width, y + height))

    return cut


def border(share: float, colour: str) -> Callable[[Image.Image], Image.Image]:
    """Return what adds a border of a share of the width."""
    return lambda photo: ImageOps.expand(photo, int(share * photo.width), colour)


def jpeg(quality: int) -> Callable[[Image.Image], Image.Image]:
    """Return what encodes as JPEG once more."""

    def encode(photo: Image.Image) -> Image.Image:
        out = io.BytesIO()
        photo.save(out, "JPEG", quality=quality)
        return Image.open(out).convert("RGB")

    return encode


def resized(share: float) -> Callable[[Image.Image], Image.Image]:
    """Return what scales both sides."""
    return lambda photo: photo.resize((int(photo.width * share), int(photo.height * share)))


def written_on(photo: Image.Image) -> Image.Image:
    """Put a line of text across the lower third."""
    marked = photo.copy()
    place = (photo.width // 10, 2 * photo.height // 3)
    ImageDraw.Draw(marked).text(place, "photo by nobody", "white", font_size=photo.width // 10)
    return marked


KINDS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "crop to 95 % of each side": crop(0.95),
    "crop to 92 %": crop(0.92),
    "crop to 87 %": crop(0.87),
    "crop to 85 %": crop(0.85),
    "crop to 80 %": crop(0.80),
    "white border of 3 %": border(0.03, "white"),
    "black border of 12 %": border(0.12, "black"),
    "mirrored": ImageOps.mirror,
    "mirrored and cropped to 88 %": lambda photo: crop(0.88)(ImageOps.mirror(photo)),
    "JPEG quality 15": jpeg(15),
    "resized to 30 %": resized(0.3),
    "resized to 170 %": resized(1.7),
    "height squashed to 80 %": lambda photo: photo.resize((photo.width, int(0.8 * photo.height))),
    "30 % darker": lambda photo: ImageEnhance.Brightness(photo).enhance(0.7),
    "gray": lambda photo: photo.convert("L").convert("RGB"),
    "text across it": written_on,
    "white border of 5 %, JPEG quality 30": lambda photo: jpeg(30)(border(0.05, "white")(photo)),
}


def recall_by_kind(folder: Path) -> None:
    """Print which share of made copies is found among all photos of `food3`, and false pairs."""
    originals = [read_photo(path) for path in sorted(folder.rglob("*.jpg"))]
    signatures = [signature(photo) for photo in originals]
    chosen = range(0, len(originals), 4)
    false = {tuple(pair) for pair in near_duplicates(signatures).tolist()}
    print(f"{len(originals)} photos of food3 without copies: {len(false)} pairs found\n")
    print("| copy | found |\n|---|---|")
    for kind, change in KINDS.items():
        copies = [signature(change(originals[row])) for row in chosen]
        pairs = {tuple(pair) for pair in near_duplicates([*signatures, *copies]).tolist()}
        found = sum((row, len(signatures) + i) in pairs for i, row in enumerate(chosen))
        print(f"| {kind} | {found / len(chosen):.1%} of {len(chosen)} |", flush=True)


def dirty(folder: Path) -> None:
    """Print recall and false groups on `dirty_food3`."""
    with (folder.parent / "dirty_food3.truth.csv").open() as file:
        rows = list(csv.DictReader(file))
    kept, signatures = [], []
    for row in rows:
        try:
            signed = signature(read_photo(folder / row["file"]))
        except UnreadablePhoto:
            continue
        if signed:
            kept.append(row)
            signatures.append(signed)
    pairs = [tuple(pair) for pair in near_duplicates(signatures).tolist()]
    true = {(i, j) for i, j in itertools.combinations(range(len(kept)), 2) if same_source(kept[i], kept[j])}
    wrong = {row for pair in set(pairs) - true for row in pair}
    clean = [row for row in wrong if kept[row]["issue"] == "clean"]
    all_clean = sum(row["issue"] == "clean" for row in kept)
    print(f"\ndirty_food3: {len(true & set(pairs))} of {len(true)} pairs found; of {all_clean} clean photos")
    print(f"{len(clean)} are in a group with a photo of another source:")
    for i, j in sorted(set(pairs) - true):
        print(f"  {kept[i]['file']} = {kept[j]['file']}")


def same_source(a: dict[str, str], b: dict[str, str]) -> bool:
    """Tell whether two files were made of one photo."""
    return bool(a["source"]) and a["source"] == b["source"]


def demo_cells(picture: Path | None = None) -> None:
    """Print how many cells of the demo are in groups; their pictures show whether they should be."""
    cells = [path for files in _files().values() for path in _spread(files, 100)]
    photos = [Photo(path, "cell", f"{i:03}", 300, 300) for i, path in enumerate(cells)]
    signatures = {photo.sha256: signature(read_photo(photo.path)) for photo in photos}
    names = [name for name, signed in signatures.items() if signed]
    pairs = near_duplicates([signatures[name] for name in names])
    near = [(names[i], names[j]) for i, j in pairs]
    groups: dict[str, list[Path]] = {}
    for photo in distinct_photos(photos, near).photos:
        groups.setdefault(photo.group, []).append(photo.path)
    found = [group for group in groups.values() if len(group) > 1]
    print(f"\ndemo: {sum(map(len, found))} of {len(cells)} cells in {len(found)} groups,")
    print(f"the largest has {max(map(len, found))}")
    if picture:
        sheet = Image.new("L", (4 * 120, len(found) * 120))
        for row, group in enumerate(found):
            for column, path in enumerate(group[:4]):
                sheet.paste(read_photo(path).convert("L").resize((118, 118)), (column * 120, row * 120))
        sheet.save(picture)


def everything(folder: Path) -> None:
    """Time signatures and search over all photos there are."""
    paths = [path for path in folder.rglob("*") if path.is_file() and "cifar10" not in path.parts]
    paths += [path for files in _files().values() for path in files]
    started, signatures = time.perf_counter(), []
    for path in paths:
        try:
            signatures.append(signature(read_photo(path)))
        except UnreadablePhoto:
            continue
    signed = time.perf_counter()
    pairs = near_duplicates([value for value in signatures if value])
    seconds = time.perf_counter() - signed
    print(f"\n{len(signatures)} photos: decoding and signing on one thread {signed - started:.1f} s,")
    print(f"search {seconds:.1f} s, {len(pairs)} pairs")


if __name__ == "__main__":
    np.set_printoptions(precision=3)
    data = Path(sys.argv[1])
    recall_by_kind(data / "food3")
    dirty(data / "dirty_food3")
    demo_cells(Path(sys.argv[2]) if len(sys.argv) > 2 else None)
    everything(data)

"""What curation finds among documented problems, and what going by its proposals is worth.

    python benchmarks/curation.py rules PHOTOS TRUTH.csv FOLDER   recall and precision by rule
    python benchmarks/curation.py retrain PHOTOS TEST FOLDER      accuracy on a test set before and after

PHOTOS and TEST hold one folder of photos a class; TRUTH.csv has the columns file, issue
and source, the photo that a file was made of; FOLDER the projects.
Lines of JSON are printed. Neither names nor the order of files are used.
"""

import csv
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fine_tuning import paired, right_on
from scipy.stats import binomtest

from stockpot.curation.curation import curate
from stockpot.curation.findings import BY_PREDICTION, COPIES
from stockpot.learning.comparison import exact_mcnemar
from stockpot.learning.recipes import Recipe
from stockpot.learning.training import train
from stockpot.photos.intake import bring_in

MEANT = {  # rules, and the documented problems that they are to find
    "unreadable": {
        "truncated_jpeg",
        "html_as_jpg",
        "empty_file",
        "not_an_image",
        "svg_as_jpg",
        "decompression_bomb",
    },
    "too small": {"tiny_image", "one_pixel", "extreme_aspect"},
    "blank": {"blank_image", "one_pixel"},
    "duplicate": {"exact_duplicate"},
    "two classes": {"exact_duplicate_cross_class"},
    "near duplicate": {"near_duplicate"},
    "wrong label": {"wrong_class"},
    "off topic": {"off_topic"},
}


def rules(photos: Path, truth: Path, folder: Path) -> Iterator[dict[str, Any]]:
    """Yield recall and precision of every rule, then of the ranking."""
    bring_in(folder / "rules", photos)
    started = time.perf_counter()
    curate(folder / "rules")
    first = time.perf_counter() - started
    found = curate(folder / "rules")
    seconds = {"first": round(first, 1), "again": round(time.perf_counter() - started - first, 1)}
    yield {"photos": len(found.photos), "seconds": seconds}
    with truth.open(newline="") as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    issues = {name: row["issue"] for name, row in rows.items()}
    sources = Counter(row["source"] for row in rows.values())
    for rule, meant in MEANT.items():
        named = {one.name for one in found.findings if one.rule == rule}
        wanted = {name for name, issue in issues.items() if issue in meant}
        hits, right = len(named & wanted), len(named & wanted)
        if rule in COPIES:  # of a photo and its copy either may be named
            about = {rows[one.name]["source"] for one in found.findings if one.rule in COPIES}
            hits = sum(rows[name]["source"] in about for name in wanted)
            right = sum(sources[rows[name]["source"]] > 1 for name in named)
        yield {"rule": rule, "recall": share(hits, len(wanted)), "precision": share(right, len(named))}
    named = {one.name for one in found.findings if one.rule in BY_PREDICTION}
    wanted = {name for name, issue in issues.items() if issue in ("wrong_class", "off_topic")}
    hits = len(named & wanted)
    yield {"rule": "either", "recall": share(hits, len(wanted)), "precision": share(hits, len(named))}
    kinds = Counter(issues[name] for name in {one.name for one in found.findings if one.certain})
    yield {"certain": kinds.total(), "clean": kinds["clean"], "kinds": kinds}
    certain = {one.path for one in found.findings if one.certain}
    rest = [f"{photo.label}/{photo.path.name}" for photo in found.photos if photo.path not in certain]
    top = rest[: round(0.1 * len(rest))]
    wanted = {name for name, issue in issues.items() if issue in ("wrong_class", "off_topic")}
    yield {"first tenth": len(top), "recall": share(len(wanted & set(top)), len(wanted))}


def share(hits: int, of: int) -> dict[str, Any]:
    """Return a share with its 95 % interval (Wilson)."""
    low, high = binomtest(hits, of).proportion_ci(method="wilson") if of else (0.0, 1.0)
    return {"hits": hits, "of": of, "share": hits / max(of, 1), "interval": [low, high]}


def retrain(photos: Path, test: Path, folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the test accuracy of a probe before and after every proposal was carried out unseen."""
    project = folder / "retrain"
    bring_in(project, photos)
    before = right_on(train(project, Recipe.linear_probe(), "before"), test)
    found = curate(project)
    move = {one.identifier: one.suggested for one in found.findings if one.suggested}
    proposed = sorted({one.identifier for one in found.findings} - move.keys())
    done = curate(project, set_aside=proposed, move=move)
    after = right_on(train(project, Recipe.linear_probe(), "after"), test)
    names = [str(i) for i in range(len(before))]
    test_of = exact_mcnemar(
        "before", dict(zip(names, before, strict=True)), dict(zip(names, after, strict=True))
    )
    yield {
        "set_aside": len(proposed),
        "moved": len(move),
        "left": len(done.photos),
        "n": len(before),
        "before": before.mean(),
        "after": after.mean(),
        **paired((after.astype(float) - before)[None]),
        "p": test_of.p,
    }


def main() -> None:
    """Run one of the two benchmarks."""
    task, *arguments = sys.argv[1:]
    for row in {"rules": rules, "retrain": retrain}[task](*map(Path, arguments)):
        print(json.dumps(row, default=float), flush=True)


if __name__ == "__main__":
    main()

"""What a user of fastai does: `ImageDataLoaders`, `vision_learner`, `fit_one_cycle`, the body frozen.

Its default lets BatchNorm learn in a frozen body (`train_bn`), so that gradients go through all of it.
"""

import time
from pathlib import Path
from typing import Any

import pandas
from fastai.vision.all import ImageDataLoaders, Resize, accuracy, aug_transforms, vision_learner
from worker import serve

state: dict[str, Any] = {}


def load(photos: str, sides: dict[str, list[tuple[str, int]]]) -> None:
    """List the photos of both sides."""
    rows = [(file, label, side == "validation") for side, files in sides.items() for file, label in files]
    state.update(rows=pandas.DataFrame(rows, columns=["file", "label", "held"]), folder=Path(photos))


def frozen(epochs: int) -> dict[str, Any]:
    """Train the head of a frozen Xception; weights make no difference to the time, so they are random."""
    loaders = ImageDataLoaders.from_df(
        state["rows"],
        state["folder"],
        valid_col="held",
        item_tfms=Resize(256, method="squish"),
        batch_tfms=aug_transforms(size=256),
        bs=32,
        num_workers=0,  # the processors are busy with the network anyway
        device="cpu",
    )
    learner = vision_learner(loaders, "legacy_xception", pretrained=False, metrics=accuracy)
    learner.freeze()
    seconds = []
    for _ in range(epochs):  # timed by themselves; only the rate runs otherwise than in one call
        started = time.perf_counter()
        learner.fit_one_cycle(1)
        seconds.append(time.perf_counter() - started)
    return {"epoch_seconds": seconds}


if __name__ == "__main__":
    serve({"load": load, "frozen": frozen})

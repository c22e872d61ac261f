"""A model card: what a model knows, how good it is and on what, and what it must not be trusted with.

The words before its first heading are what the Hugging Face hub reads.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stockpot.learning.evaluation import Evaluation, from_json
from stockpot.model.model_file import ModelFile

NAME = "README.md"
EXAMPLE = "example.png"


@dataclass(frozen=True)
class Example:
    """A photo whose map the card shows."""

    predicted: str
    probability: float
    credit: str = ""  # whom to name for the photo


def model_card(
    name: str,
    model: ModelFile,
    origins: Sequence[dict[str, Any]] = (),
    example: Example | None = None,
    timm_remedy: str = "",
) -> str:
    """Return the card, in Markdown.

    Args:
        name: of the model.
        model: what it is about.
        origins: what is known of where its photos came from, a row a photo, as `photos.jsonl` has them.
        example: a photo and its map.
        timm_remedy: why timm cannot read the folder; nothing where it can.
    """
    validation = model.metrics.get("validation")
    evaluation = from_json(validation) if validation else None
    parts = [
        _metadata(name, evaluation, timm_remedy),
        f"# {_plain(name)}",
        f"Tells photos of {len(model.class_names)} classes apart: {_listed(model.class_names)}. Trained by "
        f"stockpot {model.versions.get('stockpot', '')}".rstrip()
        + ".",
        *_picture(example),
        "## How good it is",
        *_figures(model, evaluation),
        "## What it learned from",
        *_data(model, origins),
        "## What not to trust it with",
        "\n".join(f"* {limit}" for limit in _limits(model, evaluation)),
        "## Use",
        *_use(name, model, timm_remedy),
    ]
    return "\n\n".join(parts) + "\n"


def _metadata(name: str, evaluation: Evaluation | None, timm_remedy: str) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    results = [
        EvalResult(
            task_type="image-classification",
            dataset_type="imagefolder",
            dataset_name=f"{evaluation.n} validation photos",
            metric_type="accuracy",
            metric_value=round(evaluation.accuracy, 4),
        )
        for evaluation in [evaluation]
        if evaluation
    ]
    data = ModelCardData(
        library_name="onnx" if timm_remedy else "timm",
        pipeline_tag="image-classification",
        tags=["stockpot", "image-classification"],
        model_name=name,
        eval_results=results or None,
    )
    return f"---\n{data.to_yaml()}\n---"


def _picture(example: Example | None) -> list[str]:
    if example is None:
        return []
    credit = f" {_plain(example.credit)}" if example.credit else ""
    return [
        f"![A photo, and what in it speaks for the predicted class (orange) and against it (purple)]({EXAMPLE})",
        f"*Predicted: {_plain(example.predicted)}, {example.probability:.0%}. The class activation map's mean plus "
        f"a constant is the logit: it is all that the model used.{credit}*",
    ]


def _figures(model: ModelFile, evaluation: Evaluation | None) -> list[str]:
    if evaluation is None:
        return ["The model file has no figures on validation photos."]
    low, high = evaluation.interval
    rows = [
        f"| {_plain(one.name)} | {one.photos} | {one.recall:.1%} | {one.precision:.1%} |"
        for one in evaluation.per_class
    ]
    chosen = (
        " The epoch was chosen on these very photos, which flatters the figure a little."
        if model.recipe.get("keep") == "best"
        else ""
    )
    return [
        f"**{evaluation.accuracy:.1%}** of {evaluation.n} photos that it did not learn from (95 % interval "
        f"{low:.1%} to {high:.1%}, Wilson).{chosen}",
        "\n".join(
            ["| class | photos | found (recall) | right when said (precision) |", "|---|---|---|---|", *rows]
        ),
    ]


def _data(model: ModelFile, origins: Sequence[dict[str, Any]]) -> list[str]:
    said = [f"{len(model.learned_from)} photos."] if model.learned_from else []
    licences = Counter(str(row["licence"]) for row in origins if row.get("licence"))
    if licences:
        counted = ", ".join(f"{_plain(licence)} ({count})" for licence, count in licences.most_common())
        unknown = len(model.learned_from) - licences.total()
        said.append(f"Licences: {counted}{f', not recorded ({unknown})' if unknown > 0 else ''}.")
    elif said:
        said.append("Their licences are not recorded.")
    credits = sorted({str(row["attribution"]) for row in origins if row.get("attribution")})
    if credits:
        said.append(f"Credits: {'; '.join(map(_plain, credits))}.")
    said.append(f"The backbone {_plain(model.backbone)} started from {_plain(model.attribution)}.")
    return [" ".join(said)]


def _limits(model: ModelFile, evaluation: Evaluation | None) -> list[str]:
    size, calibration = model.preprocessing.image_size, model.calibration
    limits = [
        "Photos from elsewhere than those it learned from: the figures above are of photos from the same source.",
        f"What cannot be seen in {size} x {size} pixels, to which every photo is resized.",
    ]
    if model.preprocessing.resize == "crop":
        limits.append("What lies beside the middle square of a photo: it is cut off.")
    if evaluation and min(one.photos for one in evaluation.per_class) < 100:
        limits.append("Small differences: see the interval; of a single class it is wider.")
    if model.rejection:
        rate, held_out = model.rejection.rate, model.rejection.held_out
        limits.append(
            f"What is none of its classes: `model.onnx` gives a distance, whose threshold rejects {rate:.0%} of "
            f"photos of the classes (chosen on {model.rejection.n} {held_out} photos); probabilities alone always "
            f"name a class."
        )
    else:
        limits.append("What is none of its classes: it names one all the same.")
    if calibration.held_out:
        limits.append(
            f"Probabilities are calibrated (temperature {calibration.temperature:.3g}, chosen on {calibration.n} "
            f"{calibration.held_out} photos), and of photos from elsewhere they may still be too sure."
        )
    else:
        limits.append("Probabilities are not calibrated.")
    return limits


def _use(name: str, model: ModelFile, timm_remedy: str) -> list[str]:
    size = model.preprocessing.image_size
    onnx = (
        f"`model.onnx` needs ONNX Runtime alone: `pixels` `(N, {size}, {size}, 3)` in, as bytes, and calibrated "
        f"`probabilities`, class activation `maps` and `logits` out; class names and preprocessing are in its "
        f"metadata."
    )
    if timm_remedy:
        return [onnx, f"There are no files for timm: {timm_remedy}."]
    return [
        "Preprocessing and class names are in the files; the softmax of the logits is calibrated.",
        '```python\nimport timm\n\nmodel = timm.create_model("local-dir:FOLDER", pretrained=True).eval()  # or '
        "hf-hub:NAME/MODEL\ntransform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))\n"
        'probabilities = model(transform(photo.convert("RGB"))[None]).softmax(-1)\n```',
        '```python\nfrom transformers import pipeline\n\npipeline("image-classification", model="FOLDER")'
        '("photo.jpg")\n```',
        onnx,
    ]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(_plain, names))


def _plain(text: str) -> str:
    """Return text that Markdown and HTML take as it is, on one line."""
    return re.sub(r"[\\`*\[\]<>|]|\b_|_\b", r"\\\g<0>", " ".join(text.split()))

"""The entrances that `hostile.py` feeds: each prepares, yields once, then yields a kind and what takes the input.

What takes it returns nothing where it was taken, `"refused"`, or what is wrong; or raises.
"""

import contextlib
import importlib
import io
import json
import os
import random
import shutil
import socket
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from hostile_inputs import ODD_TEXTS, damaged, pictures, tensors, texts
from PIL import Image

from stockpot.errors import StockpotError

Taken = Iterator[tuple[str, Callable[[], Any]]]
Entrance = Callable[[Path, random.Random], Taken]


def photo(sandbox: Path, chance: random.Random) -> Taken:
    """The one decoder, at full size and reduced, and the long way to a class folder of ours."""
    from stockpot.collection.arrivals import encode_anew
    from stockpot.collection.fetching import Dropped
    from stockpot.photos.duplicates import signature
    from stockpot.photos.pixels import decode, pixels_in

    def take(data: bytes) -> str | None:
        pixels_in(data)
        with contextlib.suppress(Dropped):
            encode_anew(data)
        image = decode(data)
        signature(image)
        return None if image.mode == "RGB" else f"mode {image.mode}"

    yield "", lambda: None
    for kind, data in pictures(chance):
        yield kind, partial(take, data)


def folder(sandbox: Path, chance: random.Random) -> Taken:
    """A folder of photos with one odd entry, brought in, looked at where it lies, and found in a project."""
    from stockpot.collection.own_photos import bring_one, bring_own
    from stockpot.learning.models import list_files
    from stockpot.photos.index import index_folder, index_project
    from stockpot.photos.intake import bring_in
    from stockpot.photos.pixels import thumbnail

    good = next(pictures(chance))[1]
    project, source, outside = sandbox / "project" / "p", sandbox / "source" / "s", sandbox / "outside"

    def take(make: Callable[[Path], Any], label: bytes, name: bytes) -> str | None:
        for place in (source, project):
            shutil.rmtree(place, ignore_errors=True)
        (source / "plain").mkdir(parents=True)
        (source / "plain" / "good.png").write_bytes(good)
        with contextlib.suppress(OSError, ValueError):  # a name that this system has not
            (source / os.fsdecode(label)).mkdir(exist_ok=True)
            make(source / os.fsdecode(label) / os.fsdecode(name))
        bring_in(project, source)
        with contextlib.suppress(OSError, ValueError):
            (project / "photos" / os.fsdecode(label)).mkdir(exist_ok=True)
            make(project / "photos" / os.fsdecode(label) / os.fsdecode(name))
        index_project(_project(project))
        index_folder(source)
        for file in list_files([source]):
            with contextlib.suppress(StockpotError):
                thumbnail(file, 64)
        bring_own(project, source)
        bring_one(project, os.fsdecode(label), os.fsdecode(name), good)
        bring_one(project, "plain", chance.choice(ODD_TEXTS), good)
        return None

    def sparse(path: Path) -> None:
        with path.open("wb") as file:
            file.truncate(2**40)

    kinds: dict[str, Callable[[Path], Any]] = {
        "photo": lambda path: path.write_bytes(good),
        "pipe": os.mkfifo,
        "socket": lambda path: socket.socket(socket.AF_UNIX).bind(os.fsencode(path)),
        "folder": lambda path: path.mkdir(),
        "link to a device": lambda path: path.symlink_to("/dev/zero"),
        "link out": lambda path: path.symlink_to(outside / "secret.txt"),
        "link to a folder": lambda path: path.symlink_to(outside),
        "link to itself": lambda path: path.symlink_to(path),
        "link to nothing": lambda path: path.symlink_to(outside / "made"),
        "terabyte": sparse,
    }
    names = [b"\xff\xfe.jpg", b"a\nb.jpg", b"\x1b[2J.jpg", b"..jpg", b"-rf", b"x" * 255, b"~", b"%00.jpg"]
    names += [
        os.fsencode(name)
        for name in ODD_TEXTS
        if name.isprintable() and len(name) < 200 and name.strip(".") and "/" not in name
    ]
    names += [
        "\u202egpj.exe".encode(),
        b"CON.jpg",
        b".hidden.jpg",
        b"Thumbs.db",
        b" ",
        b"a\\b.png",
        b"a b;c'\".png",
    ]
    yield "", lambda: None
    while True:
        kind = chance.choice(list(kinds))
        label, name = chance.choice([b"plain", *names]), chance.choice([b"a.jpg", *names])
        yield kind, partial(take, kinds[kind], label, name)


def _project(folder: Path) -> Any:
    from stockpot.project import create_project

    return create_project(folder)


def study(folder: Path) -> Path:
    """Return a project of 16 photos with a run, a journal, an answer, notes and all caches, made once a sandbox."""
    from stockpot.curation.curation import curate
    from stockpot.curation.journal import Journal, Move
    from stockpot.explanation.blind import answer
    from stockpot.learning.comparison import compare
    from stockpot.learning.recipes import Recipe
    from stockpot.learning.training import train
    from stockpot.photos.intake import bring_in
    from stockpot.photos.splits import split

    if (folder / "notes.md").exists():
        return folder
    photos = folder.with_name("photos")
    for number in range(16):
        file = photos / ("cat" if number % 2 else "dog") / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).integers(0, 256, (40, 40, 3), np.uint8)
        Image.fromarray(noise // (1 + number % 2)).save(file)
    bring_in(folder, photos)
    made = split(folder)
    train(folder, Recipe.linear_probe("cifar", epochs=2), "probe")
    compare(folder)
    project = _project(folder)
    first = made.training[0]
    place, aside = f"photos/{first.label}/{first.path.name}", f"set-aside/{first.label}/{first.path.name}"
    Journal(project).move([Move(first.sha256, first.sha256, place, aside, ("why",), ("blank",))])
    answer(project, made.validation[0].sha256, "cat", made.class_names)
    with contextlib.suppress(StockpotError):  # without its weights there are no looks
        curate(folder)
    project.notes.write_text("## 8\nWords.\n")
    return folder


def journal(sandbox: Path, chance: random.Random) -> Taken:
    """The project's own files: journals, split, notes and caches, read by what reads them."""
    from stockpot.collection.arrivals import Arrivals
    from stockpot.curation.curation import source_of, undo
    from stockpot.curation.findings import read_reasons
    from stockpot.curation.journal import Journal
    from stockpot.curation.known_by_sight import read_sights
    from stockpot.explanation.blind import answer, read_answers
    from stockpot.learning.status import look_at_status
    from stockpot.photos.photo import Photo
    from stockpot.photos.splits import split
    from stockpot.reporting.again import commands
    from stockpot.reporting.notes import read_notes

    folder = study(sandbox / "tmp" / "base")
    opened = _project(sandbox / "project" / "p")
    photo = Photo(opened.photos / "cat" / "1.png", "cat", "0" * 64, 1, 1)

    def curated() -> None:
        journal = Journal(opened)
        journal.finish()
        assert journal.verdicts is not None
        undo(opened.folder)

    readers: dict[str, list[Callable[[], Any]]] = {
        "photos.jsonl": [
            lambda: Arrivals(opened, {}),
            lambda: source_of(opened, "0"),
            lambda: commands(opened),
        ],
        "curation.jsonl": [curated, lambda: commands(opened)],
        "blind.jsonl": [lambda: read_answers(opened), lambda: answer(opened, "1", "", ["cat"])],
        "split.json": [
            lambda: look_at_status(opened.folder),
            lambda: commands(opened),
            lambda: split(opened.folder),
        ],
        "notes.md": [lambda: read_notes(opened)],
        "cache/index.json": [lambda: look_at_status(opened.folder)],
        "cache/refused.jsonl": [lambda: Arrivals(opened, {})],
        "cache/findings.json": [lambda: read_reasons(opened, photo)],
        "cache/sights.json": [lambda: read_sights(opened)],
    }
    wholes = {name: (folder / name).read_bytes() if (folder / name).exists() else b"" for name in readers}
    wholes["cache/refused.jsonl"] = (
        wholes["cache/refused.jsonl"] or b'{"url": "http://a.example/", "reason": "no"}\n'
    )
    wholes["cache/findings.json"] = (
        wholes["cache/findings.json"]
        or json.dumps([{"sha256": "0", "label": "cat", "rule": "off topic", "reason": "why"}]).encode()
    )
    wholes["cache/sights.json"] = (
        wholes["cache/sights.json"]
        or json.dumps(
            [{"label": "cat", "index": 1, "name": "a", "share": 0.5, "close": 0.5, "n": 9, "by_name": True}]
        ).encode()
    )
    yield from _files(chance, folder, opened.folder, wholes, readers)


def _files(
    chance: random.Random, base: Path, place: Path, wholes: dict[str, bytes], readers: dict[str, list[Any]]
) -> Taken:
    """Yield a project with one file replaced, read by all that read it: the first refusal counts."""

    def take(name: str, data: bytes) -> None:
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(base, place)
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(data)
        refusals = []
        for read in readers[name]:
            try:
                read()
            except StockpotError as error:
                refusals.append(error)
        if refusals:
            raise refusals[0]

    yield "", lambda: None
    inputs = {name: texts(chance, data) for name, data in wholes.items()}
    while True:
        for name, ones in inputs.items():
            yield f"{name} {(one := next(ones))[0]}", partial(take, name, one[1])


def run(sandbox: Path, chance: random.Random) -> Taken:
    """The files of a run and its caches, read by status, comparison, features and the page of trainings."""
    from stockpot.learning.comparison import compare
    from stockpot.learning.features import missing_features
    from stockpot.learning.models import read_place
    from stockpot.learning.recipes import Recipe
    from stockpot.learning.runs import read_recipe, read_runs, run_folder
    from stockpot.photos.splits import look_at_split
    from stockpot.publishing.folder import surest_photo

    folder = study(sandbox / "tmp" / "base")
    opened = _project(sandbox / "project" / "p")
    place = "runs/probe/"
    key = next((folder / "cache" / "features").iterdir()).name

    def again() -> None:
        if value := read_recipe(opened.folder / place):
            Recipe.from_json(value, opened.runs)
            run_folder(opened, value, "0", "probe", None)

    def features() -> None:
        missing_features(opened, look_at_split(opened.folder).training, key)

    whole: list[Callable[[], Any]] = [
        lambda: [one._repr_html_() for one in read_runs(opened)],
        lambda: read_place(opened.folder),
        lambda: compare(opened.folder),
    ]
    readers = {
        place + "evaluation.json": whole,
        place + "history.jsonl": whole,
        place + "recipe.json": [*whole, again],
        place + "predictions.csv": [*whole, lambda: surest_photo(read_place(opened.folder))],
        place + "cross_validation.json": whole,
        place + "learning_curve.json": whole,
        f"cache/features/{key}/index.jsonl": [features],
    }
    wholes = {name: (folder / name).read_bytes() if (folder / name).exists() else b"{}" for name in readers}
    yield from _files(chance, folder, opened.folder, wholes, readers)


def tiny_model(path: Path, graph: bytes | None = None) -> Path:
    """Write a model of two classes on a network of three channels: red, green and blue in 4 x 4 cells."""
    from stockpot.model.model_file import Calibration, ModelFile, write_model
    from stockpot.model.rejection import Rejection
    from stockpot.photos.preprocessing import Preprocessing

    model = ModelFile(
        path=path,
        class_names=("cat", "dog"),
        backbone="tiny",
        fingerprint="0123456789ab",
        preprocessing=Preprocessing(16, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
        recipe={"seed": 0, "trainable": "head"},
        metrics={"n": 10},
        attribution="nobody",
        weight=np.arange(6, dtype=np.float32).reshape(2, 3),
        bias=np.ones(2, np.float32),
        learned_from=("0" * 12,),
        calibration=Calibration(1.5, 9, "training"),
        rejection=Rejection(np.eye(2, 3, dtype=np.float32), 0.4, 0.05, 9, "training"),
        versions={"stockpot": "0"},
    )
    write_model(model, {"conv.weight": np.ones((2, 2), np.float32)}, tiny_graph() if graph is None else graph)
    return path


def tiny_graph() -> bytes:
    """Return that network as ONNX."""
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("Cast", ["pixels"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["numbers"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["planes"], ["maps"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("ReduceMean", ["maps"], ["features"], axes=[2, 3], keepdims=0),
    ]
    into = helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["n", 16, 16, 3])
    out = [
        helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 3]),
        helper.make_tensor_value_info("maps", TensorProto.FLOAT, ["n", 3, 4, 4]),
    ]
    made = helper.make_model(
        helper.make_graph(nodes, "tiny", [into], out), opset_imports=[helper.make_opsetid("", 13)]
    )
    made.ir_version = 8
    return made.SerializeToString()


def model(sandbox: Path, chance: random.Random) -> Taken:
    """The model file: read, asked for its classes of a photo, and photos sorted into folders by them."""
    from stockpot.learning.models import load_model, read_place
    from stockpot.learning.predictions import open_table, record
    from stockpot.model.model_file import is_model, read_backbone, read_graph

    place = sandbox / "project"
    picture = place / "a.png"
    Image.new("RGB", (20, 30), "red").save(picture)
    whole = tiny_model(place / "whole.safetensors").read_bytes()
    graph = tiny_graph()

    def take(data: bytes) -> None:
        file = place / "model.safetensors"
        file.write_bytes(data)
        is_model(file)
        read_place(file)
        read_backbone(file), read_graph(file)
        predictor = load_model(file, threads=1)
        with open_table(place / "answers.csv", predictor.model.class_names) as table:
            record(predictor.predict([picture]), table, place / "sorted", unsure_below=0.0)

    load_model(place / "whole.safetensors", threads=1)
    importlib.import_module("stockpot.backbones.graph")  # of which a model without a graph has need
    yield "", lambda: None
    inputs = tensors(chance, whole)
    while True:
        kind, data = next(inputs)
        yield kind, partial(take, data)
        if chance.random() < 0.25:
            changed = tiny_model(place / "changed.safetensors", damaged(chance, graph)).read_bytes()
            yield "graph damaged", partial(take, changed)


def checkpoint(sandbox: Path, chance: random.Random) -> Taken:
    """The checkpoint of a training."""
    import torch

    from stockpot.learning.checkpoint import Checkpoint

    layer = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    kept = Checkpoint(sandbox / "project" / "checkpoint.safetensors", {"recipe": "x"})
    kept.save(dict(layer.state_dict()), [optimizer], [{"number": 1}])
    whole = kept.path.read_bytes()

    def take(data: bytes) -> None:
        kept.path.write_bytes(data)
        kept.epochs()
        kept.read([torch.optim.AdamW(layer.parameters())])
        kept.forget_others()

    yield "", lambda: None
    for kind, data in tensors(chance, whole):
        yield kind, partial(take, data)


def weights(sandbox: Path, chance: random.Random) -> Taken:
    """Weights by others: `.pth`, `.h5`, `.keras` and `.safetensors`."""
    import pickle
    import zipfile

    import h5py
    import torch
    from safetensors.numpy import save_file

    from stockpot.backbones.weight_files import read_weights

    place = sandbox / "project"
    array = np.ones((3, 3), np.float32)
    save_file({"conv1.weight": array}, place / "whole.safetensors")
    torch.save({"state_dict": {"conv1.weight": torch.ones(3)}}, place / "whole.pth")
    with h5py.File(place / "whole.h5", "w") as file:
        group = file.create_group("block1_conv1")
        group.attrs["weight_names"] = ["kernel"]
        group["kernel"] = np.ones((3, 3, 3, 3), np.float32)
    with zipfile.ZipFile(place / "whole.keras", "w") as archive:
        archive.writestr("config.json", json.dumps({"config": {"layers": []}}))
        archive.write(place / "whole.h5", "model.weights.h5")
    with (
        zipfile.ZipFile(place / "bomb.keras", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("config.json", "w", force_zip64=True) as entry,
    ):
        for _ in range(4000):
            entry.write(bytes(2**20))
    wholes = {file.suffix: file.read_bytes() for file in place.glob("whole.*")}

    class Runs:
        def __reduce__(self) -> Any:
            return open, (str(sandbox / "outside" / "made"), "w")

    evil = io.BytesIO()
    torch.save({"a": Runs()}, evil)

    def take(suffix: str, data: bytes) -> None:
        file = place / f"weights{suffix}"
        file.write_bytes(data)
        read_weights(file, "xception")

    yield "", lambda: None
    yield "bomb .keras", partial(take, ".keras", (place / "bomb.keras").read_bytes())
    yield "pickle that runs", partial(take, ".pth", evil.getvalue())
    yield "pickle, old", partial(take, ".pth", pickle.dumps(Runs()))
    while True:
        suffix = chance.choice(list(wholes))
        yield f"damaged {suffix}", partial(take, suffix, damaged(chance, wholes[suffix]))


ENTRANCES: dict[str, Entrance] = {
    one.__name__: one for one in (photo, folder, journal, run, model, checkpoint, weights)
}

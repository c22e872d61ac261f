"""What an enemy could send; `benchmarks/hostile.py` makes it, `docs/security.md` says what is defended."""

import dataclasses
import json
import os
import random
import re
import struct
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Literal, NotRequired, TypedDict

import numpy as np
import pytest
import torch
from conftest import ROOT
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

sys.path.insert(0, str(ROOT / "benchmarks"))

import hostile_network
from hostile import feed, run
from hostile_entrances import tiny_graph, tiny_model

from stockpot import project as disk
from stockpot.backbones.keras_files import MOST_TEXT
from stockpot.backbones.weight_files import read_weights
from stockpot.curation.journal import Journal, Move
from stockpot.errors import (
    ModelError,
    ProjectError,
    RecipeError,
    StockpotError,
    UnreadablePhoto,
    WeightsError,
)
from stockpot.learning.checkpoint import Checkpoint
from stockpot.learning.models import graph_of, load_model
from stockpot.learning.predictions import open_table, record
from stockpot.model.model_file import read_model
from stockpot.photos.index import index_project
from stockpot.photos.intake import bring_in
from stockpot.photos.photo import fingerprint
from stockpot.photos.pixels import decode, read_photo
from stockpot.photos.splits import read_split
from stockpot.publishing.folder import surest_photo
from stockpot.shapes import Misshapen, checked, made
from stockpot.web.app import create_app

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits and audit as Linux has them")

quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)


def test_a_thousand_inputs_are_taken_or_refused():
    """Where no trained run and no slow client is needed: in time, in memory, and nothing outside is touched."""
    counts = run(1000, 1, ("photo", "folder", "model", "checkpoint", "manifest", "list", "engine"))
    assert [failure for one in counts.values() for failure in one.failures] == []
    assert sum(one.inputs for one in counts.values()) >= 995
    for name, one in counts.items():
        assert one.taken and one.refused and one.taken + one.refused == one.inputs, name


@pytest.mark.parametrize(
    ("does", "says"),
    [
        ("raise KeyError('x')", "KeyError"),
        ("open(outside / 'made', 'w').close()", "touched"),
        ("(outside / 'secret.txt').rename(outside / 'b')", "touched"),
        ("__import__('subprocess').run(['true'])", "touched"),
        ("__import__('time').sleep(99)", "took more than"),
        ("bytes(2**40)", "MemoryError"),
        ("__import__('os').abort()", "ended with -6"),
    ],
)
def test_the_runner_sees_what_goes_wrong(tmp_path, monkeypatch, does, says):
    """Each kind of failure, by an entrance that has it: a runner that saw none would always be content."""
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib, sys\n"
        f"sys.path.insert(0, {str(ROOT / 'benchmarks')!r})\n"
        "if '--child' in sys.argv:\n"
        "    import hostile_entrances\n"
        "    def bad(sandbox, chance):\n"
        "        outside = sandbox / 'outside'\n"
        "        yield '', None\n"
        f"        yield 'bad', lambda: exec({does!r}, {{'outside': outside}})\n"
        "        while True:\n"
        "            yield 'good', lambda: None\n"
        "    hostile_entrances.ENTRANCES['photo'] = bad\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setattr("hostile.SECONDS", 2.0)
    counted = feed("photo", 3, 0, tmp_path / "sandbox")
    assert any(says in failure for failure in counted.failures), counted.failures
    assert (counted.inputs, counted.taken) == (3, 2)


@quick
@given(
    st.binary(max_size=200),
    st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"II*\0", b"BM"]),
)
def test_bytes_are_a_photo_or_unreadable(data, start):
    """Nothing else is raised, whatever a file begins with."""
    try:
        assert decode(start + data).mode == "RGB"
    except UnreadablePhoto as error:
        assert str(error)


class Shape(TypedDict):
    """What the next test checks."""

    name: str
    counts: list[int]
    share: NotRequired[float]
    side: NotRequired[Literal["left", "right"]]


def _fits(value: object) -> bool:
    """Say by hand what `Shape` says."""
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return False
    counts, share, side = value.get("counts"), value.get("share", 0), value.get("side", "left")
    whole = isinstance(counts, list) and all(type(one) is int for one in counts)
    finite = type(share) in (int, float) and abs(share) < float("inf")
    return whole and finite and type(side) is str and side in ("left", "right")


@quick
@given(
    values
    | st.fixed_dictionaries(
        {"name": values | st.text(), "counts": values | st.lists(st.integers())},
        optional={"share": values, "side": values | st.sampled_from(["left", "right"])},
    )
)
def test_a_shape_is_what_its_types_say(value):
    """Against the same said by hand."""
    try:
        assert checked(value, Shape) is value and _fits(value)
    except Misshapen:
        assert not _fits(value)


def test_a_dataclass_is_made_of_its_fields_alone():
    """One that is missing, unknown or of another type is named."""

    @dataclasses.dataclass
    class Point:
        x: int
        y: float = 0.0

    assert made(Point, {"x": 1}) == Point(1)
    for wrong, match in (
        ({}, "no 'x'"),
        ({"x": 1, "z": 2}, "z is unknown"),
        ({"x": True}, "expected int"),
        (3, "dict"),
    ):
        with pytest.raises(Misshapen, match=match):
            made(Point, wrong)


@quick
@given(
    st.lists(values | st.fixed_dictionaries({"sha256": st.text(), "label": values | st.text()}), max_size=4)
)
def test_a_journal_is_read_or_named(rows):
    """Rows of the shape come back; any other is refused with its line."""

    class Row(TypedDict):
        sha256: str
        label: str

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "a.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        good = [isinstance(r, dict) and {type(r.get("sha256")), type(r.get("label"))} == {str} for r in rows]
        if all(good):
            assert disk.read_lines(file, Row) == rows
        else:
            with pytest.raises(ProjectError, match=f"line {good.index(False) + 1} is damaged"):
                disk.read_lines(file, Row)


def test_json_that_is_nested_too_deeply_is_one_line(tmp_path):
    """A hundred thousand brackets."""
    (tmp_path / "a.json").write_text("[" * 100_000)
    with pytest.raises(ProjectError, match="nested too deeply"):
        disk.read_json(tmp_path / "a.json")
    assert disk.read_lines(tmp_path / "a.json") == []


@pytest.fixture
def project(tmp_path, class_folders) -> disk.Project:
    bring_in(tmp_path / "pets", class_folders)
    return disk.open_project(tmp_path / "pets")


def test_pipes_devices_and_terabytes_end(project):
    """They are named among the refused, at once."""
    os.mkfifo(project.photos / "cat" / "pipe.jpg")
    (project.photos / "cat" / "zero.jpg").symlink_to("/dev/zero")
    with (project.photos / "cat" / "huge.jpg").open("wb") as file:
        file.truncate(2**40)
    reasons = {file.path.name: file.reason for file in index_project(project).refused}
    assert reasons["pipe.jpg"] == reasons["zero.jpg"] == "cannot be opened (not an ordinary file)"
    assert "more than 256 MB" in reasons["huge.jpg"]
    with pytest.raises(UnreadablePhoto, match="not an ordinary file"):
        read_photo(project.photos / "cat" / "pipe.jpg")


@pytest.mark.parametrize("field", ["source", "target"])
@pytest.mark.parametrize(
    "way", ["../outside/secret", "photos/../../outside/secret", "photos/link/secret", "/etc/x", "a\0"]
)
def test_a_journal_moves_nothing_out_or_in(project, field, way):
    """A line of `curation.jsonl` by somebody else, by `..`, by a link, absolute: nothing is moved."""
    outside = project.folder.parent / "outside"
    outside.mkdir()
    (outside / "secret").write_text("mine")
    (project.photos / "link").symlink_to(outside)
    inside = sorted(project.photos.glob("cat/*"))[0]
    row = dataclasses.asdict(Move(fingerprint(b"mine"), "0", "photos/cat/x", "set-aside/cat/x"))
    if field == "target":
        row |= {"source": f"photos/cat/{inside.name}", "sha256": fingerprint(inside.read_bytes())}
    disk.append_lines(project.journal, [row | {field: way, "step": 1}])
    with pytest.raises(ProjectError, match="leads out of"):
        Journal(project).finish()
    assert (
        (outside / "secret").read_text() == "mine"
        and inside.exists()
        and list(outside.iterdir()) == [outside / "secret"]
    )


def test_a_class_that_is_a_link_out_gets_no_photos(project, class_folders):
    """What is brought in stays in the project."""
    outside = project.folder.parent / "outside"
    outside.mkdir()
    (project.photos / "owl").symlink_to(outside)
    (class_folders / "owl").mkdir()
    (class_folders / "owl" / "a.png").write_bytes(b"new")
    with pytest.raises(ProjectError, match="leads out of"):
        bring_in(project.folder, class_folders)
    assert list(outside.iterdir()) == []


def _told(model: Path, **changes: object) -> None:
    """Change what a model file says of itself."""
    length = struct.unpack("<Q", model.read_bytes()[:8])[0]
    said = json.loads(json.loads(model.read_bytes()[8 : 8 + length])["__metadata__"]["stockpot"])
    save_file(load_file(model), model, {"stockpot": json.dumps(said | changes)})


@pytest.mark.parametrize("name", ["../made", "/made", "..", "a/b", "a\\b", "a\0b", "\ud800", ""])
def test_class_names_of_a_model_lead_nowhere(tmp_path, name):
    """`--sort-into` makes folders of them."""
    model = tiny_model(tmp_path / "model.safetensors")
    _told(model, class_names=["cat", name])
    with pytest.raises(ModelError, match="names that folders can have"):
        read_model(model)


def test_a_model_writes_its_graph_nowhere_else(tmp_path, monkeypatch):
    """Its fingerprint names a file of the cache: no path, and not that of another model's graph."""
    monkeypatch.setattr(disk, "user_cache", lambda: tmp_path / "cache")
    model = tiny_model(tmp_path / "model.safetensors")
    honest = graph_of(read_model(model))
    other = tiny_model(tmp_path / "other.safetensors", tiny_graph() + b"\x32\0")
    assert read_model(other).key == read_model(model).key and graph_of(read_model(other)) != honest
    assert honest.read_bytes() == tiny_graph()
    _told(model, fingerprint="../../made")
    with pytest.raises(ModelError, match="fingerprint"):
        read_model(model)
    assert {path.name for path in tmp_path.iterdir()} == {"cache", "model.safetensors", "other.safetensors"}


def test_an_honest_model_sorts_photos(tmp_path, monkeypatch, make_photo):
    """What the two tests above refuse works where names are names."""
    monkeypatch.setattr(disk, "user_cache", lambda: tmp_path / "cache")
    predictor = load_model(tiny_model(tmp_path / "model.safetensors"))
    with open_table(tmp_path / "a.csv", predictor.model.class_names) as table:
        record(predictor.predict([make_photo(tmp_path / "a.png")]), table, tmp_path / "sorted", 0.0)
    assert len(list((tmp_path / "sorted").glob("*/a.png"))) == 1


def test_a_graph_of_something_else_is_refused(tmp_path, monkeypatch):
    """It must take pixels and give features and maps."""
    monkeypatch.setattr(disk, "user_cache", lambda: tmp_path / "cache")
    graph = tiny_graph().replace(b"features", b"feathers")
    with pytest.raises(ModelError, match="no graph of a backbone"):
        load_model(tiny_model(tmp_path / "model.safetensors", graph))


def test_a_bomb_of_a_preprocessing_is_refused(tmp_path):
    """An input of a million pixels a side would take terabytes."""
    model = tiny_model(tmp_path / "model.safetensors")
    shape = {"mean": [0, 0, 0], "std": [1, 1, 1], "resize": "pad", "interpolation": "bicubic"}
    _told(model, preprocessing=shape | {"image_size": 10**6})
    with pytest.raises(ModelError, match="image_size is 1000000"):
        read_model(model)


@quick
@given(st.dictionaries(st.sampled_from(["class_names", "seed", "validation", "sides", "x"]), values))
def test_a_split_by_somebody_else_is_used_or_refused(value):
    """Whatever `split.json` says, it is the split, or one line."""
    with tempfile.TemporaryDirectory() as folder:
        project = disk.create_project(folder)
        disk.write_json(project.split_file, value)
        try:
            assert read_split(project) == value
        except StockpotError as error:
            assert "split.json is damaged" in str(error)


def test_a_table_of_predictions_leads_to_no_other_photo(tmp_path, monkeypatch):
    """`publish` shows the surest photo of a run: only one of the project."""
    project = disk.create_project(tmp_path / "p")
    model = tiny_model(project.runs / "probe" / "model.safetensors")
    (tmp_path / "private.jpg").write_bytes(b"x")
    table = "path,truth,label,probability\n../private.jpg,cat,cat,1.0\n"
    (model.parent / "predictions.csv").write_text(table)
    assert surest_photo(read_model(model)) is None


def test_nothing_that_runs_code_is_read():
    """No pickle, no YAML, no eval of what a file says; torch's files by `weights_only`."""
    found = {}
    for file in (ROOT / "src").rglob("*.py"):
        text = file.read_text("utf-8")
        words = r"pickle\.load|import pickle|allow_pickle|yaml\.|marshal|shelve|(?<![.\w])(?:eval|exec)\("
        name = file.relative_to(ROOT / "src" / "stockpot").as_posix()
        found[name] = re.findall(
            words + r"|os\.system|shell=True|(?<!safetensors\.)torch\.load\([^)]*\)", text
        )
    assert {name: calls for name, calls in found.items() if calls} == {
        "backbones/weight_files.py": ['torch.load(path, map_location="cpu", weights_only=True)']
    }


def test_the_documents_name_tests_that_are_there():
    """Every test that `docs/security.md` points to exists."""
    names = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "security.md").read_text("utf-8")))
    files = list((ROOT / "tests").glob("*.py"))
    tests = "".join(file.read_text("utf-8") for file in files)
    defined = {file.stem for file in files} | set(re.findall(r"def (test_\w+)", tests))
    assert len(names) > 15 and names <= defined, names - defined


def test_a_keras_file_that_is_a_bomb_is_refused(tmp_path):
    """Seventeen million zeros in seventeen thousand bytes."""
    with zipfile.ZipFile(tmp_path / "a.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", bytes(MOST_TEXT + 1))
        archive.writestr("model.weights.h5", b"")
    with pytest.raises(WeightsError, match=r"config.json has 16,777,217 bytes"):
        read_weights(tmp_path / "a.keras", "xception")


def test_a_damaged_checkpoint_is_one_line(tmp_path):
    """Moments of another shape, or missing, and figures of no epoch; the whole one is taken up."""
    layer = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    kept = Checkpoint(tmp_path / "a.safetensors", {"recipe": "x"})
    kept.save(dict(layer.state_dict()), [optimizer], [{"number": 1}])
    whole, told = load_file(kept.path), safe_open(kept.path, "numpy").metadata()
    assert kept.read([torch.optim.AdamW(layer.parameters())]) is not None
    name = "optimizer.0.0.exp_avg"
    wrong = [whole | {name: np.ones(7, np.float32)}, {k: v for k, v in whole.items() if k != name}]
    wrong += [{k.replace("0.1.", to): v for k, v in whole.items()} for to in ("0.9.", "0.x.")]
    for tensors in wrong:
        save_file(tensors, kept.path, told)
        with pytest.raises(RecipeError, match="is damaged"):
            kept.read([torch.optim.AdamW(layer.parameters())])
    save_file(whole, kept.path, told | {"state": "[" * 100_000})
    with pytest.raises(RecipeError, match="nested too deeply"):
        kept.read([torch.optim.AdamW(layer.parameters())])


def test_a_request_of_another_shape_is_one_line(tmp_path):
    """NaN, bytes that are no text, other types: said without saying them back, which they cannot be."""
    disk.create_project(tmp_path / "p")
    client = TestClient(create_app(tmp_path / "p"), base_url="http://localhost")
    own = {"Origin": "http://localhost"}
    for body, kind in (
        (b'{"key": NaN}', "application/json"),
        (b"\xff", "text/plain"),
        (b"[]", "application/json"),
    ):
        answer = client.post("/api/review/decisions", content=body, headers=own | {"Content-Type": kind})
        assert answer.status_code == 422 and list(answer.json()) == ["error"], answer.text


def test_what_is_no_http_is_answered_once(tmp_path):
    """A chunk of no size after a good head: one answer, and nothing in the log but one line."""
    inputs = hostile_network.service(_sandbox(tmp_path), random.Random(0))
    next(inputs)
    ask = next(inputs)[1].func
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert ask(head + b"zz\r\n") == "refused"


def _sandbox(folder: Path) -> Path:
    (folder / "project").mkdir()
    return folder

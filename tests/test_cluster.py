"""Everything runs as its user runs it: processes of their own, on two nodes of a real cluster."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pyarrow as pa
import pytest
from conftest import losses
from moto.server import ThreadedMotoServer
from pyarrow import fs, parquet

from stockpot.cluster import predicting
from stockpot.cluster.parts import Job, Part
from stockpot.cluster.storage import OutOfReach
from stockpot.errors import FolderError
from stockpot.learning.models import load_model
from stockpot.learning.predictions import columns, row

ROWS, PART = 200, 16
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_AUTH_MODE": "disabled",  # else the first node wants a token that the second does not have
}
os.environ.update(QUIET)


@pytest.fixture(scope="module")
def store():
    """What the environment must say so that a local server is S3."""
    server = ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}
    yield {"AWS_ENDPOINT_URL": f"http://{host}:{port}", **keys}
    server.stop()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@dataclass(frozen=True)
class Nodes:
    """Two nodes with a processor each, as `ray start` starts them."""

    address: str  # for its nodes
    client: str  # for others
    processes: tuple[subprocess.Popen[str], ...]

    def workers(self, word: str) -> list[psutil.Process]:
        """Those of Ray's processes on both nodes that have a word in their title."""
        found = []
        for node in self.processes:
            for one in psutil.Process(node.pid).children(recursive=True):
                with suppress(psutil.NoSuchProcess):  # it ends just now
                    found += [one] if any(word in title for title in one.cmdline()) else []
        return found


def end(node: subprocess.Popen[str]) -> None:
    """At once, with all that it has started; a node that is asked to end takes 16 s."""
    if node.poll() is None:
        for one in (*psutil.Process(node.pid).children(recursive=True), node):
            one.kill()
        node.communicate()


@pytest.fixture(scope="module")
def cluster(store):
    """Two nodes that were started by hand."""
    port, client = free_port(), free_port()
    head = ["--head", "--port", port, "--ray-client-server-port", client, "--include-dashboard=false"]
    with ExitStack() as ends:
        nodes = []
        # an address of its own: else a command may be connected to either, also to the one that is killed
        other = ["--address", f"127.0.0.1:{port}", "--node-ip-address", "127.0.0.2"]
        for given in (head, other):
            start = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus", 1, *given]
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
            path = os.pathsep.join(
                [str(Path(sys.executable).parent), os.environ["PATH"]]
            )  # Ray calls `python`
            environment = {**os.environ, **store, "PATH": path}
            node = subprocess.Popen(list(map(str, start)), **pipes, env=environment)
            ends.callback(end, node)
            said = []
            for line in node.stdout:
                said.append(line)
                if "Ray runtime started" in line:
                    break
            else:
                pytest.fail("".join(said))
            nodes.append(node)
        yield Nodes(f"127.0.0.1:{port}", f"ray://127.0.0.1:{client}", tuple(nodes))


@pytest.fixture(scope="module")
def nodes(cluster) -> str:
    """The cluster's address for its nodes."""
    return cluster.address


@pytest.fixture(scope="module")
def kitchen(lab, tmp_path_factory) -> Path:
    """A manifest of 200 photos, 10 of them bad in one way each, and a model."""
    folder = tmp_path_factory.mktemp("cluster")
    photos = sorted((lab.study.project / "photos").rglob("*.png"))
    (folder / "cut.png").write_bytes(photos[0].read_bytes()[:900])
    (folder / "page.jpg").write_text("<html>")
    (folder / "empty.jpg").write_bytes(b"")
    bad = [
        str(folder / "gone.jpg"),
        "cut.png",
        "page.jpg",
        "empty.jpg",
        "",
        None,
        str(folder),
        "magic://x/y.jpg",
    ]
    bad += ["s3://[/x.jpg", "a\0b.jpg"]
    names = [bad[i // 20] if i % 20 == 7 else str(photos[i % len(photos)]) for i in range(ROWS)]
    parquet.write_table(pa.table({"uri": names, "other": range(ROWS)}), folder / "photos.parquet")
    (folder / "model").symlink_to(lab.study.project / "runs" / "cifar")
    return folder


def command(kitchen: Path, nodes: str, output: object, *more: object) -> list[str]:
    """The command line; what comes later overrides what came before."""
    given = ["predict", kitchen / "model", "--on", nodes, "--manifest", kitchen / "photos.parquet"]
    given += ["--output", output, "--part-rows", PART, "--json", *more]
    return [sys.executable, "-m", "stockpot", *map(str, given)]


def run(*arguments: object, env: dict[str, str] | None = None):
    environment = {**os.environ, **(env or {})}
    return subprocess.run(command(*arguments), capture_output=True, text=True, env=environment)


def rows_of(folder: Path) -> list[dict[str, object]]:
    return [row for file in sorted(folder.glob("part-*")) for row in parquet.read_table(file).to_pylist()]


def without_kept(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    kept = ("features", "maps", "maps_shape")
    return [{name: one[name] for name in one if name not in kept} for one in rows]


def started(kitchen: Path, nodes: str, output: Path, parts: int, rows: int = 4) -> subprocess.Popen[str]:
    """The command in the middle of its work."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command(kitchen, nodes, output, "--part-rows", rows), **pipes)
    while len(list(output.glob("part-*"))) < parts:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    return process


@pytest.fixture(scope="module")
def done(kitchen, nodes) -> tuple[Path, dict[str, object], str]:
    """A folder of answers, what was said of it as JSON, and what on stderr."""
    result = run(kitchen, nodes, kitchen / "done", "--keep-features", "--keep-maps")
    assert result.returncode == 0, result.stderr
    return kitchen / "done", json.loads(result.stdout), result.stderr


def test_every_row_is_accounted_for_and_says_what_predict_says(kitchen, done):
    """In the order of the manifest; bad rows are rows with an error; Ray says nothing."""
    folder, totals, said = done
    names = parquet.read_table(kitchen / "photos.parquet")["uri"].to_pylist()
    rows = rows_of(folder)
    assert [row["row"] for row in rows] == list(range(ROWS))
    assert [row["uri"] for row in rows] == names
    assert (totals["rows"], totals["errors"], totals["parts"]) == (ROWS, 10, 13)
    assert all(bool(one["error"]) == (one["row"] % 20 == 7) for one in rows)
    predictor = load_model(kitchen / "model")
    labels = columns(predictor.model.class_names)[1:]
    good = [i for i, name in enumerate(names) if not rows[i]["error"] or name == str(kitchen / "gone.jpg")]
    for i, answer in zip(good, predictor.predict(Path(names[i]) for i in good), strict=True):
        assert [rows[i][label] for label in labels] == row(answer, predictor.model.class_names)[1:]
    assert [line.split(":")[0] for line in said.splitlines()] == [
        "predicting",
        "model",
        "done 190, refused 10, in 13 parts, 0 of them were there; next",
    ]


def test_two_nodes_share_the_work(done):
    """Both have made photos."""
    by_node = done[1]["photos_by_node"]
    assert len(by_node) == 2 and sum(by_node.values()) == ROWS


@pytest.mark.parametrize("how", ["from outside", "local"])
def test_a_cluster_elsewhere_and_one_of_its_own_say_the_same(kitchen, cluster, done, tmp_path, how):
    """Through Ray Client, and on a cluster that is started for the command and stopped at its end."""
    on = cluster.client if how == "from outside" else "local"
    result = run(kitchen, on, tmp_path / "out")
    assert result.returncode == 0, result.stderr
    assert rows_of(tmp_path / "out") == without_kept(rows_of(done[0]))


@pytest.fixture(scope="module")
def project(lab, tmp_path_factory) -> Path:
    """A project that has a run on the small network, and nothing cached."""
    copy = tmp_path_factory.mktemp("trained") / "solar"
    source = lab.study.project
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("cache", "probe", "scratch", "tail"))
    return copy


def stockpot(*words: object) -> subprocess.Popen[str]:
    """A command in the middle of its work."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-m", "stockpot", *map(str, words)], **pipes, env=environment)


def test_two_workers_learn_what_one_process_learns_though_one_is_killed(project, cluster, nodes):
    """Each has half of every batch; after SIGKILL all go on from the last epoch that was kept."""
    recipe = [
        "train",
        project,
        "--recipe",
        "fine-tune",
        "--start",
        project / "runs" / "cifar",
        "--epochs",
        "40",
    ]
    recipe += ["--learning-rate", "3e-5", "--precision", "float32"]
    process = stockpot(*recipe, "--name", "two", "--on", nodes, "--workers", "2")
    while not (project / "runs" / "two" / "checkpoint.safetensors").exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    cluster.workers("RayTrainWorker")[-1].kill()
    _, said = process.communicate()
    assert process.returncode == 0, said
    assert "A worker died; all go on from the last checkpoint." in said
    alone = stockpot(*recipe, "--name", "one")
    _, said = alone.communicate()
    assert alone.returncode == 0, said
    assert losses(project, "two") == pytest.approx(losses(project, "one"), rel=1e-3)
    made = [json.loads((project / "runs" / name / "environment.json").read_text()) for name in ("one", "two")]
    assert [one["processes"] for one in made] == [1, 2]


def test_ctrl_c_ends_a_training_from_outside_after_its_batch(project, cluster):
    """Through Ray Client; the run is completed with the epochs that were finished."""
    recipe = ["--recipe", "fine-tune", "--start", project / "runs" / "cifar", "--epochs", "4000"]
    process = stockpot("train", project, *recipe, "--name", "cut", "--on", cluster.client, "--workers", "2")
    while not (project / "runs" / "cut" / "checkpoint.safetensors").exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    result = json.loads((project / "runs" / "cut" / "evaluation.json").read_text())
    assert result["interrupted"] and 2 <= len(losses(project, "cut")) < 8000


ODD = """
import sys
from pathlib import Path
import torch
from torch import nn
from stockpot import Recipe
from stockpot.cluster.training import on_ray
from stockpot.learning.checkpoint import Checkpoint
from stockpot.learning.compute import Fitting
from stockpot.learning.inputs import fixed
from stockpot.progress import silent

class Odd(nn.Linear):
    def forward(self, x):
        if torch.distributed.is_initialized() and torch.distributed.get_rank():
            raise ValueError("odd")
        return super().forward(x)

data = fixed(torch.randn(12, 5), torch.arange(12) % 3)
recipe = Recipe.from_scratch(batch_norm="inference")
with on_ray(sys.argv[1], workers=2) as compute:
    compute.fit(Fitting(Odd(5, 3), data, data, recipe, Checkpoint(Path("none"), {}), bool, silent, print))
"""


def test_an_error_of_one_worker_ends_the_training(nodes, tmp_path):
    """As it is; it is not tried again, and the others do not wait for that one."""
    script = tmp_path / "script.py"
    script.write_text(ODD)
    done = subprocess.run([sys.executable, script, nodes], capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == "ValueError: odd", done.stderr


def cached(project: Path) -> dict[tuple[str, str], bytes]:
    """The features of every photo, by backbone and sha256."""
    rows = {}
    for index in (project / "cache" / "features").glob("*/index.jsonl"):
        names = [json.loads(line)["sha256"] for line in index.read_text().splitlines()[1:]]
        data = (index.parent / "features.f32").read_bytes()
        size = len(data) // len(names)
        rows |= {(index.parent.name, name): data[i * size : (i + 1) * size] for i, name in enumerate(names)}
    return rows


def test_a_study_computes_its_features_on_the_cluster(project, lab, nodes):
    """The same bits as here; a head learns here, and what learns from whole batches does too, which is said."""
    process = stockpot("study", project, "--recipes", "scratch,cifar", "--on", nodes)
    _, said = process.communicate()
    assert process.returncode == 0, said
    ours, theirs = (cached(folder) for folder in (project, lab.study.project))
    both = ours.keys() & theirs.keys()  # other tests have trained networks here that are not there
    assert len(both) >= 48 and all(ours[one] == theirs[one] for one in both)
    assert "BatchNorm learns from whole batches: this training is done here." in said


def test_features_and_maps_belong_together(kitchen, done):
    """The mean of a map is what the head makes of the features, but for half precision."""
    import numpy as np

    weight = load_model(kitchen / "model").model.weight
    for one in rows_of(done[0])[:9]:
        if one["error"]:
            assert one["features"] is one["maps"] is None
            continue
        means = np.array(one["maps"], np.float32).reshape(one["maps_shape"]).mean((1, 2))
        assert np.allclose(means, weight @ np.array(one["features"], np.float32), atol=0.02)


def test_what_is_done_is_not_done_again(kitchen, nodes, done, tmp_path):
    """The driver is killed; finished parts keep their bytes and times, and the answers are those of before."""
    process = started(kitchen, nodes, tmp_path / "out", 5)
    process.kill()
    process.communicate()
    time.sleep(1)  # the cluster notices
    before = {
        path: (path.stat().st_mtime_ns, path.read_bytes()) for path in (tmp_path / "out").glob("part-*")
    }
    assert 5 <= len(before) < 50
    result = run(kitchen, nodes, tmp_path / "out", "--part-rows", "4")
    assert json.loads(result.stdout)["parts_before"] == len(before)
    assert before == {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in before}
    assert rows_of(tmp_path / "out") == without_kept(rows_of(done[0]))


def test_a_killed_worker_loses_nothing(kitchen, cluster, nodes, done, tmp_path):
    """Its part goes to another, and that is said."""
    process = started(kitchen, nodes, tmp_path / "out", 5)
    workers: list[psutil.Process] = []
    while not workers:  # in the middle of a part
        workers = cluster.workers("ray::_Worker.make")
    workers[0].kill()
    stdout, stderr = process.communicate()
    assert process.returncode == 0, stderr
    assert "A worker died making part" in stderr
    assert json.loads(stdout)["rows"] == ROWS
    assert without_kept(rows_of(tmp_path / "out")) == without_kept(rows_of(done[0]))


def test_ctrl_c_keeps_what_is_done(kitchen, nodes, tmp_path):
    """Within seconds, with one line."""
    process = started(kitchen, nodes, tmp_path / "out", 3, rows=1)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 130
    assert stderr.splitlines()[-1].startswith("Stopped. What was finished is kept")
    assert len(list((tmp_path / "out").glob("part-*"))) >= 3


def test_a_part_that_lost_rows_is_found(kitchen, nodes, done, tmp_path):
    """Cut off, or another part in its place: a failure that names it, and a remedy that works."""
    shutil.copytree(done[0], tmp_path / "out")
    keep = ("--keep-features", "--keep-maps")
    part = tmp_path / "out" / "part-0000003.parquet"
    whole = part.read_bytes()
    for data in (whole[:-100], b"", (tmp_path / "out" / "part-0000004.parquet").read_bytes()):
        part.write_bytes(data)
        result = run(kitchen, nodes, tmp_path / "out", *keep)
        assert result.returncode == 1
        assert "part-0000003.parquet" in result.stderr and "the same command again" in result.stderr
    part.unlink()
    result = run(kitchen, nodes, tmp_path / "out", *keep)
    assert json.loads(result.stdout)["parts_before"] == 12
    assert part.read_bytes() == whole


def test_object_storage_holds_manifest_photos_and_answers(kitchen, nodes, store, done, tmp_path):
    """Buckets of a server that speaks S3; the same rows as with files."""
    parts = store["AWS_ENDPOINT_URL"].split("://")
    keys = {"access_key": "key", "secret_key": "secret", "region": "us-east-1"}
    bucket = fs.S3FileSystem(endpoint_override=parts[1], scheme=parts[0], allow_bucket_creation=True, **keys)
    bucket.create_dir("photos")
    bucket.create_dir("answers")
    rows = [one for one in rows_of(done[0]) if not one["error"]][:40]
    for one in rows:
        with bucket.open_output_stream(f"photos/set/{one['row']} #?%20.png") as stream:
            stream.write(Path(one["uri"]).read_bytes())
    names = [
        f"{one['row']} #?%20.png" if one["row"] % 2 else f"s3://photos/set/{one['row']} #?%20.png"
        for one in rows
    ]
    parquet.write_table(
        pa.table({"uri": [*names, "s3://photos/gone.png"]}), "photos/set/m.parquet", filesystem=bucket
    )
    given = ("--manifest", "s3://photos/set/m.parquet", "--part-rows", "16")
    for before in (0, 3):
        result = run(kitchen, nodes, "s3://answers/food", *given, env=store)
        assert result.returncode == 0, result.stderr
        assert json.loads(result.stdout)["parts_before"] == before
    found = [
        one
        for info in sorted(bucket.get_file_info(fs.FileSelector("answers/food")), key=lambda info: info.path)
        if info.base_name.startswith("part-")
        for one in parquet.read_table(info.path, filesystem=bucket).to_pylist()
    ]
    ours = ("row", "uri", "error")
    for one, expected in zip(found[:-1], rows, strict=True):
        assert {name: one[name] for name in one if name not in ours} == {
            name: expected[name] for name in one if name not in ours
        }
    assert found[-1]["error"] == "cannot be opened (No such file or directory)"
    result = run(kitchen, nodes, "s3://nowhere/food", *given, env=store)
    assert result.returncode == 1 and result.stderr.startswith("Error: s3://nowhere/food cannot be")


def test_storage_that_is_away_is_not_a_bad_photo(kitchen, tmp_path, monkeypatch):
    """A part of which nothing can be had is not written; one photo, or something unforeseen, is a bad row."""
    model = load_model(kitchen / "model")
    worker = predicting._Worker(1, "cpu")
    worker.predictor, worker.folder = model, str(tmp_path)
    worker.job = Job("", "", 2, 2, False, False)
    photo = next((kitchen / "model").resolve().parents[1].glob("photos/*/*.png")).read_bytes()

    def fetch(name: str) -> bytes:
        if name.endswith("away"):
            raise OutOfReach("cannot be opened (503)")
        if name.endswith("odd"):
            raise RuntimeError("odd")
        return photo

    monkeypatch.setattr(predicting, "fetch", fetch)
    with pytest.raises(
        FolderError, match=r"No photo of part 0 can be had, the first cannot be opened \(503\)"
    ):
        worker.table(Part(0, ["1 away", "2 away"]))
    errors = worker.table(Part(0, ["1 away", "good"]))["error"].to_pylist()
    assert errors == ["cannot be opened (503)", ""]
    assert worker.table(Part(0, ["odd"]))["error"].to_pylist() == ["cannot be read (RuntimeError: odd)"]


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        (["--part-rows", "17"], 2, "is of another job (other part_rows): give a new --output"),
        (["--keep-maps"], 2, "is of another job (other features): give a new --output"),
        (["--manifest", "{}/more.parquet"], 2, "is of another job (other manifest, rows)"),
        (["--output", "{}"], 2, "holds something else"),
        (["--manifest", "{}/none.parquet"], 1, "There is no manifest"),
        (["--manifest", "{}/page.jpg"], 1, "cannot be read as Parquet"),
        (["--manifest", "{}/column.parquet"], 1, "needs a column `uri` of text"),
        (["--manifest", "{}/empty.parquet"], 2, "names no photo"),
        (["--output", "{}/new", "--workers", "3"], 2, "3 workers need a processor each and Ray has 2"),
        (["--output", "{}/new2", "--workers", "0"], 2, "workers is 0"),
        (["--output", "{}/new3", "--part-rows", "0"], 2, "part_rows is 0"),
        (["--output", "{}/new4", "--on", "127.0.0.1:9"], 2, "No Ray cluster answers at 127.0.0.1:9"),
        (["--output", "magic://x"], 2, "is no place that can be used"),
        (["{}/page.jpg"], 2, "--on needs --manifest"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(kitchen, nodes, done, more, code, words):
    """Before anything is computed, with a remedy."""
    parquet.write_table(pa.table({"uri": ["a.jpg"]}), kitchen / "more.parquet")
    parquet.write_table(pa.table({"path": ["a.jpg"]}), kitchen / "column.parquet")
    parquet.write_table(pa.table({"uri": pa.array([], pa.string())}), kitchen / "empty.parquet")
    keep = [] if "--keep-maps" in more else ["--keep-features", "--keep-maps"]
    result = run(kitchen, nodes, done[0], *keep, *(word.format(kitchen) for word in more))
    assert result.returncode == code, result.stderr
    assert words in result.stderr and len(result.stderr.splitlines()) == 1


def test_a_node_that_does_not_come_back(project, cluster, nodes):
    """The training goes on with the workers that there is still room for. The last test: the node is gone."""
    recipe = ["--recipe", "fine-tune", "--start", project / "runs" / "cifar", "--epochs", "40"]
    recipe += ["--learning-rate", "3e-5", "--precision", "float32"]
    process = stockpot("train", project, *recipe, "--name", "left", "--on", nodes, "--workers", "2")
    while not (project / "runs" / "left" / "checkpoint.safetensors").exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    end(cluster.processes[1])
    _, said = process.communicate()
    assert process.returncode == 0, said
    assert "A worker died; all go on from the last checkpoint." in said
    environment = json.loads((project / "runs" / "left" / "environment.json").read_text())
    assert environment["processes"] == 1
    assert len(losses(project, "left")) == 80

import dataclasses
import json
import os
import shutil
import subprocess
import sys

import pytest
import typer.main
from conftest import SMALL
from pyarrow import parquet
from typer.testing import CliRunner

from stockpot.cli import app
from stockpot.learning.pretraining import Pretraining
from stockpot.learning.recipes import Recipe

SMALL_OPTIONS = [
    word
    for field, value in dataclasses.asdict(SMALL).items()
    for word in (f"--{field.replace('_', '-')}", value)
]
COMMANDS = typer.main.get_command(app).commands


def run(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def broken(solar, tmp_path):
    """Projects, folders and files that are wrong in one way each."""
    (tmp_path / "empty").mkdir()
    for name in ("one-class", "few", "classes"):
        shutil.copytree(solar.project / "photos", tmp_path / name / ("" if name == "classes" else "photos"))
    for folder in sorted((tmp_path / "one-class" / "photos").iterdir())[1:]:
        shutil.rmtree(folder)
    for file in sorted((tmp_path / "few" / "photos" / "monocrystalline defective").iterdir())[4:]:
        file.write_text("not a photo")
    (tmp_path / "model.safetensors").write_bytes(solar.run.model_path.read_bytes()[:5000])
    (tmp_path / "bad.jpg").write_text("<html>")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["split", "{}/nothing"], 2, "There is no folder"),
        (["study", "{}/nothing"], 2, "--photos FOLDER"),
        (["study", "{}/empty"], 2, "is empty"),
        (["study", "{}/classes"], 2, "stockpot study classes-project --photos"),
        (["study", "{}/new", "--photos", "{}/nothing"], 1, "There is no folder"),
        (["study", "{}/one-class"], 1, "one class"),
        (["split", "{}/few"], 1, "'monocrystalline defective' has 4"),
        (["split", "{}/classes"], 2, "is not a project"),
        (["split", "{solar}", "--validation", "2"], 2, "between 0 and 1"),
        (
            ["train", "{solar}", "--recipe", "magic"],
            2,
            "choose one of: from-scratch, linear-probe, fine-tune",
        ),
        (["train", "{solar}", "--backbone", "magic"], 2, "choose one of xception"),
        (["train", "{solar}", "--recipe", "fine-tune"], 2, "give --start PROJECT/runs/probe"),
        (["train", "{solar}", "--recipe", "fine-tune", "--start", "{}/empty"], 1, "is no model"),
        (
            ["train", "{solar}", "--recipe", "fine-tune", "--start", "{solar}", "--trainable", "block99"],
            2,
            "cannot be cut before 'block99'; choose all, head, or one of: block2",
        ),
        (["train", "{solar}", "--augment", "wild"], 2, "expected none, light or strong"),
        (["train", "{solar}", "--augment", "light"], 2, "choose augment 'none', or trainable 'all'"),
        (["train", "{solar}", "--batch-norm", "training"], 2, "choose trainable 'all' or batch_norm"),
        (["train", "{solar}", "--head", "keep"], 2, "head is 'keep'"),
        (["train", "{solar}", "--views", "99"], 2, "expected at most 4"),
        (["train", "{solar}", "--label-smoothing", "1"], 2, "label_smoothing is 1.0"),
        (["study", "{solar}", "--recipes", "magic"], 2, "choose some of: scratch, cifar, probe"),
        (["study", "{solar}", "--recipes", ","], 2, "No recipe was given"),
        (["study", "{solar}", "--time-budget", "soon"], 2, "for instance 45s, 10m, 2h or none"),
        (["compare", "{}/empty"], 2, "is empty"),
        (["compare", "{}/few"], 1, "has 4"),
        (["train", "{solar}", "--epochs", "0"], 2, "epochs is 0"),
        (["train", "{solar}", "--start", "{}/bad.jpg"], 1, "cannot be read as weights"),
        (["train", "{solar}", "--epochs", "many"], 2, "Invalid value for '--epochs'"),
        (["predict", "{}/model.safetensors", "{}/bad.jpg"], 1, "is not a stockpot model or is damaged"),
        (["predict", "{}/empty", "{}/bad.jpg"], 1, "is no model"),
        (["predict", "{solar}", "{}/gone.jpg"], 1, "There is no file"),
        (["predict", "{solar}", "{}/bad.jpg"], 1, "refused 1"),
        (["explain", "{solar}", "{}/bad.jpg", "--output", "{}/out"], 1, "not an image"),
        (["evaluate", "{solar}", "{}/nothing"], 1, "There is no folder"),
        (["evaluate", "{solar}", "{}/empty"], 1, "no class folder"),
        (["report", "{}/one-class"], 1, "one class"),
        (["report", "{solar}", "--run", "best"], 2, "no run 'best'"),
        (["status", "{}/empty"], 2, "is empty"),
        (["demo", "{}/demo", "--per-class", "9999"], 2, "5 to 313"),
        (["demo", "{}/classes"], 2, "is not a project"),
        (
            ["train", "{solar}", "--backbone", "vit_tiny_patch16_224", "--start", "{}/gone.pth"],
            1,
            "no weights file",
        ),
        (["train", "{solar}", "--backbone", "cifar", "--image-size", "4"], 2, "cifar needs at least 8"),
        (["predict", "{solar}", "{}/bad.jpg", "--output", "{}/t.xlsx"], 2, "must end in .csv"),
        (["predict", "{solar}", "{}/bad.jpg", "--device", "tpu"], 2, "choose auto, cpu"),
        (["predict", "{solar}", "{}/bad.jpg", "--device", "cuda"], 2, "choose --device cpu"),
        (["predict", "{solar}", "{}/bad.jpg", "--threads", "0"], 2, "threads is 0"),
        (["predict", "{solar}"], 2, "give image files or folders"),
        (["predict", "{solar}", "--on", "ray"], 2, "--on needs --manifest"),
        (["predict", "{solar}", "--on", "ray", "--manifest", "{}/m.parquet"], 2, "--on needs --manifest"),
        (["predict", "{solar}", "--manifest", "{}/m.parquet"], 2, "add --on ray"),
        (["predict", "{solar}", "{}/bad.jpg", "--keep-maps"], 2, "add --on ray"),
        (["pretrain", "mnist"], 2, "choose one of: cifar10"),
        (["pretrain", "cifar10", "--data", "{}/empty"], 1, "has no train*.parquet"),
        (["pretrain", "cifar10", "--out", "{}/w.pt"], 2, "must end in .safetensors"),
        (["pretrain", "cifar10", "--epochs", "0"], 2, "epochs is 0"),
        (["collect", "{}/new"], 2, "No class was given"),
        (["collect", "{}/new", "a/b"], 2, "cannot name a class"),
        (
            ["collect", "{}/new", "baklava", "--engine", "bing"],
            2,
            "choose one of: duckduckgo, openverse, both",
        ),
        (["collect", "{}/new", "baklava", "--license", "mine"], 2, "choose one of: any, public"),
        (["collect", "{}/new", "baklava", "--per-class", "0"], 2, "per_class is 0"),
        (["collect", "{}/new", "baklava", "--query", "sweet"], 2, "expected CLASS=QUERY,QUERY"),
        (["collect", "{}/new", "golden retriever", "--strict"], 2, "ImageNet class 207"),
        (["collect", "{}/new", "baklava", "--from", "{}/classes"], 2, "leave out classes"),
        (["collect", "{}/new", "--from", "{}/classes", "--engine", "both"], 2, "what is for searching"),
        (["collect", "{}/new", "baklava", "--label", "x"], 2, "--label is for --from"),
        (["collect", "{}/new", "--from", "{}/nothing"], 1, "no folder or CSV file"),
        (["collect", "{}/classes", "baklava"], 2, "is not a project"),
        (["clean", "{}/classes"], 2, "is not a project"),
        (["cook"], 2, "No such command"),
    ],
)
def test_every_mistake_is_one_line_and_an_exit_code(broken, solar, arguments, code, words):
    """What happened and what to do, on stderr, without a traceback."""
    filled = [argument.format(broken, solar=solar.project) for argument in arguments]
    result = run(*filled)
    assert result.exit_code == code, result.output
    assert words in " ".join(result.stderr.replace("│", " ").split())
    assert isinstance(result.exception, SystemExit)
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) <= 1


def test_a_wrong_call_makes_nothing(broken):
    """A project is made only when there is something to put into it."""
    run("study", broken / "new", "--photos", broken / "nothing")
    assert not (broken / "new").exists()


def test_no_weights_is_one_line_and_loses_nothing(solar, tmp_path):
    """On a machine without network and caches the whole program says what it tried and exits with 1."""
    copy = tmp_path / "solar"
    shutil.copytree(solar.project, copy, ignore=shutil.ignore_patterns("runs", "cache"))
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "PIP_INDEX_URL"), "http://127.0.0.1:9")
    env = (
        os.environ
        | nowhere
        | {
            "HOME": str(tmp_path),
            "XDG_CACHE_HOME": str(tmp_path),
            "KERAS_HOME": str(tmp_path),
            "no_proxy": "",
            "PIP_FIND_LINKS": "",
            "PIP_RETRIES": "0",
            "PIP_CONFIG_FILE": os.devnull,
        }
    )
    command = [sys.executable, "-m", "stockpot", "study", str(copy), "--quiet"]
    answer = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert answer.returncode == 1
    assert answer.stdout == ""
    assert answer.stderr.count("\n") == 1 and "weights of xception cannot be had" in answer.stderr
    assert (copy / "split.json").exists()


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help_with_an_example(name):
    """A sentence and a line to copy."""
    result = run(name, "--help")
    assert result.exit_code == 0
    assert f"Example: stockpot {name}" in result.stdout


@pytest.mark.parametrize(
    ("command", "recipe", "found"),
    [
        ("train", Recipe, {field.name for field in dataclasses.fields(Recipe)}),
        ("pretrain", Pretraining, {"precision"}),
    ],
)
def test_every_field_of_a_recipe_is_an_option(command, recipe, found):
    """With the same default, or none where it follows from others, so that the two cannot drift apart."""
    options = {option.name: option.default for option in COMMANDS[command].params}
    for field in dataclasses.fields(recipe):
        assert options[field.name] == (None if field.name in found else field.default)


def test_json_on_stdout_is_json(solar, striped, learned, tmp_path):
    """Every command that reports figures prints one JSON value, with the keys it promises."""
    photo = solar.split.validation[0].path
    folder = tmp_path / "test" / solar.split.validation[0].label
    folder.mkdir(parents=True)
    shutil.copy(photo, folder)
    copy = tmp_path / "copy"
    shutil.copytree(solar.project, copy)
    keys = {
        ("demo", copy, "--per-class", 12, "--recipes", "probe"): {
            *("run", "runs", "trained", "left_out", "report", "n", "accuracy", "interval"),
        },
        ("clean", copy): {"freed_bytes"},
        ("collect", tmp_path / "own", "--from", tmp_path / "test"): {"new", "known", "refused"},
        ("pretrain", "cifar10", "--data", striped, "--out", learned.path, *SMALL_OPTIONS): {
            "model",
            "data",
            "test",
        },
        ("curate", copy): {
            *("photos", "findings", "unjudged", "known", "shortcut", "moved", "step"),
        },
        ("split", solar.project): {
            *("class_names", "training", "validation", "refused", "repeated", "conflicts"),
            *("between", "near_duplicates", "straddling", "fingerprint"),
        },
        ("train", solar.project): {
            "name",
            "n",
            "accuracy",
            "interval",
            "loss",
            "chosen_epoch",
            "interrupted",
        },
        ("status", solar.project): {
            *("classes", "refused", "repeated", "conflicts", "between", "near_duplicates"),
            *("gone", "new", "runs", "problem", "next"),
        },
        ("study", solar.project, "--recipes", "probe"): {"run", "runs", "trained", "report", "accuracy"},
        ("compare", solar.project): {
            *(
                "name",
                "recipe",
                "n",
                "accuracy",
                "interval",
                "loss",
                "seconds",
                "trained_parameters",
                "mcnemar",
            ),
        },
        ("evaluate", solar.project, folder.parent): {
            "n",
            "accuracy",
            "interval",
            "loss",
            "confusion",
            "per_class",
        },
        ("predict", solar.project, photo): {
            "path",
            "label",
            "probability",
            solar.split.class_names[0],
            "error",
        },
        ("explain", solar.project, photo, "--output", tmp_path / "o"): {
            "label",
            "logits",
            "residual",
            "picture",
        },
    }
    of_places = {"export", "publish", "report", "serve", "web"}  # which print where something is
    assert COMMANDS.keys() - {arguments[0] for arguments in keys} == of_places
    for arguments, expected in keys.items():
        result = run(*arguments, "--json")
        assert result.exit_code == 0, result.output
        value = json.loads(result.stdout)
        assert expected <= (value[0] if isinstance(value, list) else value).keys()


def test_a_full_disk_is_one_line_and_loses_nothing(solar, tmp_path):
    """No file may grow: the error names the file; what was there before is whole."""
    resource = pytest.importorskip("resource", reason="limits on files need a Unix system")
    copy = tmp_path / "solar"
    shutil.copytree(solar.project, copy, ignore=shutil.ignore_patterns("cache"))
    (tmp_path / "t.csv").write_text("of yesterday")
    before = (copy / "split.json").read_bytes()

    def no_space() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    photo = solar.split.validation[0].path
    for arguments in (
        ["split", copy, "--seed", "3"],
        ["predict", solar.project, photo, "--output", tmp_path / "t.csv"],
    ):
        command = [sys.executable, "-m", "stockpot", *map(str, arguments), "--quiet"]
        answer = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=no_space)
        assert answer.returncode == 1
        errors = [line for line in answer.stderr.splitlines() if line.startswith("Error: ")]
        assert len(errors) == 1 and "cannot be written (File too large): free space" in errors[0]
        assert "Traceback" not in answer.stderr
    assert (copy / "split.json").read_bytes() == before
    assert (tmp_path / "t.csv").read_text() == "of yesterday"


def test_predict_sorts_and_writes_a_table(solar, tmp_path):
    """One call: a row a file in the table, a copy a photo in the folder of its class."""
    (tmp_path / "bad.jpg").write_text("x")
    photos = [photo.path for photo in solar.split.validation[:3]]
    table, out = tmp_path / "t.parquet", tmp_path / "sorted"
    result = run(
        *("predict", solar.project, tmp_path / "bad.jpg", *photos),
        *("--output", table, "--sort-into", out, "--unsure-below", "0", "--threads", "1", "--device", "cpu"),
    )
    assert result.exit_code == 0 and result.stdout == ""
    rows = parquet.read_table(table).to_pylist()
    assert [row["path"] for row in rows] == [str(tmp_path / "bad.jpg"), *map(str, photos)]
    for row, photo in zip(rows[1:], photos, strict=True):
        assert (out / row["label"] / photo.name).read_bytes() == photo.read_bytes()
    assert sum(1 for path in out.rglob("*") if path.is_file()) == 3


def test_predict_prints_csv(solar, tmp_path):
    """Header, one row a file in order, an error where there is one; progress is not on stdout."""
    (tmp_path / "bad.jpg").write_text("x")
    photo = solar.split.validation[0].path
    result = run("predict", solar.project, tmp_path / "bad.jpg", photo)
    header, bad, good = result.stdout.splitlines()
    assert header == f"path,label,probability,{','.join(solar.split.class_names)},none_of_these,error"
    assert bad.startswith(f"{tmp_path / 'bad.jpg'},,,,,,,") and "not an image" in bad
    assert good.startswith(f"{photo},") and good.endswith((",true,", ",false,"))


def test_version():
    """The version is the package's."""
    assert run("--version").stdout.strip() == "0.1.0"

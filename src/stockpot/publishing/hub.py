"""Publishing: a folder that timm, transformers and ONNX Runtime read, with a model card; also on the hub."""

import csv
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from stockpot import project as disk
from stockpot.errors import FolderError, HubRefused, WrongUse
from stockpot.explanation.explanation import explain
from stockpot.learning.models import Place, load_model, project_of
from stockpot.model.model_file import ModelFile
from stockpot.model.prediction import Predictor
from stockpot.photos.photo import fingerprint
from stockpot.photos.samples import ATTRIBUTION, is_sample
from stockpot.progress import Progress, silent
from stockpot.publishing.card import EXAMPLE, NAME, Example, model_card
from stockpot.publishing.export import export

HUB = "hub"


def publish(
    place: Place,
    to: Path | str,
    example: Path | str | None = None,
    public: bool = False,
    progress: Progress = silent,
) -> str:
    """Write a folder that others can use a model from, or upload it to the Hugging Face hub.

    It holds `README.md`, the model card; `example.png`, a photo and its map; `model.onnx`; and, where timm has a
    network that computes the same, `config.json` and `model.safetensors`, which
    `timm.create_model("local-dir:FOLDER", pretrained=True)` and transformers read.

    Args:
        place: a run, its folder, a model file, a project, or what `load_model` returned.
        to: a folder that is empty or not there; or `"hub"`, where the model is called after its project and run;
            or `"hub:NAME/MODEL"`. The hub is where `HF_ENDPOINT` says, the token that of `hf auth login` or
            `HF_TOKEN`.
        example: the photo that the card shows; by default the validation photo that the model is surest of, where
            it is in its project; `""` for none.
        public: that everybody may see it on the hub.
        progress: told what is done.

    Returns:
        The folder, or the address on the hub.

    Raises:
        ModelError: there is no model, it is damaged, or what was written computes something else.
        WrongUse: the folder holds something, or there cannot be such a name on the hub.
        UnreadablePhoto: the example is not a picture that can be decoded.
        FolderError: the folder cannot be written.
        HubRefused: the hub is not reached, knows no token, or does not want the model.
    """
    target = str(to)
    scheme, colon, wanted = target.partition(":")
    if scheme == HUB and colon and not re.fullmatch(r"[\w.-]+/[\w.-]+", wanted):
        raise WrongUse(f"{wanted!r} cannot be a model's name on the hub: --to hub:NAME/MODEL")
    predictor = load_model(place, progress)
    name = _name(predictor.model)
    if scheme == HUB:
        user = _hub(lambda api: str(api.whoami()["name"]))  # before anything is computed
        with TemporaryDirectory() as temporary:
            _fill(Path(temporary), predictor, name, example, progress)
            progress("uploading to the hub", 0, 0)
            return _upload(Path(temporary), wanted or f"{user}/{_plain(name)}", public, progress is silent)
    folder = Path(to)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise WrongUse(f"{folder} holds something already: give a new folder, so that nothing is lost.")
    with _whole(folder) as inner:
        _fill(inner, predictor, name, example, progress)
    return str(folder)


def _name(model: ModelFile) -> str:
    """Return what the model is called: project and run, or its file's name."""
    project = project_of(model)
    return f"{project.folder.resolve().name}-{model.path.parent.name}" if project else model.path.stem


@contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    """Yield a folder beside `folder` that takes its place when the block succeeds."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder.parent, prefix=".") as temporary:
            inner = Path(temporary) / "published"
            inner.mkdir()
            yield inner
            if folder.exists():
                folder.rmdir()  # it is empty
            inner.rename(folder)
    except OSError as error:
        raise FolderError(f"{folder} cannot be written ({error.strerror}): give another folder.") from None


def _fill(
    folder: Path, predictor: Predictor, name: str, example: Path | str | None, progress: Progress
) -> None:
    from stockpot.publishing.timm_folder import timm_remedy, write_timm_folder

    model = predictor.model
    project = project_of(model)
    shown = None
    photo = _surest(project, model) if example is None and project else Path(example) if example else None
    if photo:
        shown = _show(predictor, photo, folder / EXAMPLE, project)
        progress(f"the card shows {photo}: --example PHOTO, or --no-example, if that may not be shown", 0, 0)
    export(predictor, folder / "model.onnx", progress)
    remedy = timm_remedy(model)
    if remedy:
        progress(f"no files for timm, only ONNX: {remedy}", 0, 0)
    else:
        write_timm_folder(predictor, folder)
    learned = set(model.learned_from)
    origins = [row for sha256, row in _origins(project).items() if sha256[:12] in learned]
    disk.write_bytes(
        folder / NAME, model_card(name, model, origins, shown, remedy).encode("utf-8", "replace")
    )


def _surest(project: disk.Project, model: ModelFile) -> Path | None:
    """Return the validation photo that the model is right about and surest of; None where none is there."""
    table = model.path.parent / "predictions.csv"
    if not table.exists():
        return None
    with table.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["truth"] == row["label"]]
    rows.sort(key=lambda row: -float(row["probability"]))
    return next((path for row in rows if (path := project.folder / row["path"]).exists()), None)


def _show(predictor: Predictor, photo: Path, picture: Path, project: disk.Project | None) -> Example:
    """Write photo and map, and return what the card says of them."""
    why = explain(predictor, photo)
    why.picture().save(picture)
    known = _origins(project).get(fingerprint(photo.read_bytes()), {})
    credit = known.get("attribution") or known.get("licence") or ""
    return Example(why.predicted, why.probability, credit)


def _origins(project: disk.Project | None) -> dict[str, dict[str, str]]:
    """Return what is known of where a project's photos came from, by sha256."""
    if project is None:
        return {}
    known = {"attribution": ATTRIBUTION} if is_sample(project) else {}
    return {row["sha256"]: row | known for row in disk.read_lines(project.provenance) if "sha256" in row}


def _plain(name: str) -> str:
    """Return what a name becomes on the hub."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-.") or "model"


def _upload(folder: Path, name: str, public: bool, quiet: bool) -> str:
    """Upload a folder as a model; return its address."""
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    def upload(api: Any) -> str:
        repository = api.create_repo(name, private=not public, exist_ok=True)
        api.upload_folder(repo_id=repository.repo_id, folder_path=folder, commit_message="Model and card")
        return str(repository)

    shown = not are_progress_bars_disabled()
    if quiet:
        disable_progress_bars()
    try:
        return _hub(upload)
    finally:
        if shown:
            enable_progress_bars()


def _hub(ask: Callable[[Any], str]) -> str:
    """Ask the hub for something.

    Raises:
        HubRefused: it is not reached, knows no token, or says no.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    try:
        return ask(HfApi(library_name="stockpot"))
    except LocalTokenNotFoundError:
        raise HubRefused("The hub wants to know who you are: hf auth login, or set HF_TOKEN.") from None
    except HfHubHTTPError as error:
        code = error.response.status_code
        remedy = (
            "hf auth login with a token that may write there" if code in (401, 403) else "try again later"
        )
        raise HubRefused(f"The hub says no (HTTP {code}): {remedy}.") from None
    except Exception as error:  # noqa: BLE001 - the client passes on whatever its transport raises
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise HubRefused(
            f"The hub is not reached ({reason}): publish to a folder, and upload later."
        ) from None

"""Publishing a model: as a folder, or on the hub."""

from pathlib import Path
from tempfile import TemporaryDirectory

from stockpot.errors import WrongUse
from stockpot.learning.models import Place, load_model, project_of
from stockpot.model.model_file import ModelFile
from stockpot.progress import Progress, silent
from stockpot.publishing.folder import fill, surest_photo, write_folder

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
        to: a folder that is empty or not there; or, as text, `"hub"`, where the model is called after its project
            and run, or `"hub:NAME/MODEL"`. The hub is where `HF_ENDPOINT` says, the token that of `hf auth login`
            or `HF_TOKEN`.
        example: the photo that the card shows. By default it is, in a folder, the validation photo that the model
            is surest of, where it is in its project, and on the hub none; `""` for none.
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
    if not str(to):
        raise WrongUse("There is no place to publish to: --to FOLDER, or --to hub")
    scheme, colon, wanted = to.partition(":") if isinstance(to, str) else ("", "", "")
    if public and scheme != HUB:
        raise WrongUse("A folder is as public as you make it: leave --public out, or give --to hub")
    predictor = load_model(place, progress)
    name = _name(predictor.model)
    if scheme != HUB:
        photo = Path(example) if example else surest_photo(predictor.model) if example is None else None
        write_folder(Path(to), predictor, name, photo, progress)
        if photo:
            progress(
                f"the card shows {photo}: --example PHOTO, or --no-example, if that may not be shown", 0, 0
            )
        return str(to)
    from stockpot.publishing.hub import full_name, upload

    there = full_name(wanted if colon else None, name)
    with TemporaryDirectory() as temporary:
        fill(Path(temporary), predictor, name, Path(example) if example else None, progress)
        progress(f"uploading to {there}", 0, 0)
        return upload(Path(temporary), there, public, progress is silent)


def _name(model: ModelFile) -> str:
    """Return what the model is called: project and run, or its file's name."""
    project = project_of(model)
    return f"{project.folder.resolve().name}-{model.path.parent.name}" if project else model.path.stem

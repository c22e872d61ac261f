"""The demo set: photographs of solar cells that a package of the Python index carries.

2,624 electroluminescence photographs (300 x 300) of solar cells, judged by an expert. Bright is current, dark
is loss. Deitsch et al., "Automatic classification of defective photovoltaic module cells in
electroluminescence images", Solar Energy 185, 2019, doi:10.1016/j.solener.2019.02.067.
"""

import importlib.util
from pathlib import Path

from stockpot import project as disk
from stockpot.errors import PhotoError, WrongUse
from stockpot.photos.intake import read_origins
from stockpot.photos.photo import fingerprint
from stockpot.progress import Progress, silent

ATTRIBUTION = (
    "Photographs: elpv-dataset 1.0.0, Buerhop-Lutz et al. 2018, Deitsch et al. 2019 and 2021, CC BY-NC-SA 4.0"
)
_CLASSES = {"mono": "monocrystalline", "poly": "polycrystalline"}
_STATES = {0.0: "functional", 1.0: "defective"}  # the labels in between are the expert's doubts: left out


def bring_in_samples(folder: Path | str, per_class: int, progress: Progress = silent) -> int:
    """Copy `per_class` solar cells of each of four classes into a project.

    Args:
        folder: of the project: a new one, or one that was filled by this function.
        per_class: how many of mono- and polycrystalline, functional and defective cells each, 5 to 313;
            spread evenly over the data set's modules.
        progress: told how far copying is.

    Returns:
        How many files are new in the project.

    Raises:
        WrongUse: `per_class` is out of range, or the project holds other photos.
        ProjectError: `folder` holds something else.
        PhotoError: the package `elpv-dataset` is not installed.
    """
    by_class = _files()
    most = min(map(len, by_class.values()))
    if not 5 <= per_class <= most:
        raise WrongUse(f"per_class is {per_class}; the demo set has 5 to {most} photos a class.")
    chosen = [(name, _spread(files, per_class)) for name, files in sorted(by_class.items())]
    project = disk.create_project(folder)
    if any(project.photos.iterdir()) and not is_sample(project):
        raise WrongUse(f"{folder} holds photos of your own: give the demo another folder.")
    new = done = 0
    with project.writing():
        brought = {row["file"] for row in read_origins(project)}
        for name, files in chosen:
            for file in files:
                target = project.photos / name / file.name
                data = file.read_bytes()
                if target.relative_to(project.photos).as_posix() not in brought:
                    disk.write_bytes(target, data)
                    disk.append_lines(project.provenance, [_provenance(data, file, target, project)])
                    new += 1
                done += 1
                progress("copying photos", done, per_class * len(chosen))
    return new


def is_sample(project: disk.Project) -> bool:
    """Tell whether photos of a project come from the demo set, so that its licence must be named."""
    return any(row.get("licence") == "CC BY-NC-SA 4.0" for row in read_origins(project))


def _files() -> dict[str, list[Path]]:
    """Return the photographs by class, in the data set's order."""
    found = importlib.util.find_spec("elpv_dataset")
    if found is None or found.origin is None:
        raise PhotoError("The demo photos are not installed: pip install 'stockpot[demo]'")
    data = Path(found.origin).parent / "data"
    by_class: dict[str, list[Path]] = {}
    for line in (data / "labels.csv").read_text("utf-8").splitlines():
        name, probability, kind = line.split()
        if float(probability) in _STATES:
            label = f"{_CLASSES[kind]} {_STATES[float(probability)]}"
            by_class.setdefault(label, []).append(data / name)
    return by_class


def _spread(files: list[Path], count: int) -> list[Path]:
    """Return `count` of `files` at even distances: neighbours come from the same module."""
    return [files[index * len(files) // count] for index in range(count)]


def _provenance(data: bytes, file: Path, target: Path, project: disk.Project) -> dict[str, object]:
    sha256 = fingerprint(data)
    return {
        "sha256": sha256,
        "source_sha256": sha256,
        "file": target.relative_to(project.photos).as_posix(),
        "source": f"elpv-dataset/{file.name}",
        "licence": "CC BY-NC-SA 4.0",
        "size": len(data),
    }

"""stockpot: a good image classifier from a few hundred photos, and a picture of why it decides as it does.

The house, in the order in which data flows::

    errors.py     everything that can go wrong, as one tree
    progress.py   how long work says how far it is
    tables.py     tables as a notebook shows them
    shapes.py     what JSON from a disk must look like, checked
    project.py    the names on disk, the lock, atomic writing
    photos/       photo · pixels · preprocessing · index · duplicates · splits · intake · samples · cifar10
    model/        a finished model, without torch: rejection · model_file · engine · prediction · activation_maps ·
                  overlay
    collection/   hits · duckduckgo · openverse · addresses · fetching · arrivals · own_photos · known_names ·
                  collection
    backbones/    catalog · backbone · xception · cifar_resnet · timm_models · keras_files · weight_files ·
                  downloads · weights · graph
    learning/     recipes · classifier · freezing · starting · features · augmentation · prefixes · inputs ·
                  devices · surroundings · group · folding · fitting · precision · checkpoint · stopping · compute ·
                  torchrun · training · forecast · evaluation · calibration · knowing · saving · seeds · runs ·
                  live_head · resampling · comparison · models · predictions · status · pretraining · muon
    curation/     findings · checks · shortcuts · known_by_sight · journal · curation · review
    explanation/  explanation · channels · faithfulness · shortcuts · neighbors · mistakes · selection · blind
    publishing/   agreement · page · export · timm_folder · card · folder · hub · publish · listening ·
                  batching · bodies · answers · meters · watching · service · page, vendor
    reporting/    points · texts · pictures · charts · blocks · readings · calls · notes · material · origins ·
                  cards · photo_points · training_points · map_points · quality · trust · making · report ·
                  again · curation_page · texts, templates, vendor
    cluster/      storage · parts · workers · predicting · training
    studies.py    the whole lab as one function
    web/          guard · worker · results · desk · pictures · collect_page · review_page · train_page ·
                  results_page · try_page · finish_page · app · static
    cli.py        parse, call one function, print
    display.py    progress on stderr
    __main__.py   python -m stockpot

A later line may import an earlier one, never the reverse. Nothing is imported before it is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from stockpot.backbones.backbone import Backbone as Backbone
    from stockpot.backbones.backbone import load_backbone as load_backbone
    from stockpot.collection.collection import collect as collect
    from stockpot.collection.own_photos import bring_own as bring_own
    from stockpot.curation.curation import curate as curate
    from stockpot.curation.curation import undo as undo
    from stockpot.errors import StockpotError as StockpotError
    from stockpot.explanation.explanation import Explanation as Explanation
    from stockpot.explanation.explanation import explain as explain
    from stockpot.explanation.faithfulness import measure_faithfulness as measure_faithfulness
    from stockpot.learning.comparison import Comparison as Comparison
    from stockpot.learning.comparison import compare as compare
    from stockpot.learning.evaluation import Evaluation as Evaluation
    from stockpot.learning.forecast import forecast as forecast
    from stockpot.learning.models import evaluate as evaluate
    from stockpot.learning.models import load_model as load_model
    from stockpot.learning.models import predict as predict
    from stockpot.learning.pretraining import Pretraining as Pretraining
    from stockpot.learning.pretraining import pretrain as pretrain
    from stockpot.learning.recipes import Recipe as Recipe
    from stockpot.learning.runs import Run as Run
    from stockpot.learning.status import look_at_status as look_at_status
    from stockpot.learning.training import train as train
    from stockpot.model.prediction import Prediction as Prediction
    from stockpot.photos.photo import Photo as Photo
    from stockpot.photos.preprocessing import Preprocessing as Preprocessing
    from stockpot.photos.splits import Split as Split
    from stockpot.photos.splits import split as split
    from stockpot.project import clean as clean
    from stockpot.publishing.export import export as export
    from stockpot.publishing.publish import publish as publish
    from stockpot.publishing.service import serve as serve
    from stockpot.reporting.report import write_report as write_report
    from stockpot.studies import demo as demo
    from stockpot.studies import study as study

_ROOMS = {
    "Backbone": "backbones.backbone",
    "Comparison": "learning.comparison",
    "Evaluation": "learning.evaluation",
    "Explanation": "explanation.explanation",
    "Photo": "photos.photo",
    "Prediction": "model.prediction",
    "Preprocessing": "photos.preprocessing",
    "Pretraining": "learning.pretraining",
    "Recipe": "learning.recipes",
    "Run": "learning.runs",
    "Split": "photos.splits",
    "StockpotError": "errors",
    "bring_own": "collection.own_photos",
    "clean": "project",
    "collect": "collection.collection",
    "compare": "learning.comparison",
    "curate": "curation.curation",
    "demo": "studies",
    "evaluate": "learning.models",
    "explain": "explanation.explanation",
    "export": "publishing.export",
    "forecast": "learning.forecast",
    "load_backbone": "backbones.backbone",
    "load_model": "learning.models",
    "look_at_status": "learning.status",
    "measure_faithfulness": "explanation.faithfulness",
    "predict": "learning.models",
    "pretrain": "learning.pretraining",
    "publish": "publishing.publish",
    "serve": "publishing.service",
    "split": "photos.splits",
    "study": "studies",
    "train": "learning.training",
    "undo": "curation.curation",
    "write_report": "reporting.report",
}
__all__ = sorted(_ROOMS)


def __getattr__(name: str) -> object:
    """Import a public name when it is first used."""
    if name not in _ROOMS:
        raise AttributeError(f"stockpot has no {name!r}; it has {', '.join(__all__)}")
    value = getattr(import_module(f"stockpot.{_ROOMS[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]

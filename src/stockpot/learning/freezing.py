"""The freeze audit: what a training left as it was, bit by bit, and what it changed."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from stockpot.learning.classifier import Classifier


@dataclass(frozen=True)
class FreezeAudit:
    """What a training left as it was, bit by bit, and what it changed."""

    frozen_parameters: int  # numbers that were not to learn
    frozen_changed: int  # tensors among them that changed all the same: must be 0
    trained_parameters: int  # numbers that were to learn
    trained_unchanged: int  # tensors among them that did not change: must be 0
    batch_norms: int  # layers
    statistics: int  # tensors: running means, variances and counters
    statistics_changed: int  # of them: must be 0 in inference mode, all of them in training mode
    batch_norm: str = "inference"  # the mode

    @property
    def passed(self) -> bool:
        """Tell whether exactly what was to learn has changed."""
        moved = self.statistics if self.batch_norm == "training" else 0
        return not (self.frozen_changed or self.trained_unchanged) and self.statistics_changed == moved


def snapshot(classifier: "Classifier") -> "dict[str, Tensor]":
    """Return a copy of every parameter and buffer, on the processor."""
    return {name: tensor.detach().cpu().clone() for name, tensor in classifier.state_dict().items()}


def audit_freeze(before: "dict[str, Tensor]", classifier: "Classifier") -> FreezeAudit:
    """Compare a classifier with its `snapshot` from before the training, bit by bit."""
    from torch.nn.modules.batchnorm import _BatchNorm

    after = classifier.state_dict()
    same = {name: before[name].equal(after[name]) for name in before}
    learns = {name: parameter.requires_grad for name, parameter in classifier.named_parameters()}
    norms = [name for name, module in classifier.named_modules() if isinstance(module, _BatchNorm)]
    statistics = [name for name in before if name not in learns and name.rpartition(".")[0] in norms]
    return FreezeAudit(
        frozen_parameters=sum(before[name].numel() for name, learn in learns.items() if not learn),
        frozen_changed=sum(not same[name] for name, learn in learns.items() if not learn),
        trained_parameters=sum(before[name].numel() for name, learn in learns.items() if learn),
        trained_unchanged=sum(same[name] for name, learn in learns.items() if learn),
        batch_norms=len(norms),
        statistics=len(statistics),
        statistics_changed=sum(not same[name] for name in statistics),
        batch_norm=classifier.batch_norm,
    )

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from stockpot.backbones.backbone import Backbone
from stockpot.learning.classifier import Classifier
from stockpot.learning.freezing import audit_freeze, snapshot
from stockpot.photos.preprocessing import Preprocessing


@pytest.fixture
def classifier() -> Classifier:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    backbone = Backbone(module, preprocessing=Preprocessing(8, (0, 0, 0), (255,) * 3), name="small")
    return Classifier(backbone, 2, seed=0).freeze_backbone()


def learn(classifier: Classifier, parameters=None) -> None:
    """Three steps on the whole network in training mode."""
    optimizer = torch.optim.SGD(parameters or classifier.parameters(), lr=0.1)
    classifier.train()
    for _ in range(3):
        pixels = torch.randint(0, 256, (6, 8, 8, 3), dtype=torch.uint8)
        optimizer.zero_grad()
        F.cross_entropy(classifier(pixels), torch.tensor([0, 1] * 3)).backward()
        optimizer.step()


def test_a_linear_probe_changes_its_head_only(classifier):
    """Frozen parameters and BatchNorm statistics stay bit-identical though all layers were run."""
    before = snapshot(classifier)
    learn(classifier)
    audit = audit_freeze(before, classifier)
    assert audit.passed
    assert (audit.frozen_parameters, audit.trained_parameters) == (3 * 4 * 9 + 4 + 8, 4 * 2 + 2)
    assert audit.batch_norms == 1


def test_gamma_and_beta_may_learn_while_statistics_stand(classifier):
    """BatchNorm in inference mode: what is unfrozen learns, mean and variance do not move."""
    classifier.requires_grad_(True)
    before = snapshot(classifier)
    learn(classifier)
    audit = audit_freeze(before, classifier)
    assert audit.passed
    assert audit.frozen_parameters == 0


def test_train_mode_does_not_wake_batch_norm(classifier):
    """Whoever calls train() on the classifier."""
    classifier.train(True)
    assert classifier.training
    assert not classifier.backbone.module[1].training


def test_the_audit_can_fail(classifier):
    """A parameter that learned by mistake, a statistic that moved, a head that stood still: each is counted."""
    before = snapshot(classifier)
    learn(classifier)
    with torch.no_grad():
        classifier.backbone.module[0].weight[0, 0, 0, 0] += 1e-6
    assert audit_freeze(before, classifier).frozen_changed == 1
    classifier.backbone.module[1].train()
    classifier.backbone(torch.zeros(2, 8, 8, 3, dtype=torch.uint8))
    assert audit_freeze(before, classifier).statistics_changed == 3
    assert audit_freeze(snapshot(classifier), classifier).trained_unchanged == 2

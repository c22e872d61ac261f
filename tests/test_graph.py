import numpy as np
import torch

from stockpot.learning.models import model_engine
from stockpot.model.model_file import read_model
from stockpot.photos.preprocessing import read_prepared


def test_the_graph_computes_what_torch_computes_for_any_batch(solar):
    """Features and maps of real photos equal torch's, and do not depend on the batch."""
    from stockpot.backbones.backbone import read_model_backbone

    model = read_model(solar.run.model_path)
    pixels = np.stack([read_prepared(p.path, model.preprocessing) for p in solar.split.validation[:3]])
    engine = model_engine(model)
    features, maps = engine.run(pixels)
    with torch.no_grad():
        expected = read_model_backbone(model)(torch.from_numpy(pixels)).numpy()
    assert np.abs(maps - expected).max() < 1e-4
    assert np.abs(features - expected.mean(axis=(2, 3))).max() < 1e-5
    alone = [engine.run(pixels[i : i + 1])[1][0] for i in range(3)]
    assert np.array_equal(np.stack(alone), maps)

"""Make README's picture from the project that `make demo` leaves.

python docs/make_picture.py
"""

from pathlib import Path

from PIL import Image

from stockpot.explanation.explanation import explain, shared_scale, thumbnail
from stockpot.learning.models import load_model
from stockpot.model.overlay import legend

PHOTOS = (
    "monocrystalline defective/cell0047.png",
    "polycrystalline defective/cell1624.png",
    "monocrystalline defective/cell0512.png",
)
SIDE, GAP = 160, 8

predictor = load_model("solar-cells")
explanations = [explain(predictor, Path("solar-cells/photos") / photo) for photo in PHOTOS]
scale = shared_scale(explanations)
bar = legend(scale, 2 * SIDE)
picture = Image.new("RGB", (6 * SIDE + 5 * GAP, SIDE + GAP + bar.height), "white")
for column, explanation in enumerate(explanations):
    left = 2 * column * (SIDE + GAP)
    picture.paste(thumbnail(explanation.photo, SIDE), (left, 0))
    picture.paste(explanation.overlay(None, scale, SIDE), (left + SIDE + GAP // 2, 0))
picture.paste(bar, ((picture.width - bar.width) // 2, SIDE + GAP))
picture.save(Path(__file__).with_name("why.jpg"), quality=88)

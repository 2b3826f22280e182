"""Draw the pictures of docs/how-it-works.md: diagrams, and explanations of the demo's model.

ccnet demo
python benchmarks/explanation_pictures.py [--model runs/demo/model] [--output docs/pictures]
"""

import argparse
from pathlib import Path

from ccnet import Predictor
from ccnet.datasets import Scenes
from ccnet.demo import beacon_in, pixel_far_from_beacon
from ccnet.explanation import explain
from ccnet.explanation.animation import save_animation
from ccnet.explanation.diagrams import FIGURES
from ccnet.explanation.panels import save_figure
from ccnet.explanation.pictures import (
    entropy_figure,
    evidence_figure,
    influence_figure,
    reach_figure,
)
from ccnet.explanation.routes import routes_figure

SCENE = 0
"""Index of the explained scene of the test split, the first one that the demo predicts."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="runs/demo/model", help="model that `ccnet demo` trains")
    parser.add_argument("--output", type=Path, default=Path(__file__).parents[1] / "docs/pictures")
    options = parser.parse_args()
    for name, draw in FIGURES.items():
        save_figure(draw(), options.output / f"{name}.png")
    image, label = Scenes("test")[SCENE]
    point, beacon = pixel_far_from_beacon(image, label), beacon_in(image)
    predictor = Predictor(options.model, device="cpu")
    explanation = explain(predictor, image, point, to=beacon)
    save_figure(reach_figure((image, explanation)), options.output / "reach.png")
    for name, draw in (
        ("influence", influence_figure),
        ("evidence", evidence_figure),
        ("entropy", entropy_figure),
        ("routes", routes_figure),
    ):
        save_figure(draw(image, explanation), options.output / f"{name}.png")
    save_animation(options.output / "propagation.gif", image, explanation)


if __name__ == "__main__":
    main()

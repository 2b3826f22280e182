"""The page's functions over HTTP, as Gradio's clients call them."""

import numpy as np
import pytest
from PIL import Image

from tests.app.serving import loaded, serving
from tests.test_examples import example

pytestmark = pytest.mark.slow

pytest.importorskip("gradio", reason="gradio is not installed (the extra app)")
gradio_client = pytest.importorskip("gradio_client", reason="gradio_client is not installed")


@pytest.fixture(scope="module")
def client(running, tmp_path_factory):
    folder = tmp_path_factory.mktemp("downloads")
    options = {"download_files": folder, "verbose": False, "analytics_enabled": False}
    return gradio_client.Client(running.url, **options)


def test_only_two_endpoints_are_offered(client):
    found = client.view_api(return_format="dict")
    assert list(found["named_endpoints"]) == ["/segment", "/explain"]
    names = [item["parameter_name"] for item in found["named_endpoints"]["/segment"]["parameters"]]
    assert names == ["image", "model", "protocol", "opacity"]


def test_the_example_gets_labels_shares_and_maps(running, scene, tmp_path, capsys, monkeypatch):
    script = example("app_client")
    words = ["app_client.py", str(scene), "--pixel", "20,30", "--url", running.url]
    monkeypatch.setattr("sys.argv", [*words, "--output", str(tmp_path)])
    script.main()
    printed = capsys.readouterr().out
    assert "pixel 20,30: " in printed

    facts, of_pixel = script.ask(running.url, scene, (20, 30), tmp_path)
    labels = np.asarray(Image.open(facts["files"][0]))
    model = running.bench.models[0]
    np.testing.assert_array_equal(labels, model.predictor.predict(scene))
    assert of_pixel["class"] == model.predictor.classes[labels[30, 20]]
    assert sum(of_pixel["probabilities"].values()) == pytest.approx(1, abs=2e-3)
    maps = [np.asarray(Image.open(file)) for file in of_pixel["files"]]
    assert [picture.shape for picture in maps] == [(640, 640, 3)] * 2
    assert facts["shares"][of_pixel["class"]] > 0


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"image": None}, "image is missing"),
        ({"y": None}, "y is missing"),
        ({"x": 64}, "outside the image: x is 0 to 63"),
        ({"protocol": "none"}, "none"),
        ({"model": "other"}, "there is no model 'other'"),
    ],
)
def test_errors_come_with_their_message(client, scene, changed, message):
    values = {"image": gradio_client.handle_file(scene), "model": "", "x": 1, "y": 1}
    with pytest.raises(gradio_client.exceptions.AppError, match=message):
        client.predict(**{**values, "protocol": "whole", **changed}, api_name="/explain")


def test_a_model_is_chosen_by_its_name(model_folder, other_folder, scene):
    with serving(loaded(model_folder, other_folder)) as server:
        client = gradio_client.Client(server.url, verbose=False, analytics_enabled=False)
        image = gradio_client.handle_file(scene)
        options = {"protocol": "as validated", "x": 1, "y": 1, "api_name": "/explain"}
        for folder, number in ((model_folder, 2), (other_folder, 0)):
            facts, maps = client.predict(image=image, model=str(folder), **options)
            assert facts["model"] == str(folder)
            assert len(maps) == number

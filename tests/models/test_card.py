"""Model cards: what a saved folder says about itself, read back as the hub reads it."""

import json

import pytest
from huggingface_hub import HfApi, ModelCard

from ccnet import CCNet
from ccnet.datasets import Scenes
from ccnet.images.bands import Bands
from ccnet.models.card import LINKS
from tests.conftest import new_tiny_model

METRICS = {
    "dataset": "scenes",
    "split": "val",
    "step": 1250,
    "miou": 0.61234,
    "pixel_accuracy": 0.9,
    "mean_accuracy": 0.7,
    "iou": {"ground": 0.95, "red": 0.5, "green": 0.38702, "blue": None},
}


def saved(folder, metrics=None) -> tuple[CCNet, ModelCard]:
    model = new_tiny_model()
    model.metrics = metrics
    model.save_pretrained(folder)
    return CCNet.from_pretrained(folder), ModelCard.load(folder / "README.md")


def test_a_card_names_scores_classes_data_and_steps(tmp_path):
    _, card = saved(tmp_path, METRICS)
    assert "On scenes, val, after 1250 steps of training, in %:" in card.text
    rows = [line for line in card.text.splitlines() if line.startswith("|")]
    assert rows == [
        "| class | IoU |",
        "|---|---|",
        "| ground | 95.00 |",
        "| red | 50.00 |",
        "| green | 38.70 |",
        "| blue | not there |",
        "| **mean (mIoU)** | **61.23** |",
    ]


def test_the_model_index_holds_every_known_score(tmp_path):
    _, card = saved(tmp_path, METRICS)
    assert card.data.model_name == "CCNet tiny"
    results = {result.metric_name: result for result in card.data.eval_results}
    assert {name: result.metric_value for name, result in results.items()} == {
        "mIoU": 0.61234,
        "pixel accuracy": 0.9,
        "mean accuracy": 0.7,
        "IoU of ground": 0.95,
        "IoU of red": 0.5,
        "IoU of green": 0.38702,
    }
    assert {(r.dataset_name, r.dataset_split) for r in results.values()} == {("scenes", "val")}
    assert card.data.library_name == "ccnet"
    assert card.data.pipeline_tag == "image-segmentation"
    assert card.data.license == "mit"


def test_scores_come_back_with_the_weights(tmp_path):
    loaded, _ = saved(tmp_path, METRICS)
    assert loaded.metrics == METRICS
    assert json.loads((tmp_path / "config.json").read_text())["metrics"] == METRICS
    loaded.save_pretrained(tmp_path / "again")
    assert (tmp_path / "again" / "README.md").read_text() == (tmp_path / "README.md").read_text()


def test_a_card_without_scores_says_so(tmp_path):
    loaded, card = saved(tmp_path)
    assert loaded.metrics is None
    assert "No scores were stored" in card.text
    assert all(name in card.text for name in Scenes.classes)
    assert card.data.eval_results is None
    assert "{" not in card.text


def test_a_card_leads_to_the_paper_the_code_and_the_documentation(tmp_path):
    class Own(CCNet, repo_url="https://example.org/own"):
        pass

    for kind, repository in ((CCNet, LINKS["repo_url"]), (Own, "https://example.org/own")):
        folder = tmp_path / kind.__name__
        kind(3, "tiny", channels=8).save_pretrained(folder)
        text = (folder / "README.md").read_text()
        links = LINKS | {"repo_url": repository}
        names = {"paper_url": "paper", "repo_url": "code", "docs_url": "documentation"}
        assert all(f"[{names[key]}]({url})" in text for key, url in links.items())


def test_one_model_s_scores_are_in_no_other_s_card(tmp_path):
    saved(tmp_path / "first", METRICS)
    _, card = saved(tmp_path / "second", {"miou": 0.5})
    assert [result.metric_name for result in card.data.eval_results] == ["mIoU"]
    assert "In %:" in card.text


@pytest.mark.parametrize(
    ("metrics", "words"),
    [
        ({"iou": {}}, 'must have a number "miou"'),
        ({"miou": 0.5, "iou": {"sky": 0.5}}, "that the model does not: 'sky'"),
    ],
)
def test_metrics_that_do_not_fit_are_named(metrics, words):
    with pytest.raises(ValueError, match=words):
        new_tiny_model().metrics = metrics


def test_what_is_pushed_is_the_saved_folder(monkeypatch):
    seen = {}

    class Repository:
        repo_id = "owner/name"

    def upload(self, *, folder_path, **_):
        seen.update({file.name: file.read_bytes() for file in folder_path.iterdir()})
        return "pushed"

    monkeypatch.setattr(HfApi, "create_repo", lambda self, **_: Repository())
    monkeypatch.setattr(HfApi, "upload_folder", upload)
    model = new_tiny_model()
    model.metrics = METRICS
    assert model.push_to_hub("owner/name") == "pushed"
    assert sorted(seen) == ["README.md", "config.json", "model.safetensors"]
    assert b"61.23" in seen["README.md"]
    assert json.loads(seen["config.json"])["classes"] == list(Scenes.classes)


@pytest.mark.parametrize(("channels", "image"), [(1, "gray (H, W, 1)"), (3, "RGB (H, W, 3)")])
def test_a_card_says_which_images_the_model_takes(tmp_path, channels: int, image: str):
    CCNet(2, "tiny", channels=8, in_channels=channels).save_pretrained(tmp_path)
    card = ModelCard.load(tmp_path / "README.md")
    assert f"predict(image)  # {image} to classes (H, W)" in card.text
    assert "several bands" not in card.text


def test_a_card_of_a_model_of_bands_names_them(tmp_path):
    bands = Bands((5, 1), 5, "uint16", ((0, 4095), (100, 900)))
    CCNet(2, "tiny", channels=8, in_channels=2, bands=bands.to_dict()).save_pretrained(tmp_path)
    card = ModelCard.load(tmp_path / "README.md")
    assert "predict(image)  # uint16 (H, W, 5), or the path of a file, to classes" in card.text
    assert f"Images hold several bands: {bands}." in card.text

"""The comparison with segmentation_models.pytorch: it runs, and the documented table is its CSV."""

import csv
import json
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ccnet.datasets import open_dataset

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"


def load(name: str) -> dict:
    return runpy.run_path(str(BENCHMARKS / f"{name}.py"))


def write_images(folder: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    for kind, channels in (("images", (3,)), ("labels", ())):
        (folder / kind).mkdir(parents=True)
        for index in range(count):
            pixels = rng.integers(0, 2, (64, 64, *channels), np.uint8)
            Image.fromarray(pixels).save(folder / kind / f"{index}.png")


def test_the_splits_of_camvid_share_no_image(tmp_path):
    for split in ("train", "val"):
        write_images(tmp_path / "camvid" / split, 16)
    load("own_data")["link_camvid"](tmp_path / "camvid", tmp_path / "linked")
    splits = {name: open_dataset("folder", tmp_path / "linked", name) for name in ("train", "val")}
    splits["test"] = open_dataset("folder", tmp_path / "linked", "test")
    assert [len(splits[name]) for name in ("train", "val", "test")] == [14, 2, 16]
    assert len(splits["test"].classes) == 11
    names = {splits[name].name(index) for name in ("train", "val") for index in range(2)}
    assert len(names) == 4


def test_a_perfect_prediction_has_the_full_score(tmp_path):
    write_images(tmp_path / "test", 2)
    (tmp_path / "dataset.yaml").write_text("classes: [a, b, c]\n")
    data = open_dataset("folder", tmp_path, "test")
    score = load("own_data")["score"]
    predictions = tmp_path / "predictions"
    shutil.copytree(tmp_path / "test" / "labels", predictions)
    found = score(predictions, data)
    assert found["miou"] == 1
    assert json.loads(found["iou"]) == {"a": 1, "b": 1, "c": None}
    (predictions / "1.png").unlink()
    with pytest.raises(FileNotFoundError):
        score(predictions, data)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("torchvision_operators")
def test_ours_and_a_peer_train_on_the_same_images(shared_data, tmp_path):
    pytest.importorskip("segmentation_models_pytorch")
    script = [sys.executable, str(BENCHMARKS / "own_data.py"), str(tmp_path)]
    weights = shared_data / "weights" / "mobilenet_v2_imagenet.safetensors"
    script += ["--weights", str(weights), "--data", "few", "--methods", "ccnet", "unet"]
    script += ["--minutes", "0.7", "--output", str(tmp_path / "rows.csv")]
    make = [sys.executable, str(BENCHMARKS / "few_surfaces.py"), str(tmp_path / "few")]
    subprocess.run([*make, "--height=64", "--width=64"], check=True, timeout=60)
    for _ in range(2):  # the second call finds its rows
        subprocess.run(script, check=True, timeout=400)
    with (tmp_path / "rows.csv").open(newline="") as file:
        ours, peer = csv.DictReader(file)
    assert (ours["method"], peer["method"]) == ("ccnet", "unet")
    for row in (ours, peer):
        assert json.loads(row["iou"]).keys() == {"metal", "scratch", "pit", "stain"}
        assert int(row["steps"]) > 1
        assert 0 < float(row["miou"]) < 1


def test_the_documented_table_is_that_of_the_csv():
    report = load("own_data_report")
    lines = set((ROOT / "docs" / "results.md").read_text().splitlines())
    assert set(report["table"](report["read"](report["RESULTS"]))) <= lines

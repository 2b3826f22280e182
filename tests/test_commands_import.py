"""Annotations of labeling tools through the commands: import, check-data, train, evaluate."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from ccnet.datasets.folder import FolderDataset
from tests.annotated import CLASSES, SPLITS, WRITERS, cvat_coco, label_of, labelme, write_json, yolo
from tests.annotations.test_layout import files_in
from tests.commands import status
from tests.kills import killed

TRAIN = """
data: {name: folder}
model: {backbone: tiny, channels: 8, kernel_size: 1, auxiliary_channels: null}
steps: 2
batch_size: 2
validate_every: 2
device: cpu
"""


@pytest.mark.parametrize("kind", WRITERS)
def test_import_writes_folders_that_are_read(tmp_path: Path, kind: str, capsys):
    root, output = WRITERS[kind](tmp_path / "in"), tmp_path / "out"
    before = files_in(root)
    assert status("import", root, output) == 0
    printed = capsys.readouterr().out
    assert "4 images (train 2, val 2)" in printed
    assert "9 files written" in printed
    assert files_in(root) == before
    for split, names in SPLITS.items():
        dataset = FolderDataset(output, split)
        assert dataset.classes == CLASSES
        for i, name in enumerate(names):
            np.testing.assert_array_equal(dataset[i][1], label_of(name))
    assert status("import", root, output) == 0
    assert "0 files written" in capsys.readouterr().out
    assert status("check-data", output) == 0


def test_import_says_what_it_decided_and_takes_flags(tmp_path: Path, capsys):
    content = json.loads((cvat_coco(tmp_path) / "annotations/instances_train.json").read_text())
    content["annotations"].reverse()
    path = write_json(tmp_path / "images/train/a.json", content)
    flags = ("--overlap", "small", "--unlabeled", "ignored", "--format", "coco", "--link")
    assert status("import", path, tmp_path / "out", *flags) == 0
    printed = capsys.readouterr().out
    assert f"{path}: COCO JSON" in printed
    assert "pixels that nobody labeled are ignored (255), as asked for" in printed
    assert "no split val; `ccnet train` divides the images" in printed
    dataset = FolderDataset(tmp_path / "out")
    assert dataset.classes == CLASSES[1:]
    np.testing.assert_array_equal(dataset[0][1], label_of("a") - np.uint8(1))


def test_import_ends_with_one_line_where_it_cannot(tmp_path: Path, capsys):
    cvat_coco(yolo(tmp_path / "both"))
    (tmp_path / "none").mkdir()
    for source, message in (
        (tmp_path / "both", "several kinds of annotations"),
        (tmp_path / "none", "there are no annotations that are known: COCO JSON, LabelMe"),
        (tmp_path / "absent", "no such folder"),
    ):
        assert status("import", source, tmp_path / "out") == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"ccnet import: {source}")
        assert message in line
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("kind", WRITERS)
def test_annotations_are_checked_trained_on_and_scored_as_they_are(
    tmp_path: Path, kind: str, capsys
):
    root, run = WRITERS[kind](tmp_path / "in"), tmp_path / "run"
    assert status("check-data", root, "--output", tmp_path / "report.json") == 0
    report = json.loads((tmp_path / "report.json").read_text())["train"]
    expected = np.bincount(np.ravel([label_of(name) for name in "ab"])).tolist()
    assert report["class_pixels"] == expected
    note = next(iter(report["notes"]), None)
    (tmp_path / "config.yaml").write_text(TRAIN)
    flags = ("--data.root", root, "--run", run, "--num-workers", 0)
    assert status("train", "--config", tmp_path / "config.yaml", *flags) == 0
    assert note is None or note in capsys.readouterr().err
    assert status("evaluate", run / "model", "--root", root, "--output", tmp_path / "s.json") == 0
    assert json.loads((tmp_path / "s.json").read_text())["images"] == 2
    model = json.loads((run / "model/config.json").read_text())
    assert tuple(model["classes"]) == CLASSES


def test_check_data_lists_images_that_are_missing(tmp_path: Path, capsys):
    (labelme(tmp_path) / "train/a.png").unlink()
    assert status("check-data", tmp_path) == 1
    printed = capsys.readouterr().out
    assert "listed but missing: train/a.png" in printed
    assert "note: pixels that nobody labeled are of the new class 0, 'background'" in printed


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_twenty_kills_leave_whole_files_and_the_same_command_goes_on(tmp_path: Path):
    root = labelme(tmp_path / "in")
    content = json.loads((root / "train/a.json").read_text())
    for number in range(60):
        name = f"train/a{number}"
        (root / f"{name}.png").write_bytes((root / "train/a.png").read_bytes())
        write_json(root / f"{name}.json", content | {"imagePath": f"a{number}.png"})
    output = tmp_path / "killed"
    for number, _ in enumerate(killed(20, output, "import", root, "{output}")):
        for path in sorted(output.rglob("*.png")):
            if path.name.startswith("."):
                continue
            Image.open(path).load()
            if number % 2:  # so that there is something left to do
                path.unlink()
    assert status("import", root, output) == 0
    assert files_in(output) == files_in(tmp_path / "measured")
    assert yaml.safe_load((output / "dataset.yaml").read_text())["classes"].keys() == set(CLASSES)

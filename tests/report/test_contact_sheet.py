"""The contact sheet of a data check."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ccnet.checking.check import check_dataset
from ccnet.checking.suspects import Suspect
from ccnet.datasets.folder import FolderDataset
from ccnet.report.contact_sheet import labeled_picture, new_tile, save_contact_sheet


def planted(root: Path) -> FolderDataset:
    """Five pairs: two good ones, one with a bad value, one without a label, one of one class."""
    labels = np.zeros((5, 40, 60), np.uint8)
    labels[:, 10:30, 20:40] = 1
    labels[2, 0, 0] = 9
    labels[3] = 255
    labels[4] = 0
    for i, label in enumerate(labels):
        image = np.repeat((40 + 100 * (label == 1)).astype(np.uint8)[:, :, None], 3, 2)
        for kind, array in (("images", image), ("labels", label)):
            path = root / "train" / kind / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(path)
    (root / "dataset.yaml").write_text('classes: [ground, "<b>& $x_1$", absent]')
    return FolderDataset(root)


def test_the_sheet_of_a_faulty_data_set_is_drawn(tmp_path: Path):
    dataset = planted(tmp_path)
    report = check_dataset(dataset, compare_edges=True)
    save_contact_sheet(tmp_path / "out/sheet.png", {"train": (dataset, report)})
    with Image.open(tmp_path / "out/sheet.png") as sheet:
        assert sheet.width > 1500
        colors = {color for _, color in sheet.convert("RGB").getcolors(1 << 24) or []}
    assert tuple(dataset.palette[0]) in colors, "the legend is in the colors of the classes"


def test_an_empty_split_and_many_classes_are_drawn(tmp_path: Path):
    names = [f"class {i}" for i in range(60)]
    for kind in ("images", "labels"):
        (tmp_path / "train" / kind).mkdir(parents=True)
    dataset = FolderDataset(tmp_path, classes=names, strict=False)
    save_contact_sheet(tmp_path / "sheet.png", {"train": (dataset, check_dataset(dataset))})
    assert (tmp_path / "sheet.png").stat().st_size > 10_000


def test_a_label_lies_over_its_image_with_dark_borders():
    image = np.full((4, 6, 3), 100, np.uint8)
    label = np.array([[0] * 3 + [1] * 3] * 4, np.uint8)
    picture = labeled_picture(image, label, [(200, 0, 0), (0, 200, 0)], 400)
    assert picture[0, 0].tolist() == [160, 40, 40]
    assert picture[0, 5].tolist() == [40, 160, 40]
    assert picture[0, 2].tolist() == [0, 0, 0]


@pytest.mark.parametrize(("broken", "mean"), [("labels", 54), ("images", 225)])
def test_a_pair_with_an_error_shows_its_image_if_that_can_be_read(
    tmp_path: Path, broken: str, mean: int
):
    dataset = planted(tmp_path)
    (tmp_path / "train" / broken / "0.png").write_bytes(b"broken")
    tile = new_tile(dataset, Suspect(0, ("broken",), 100))
    assert tile.labeled is None
    assert abs(int(tile.image.mean()) - mean) < 5

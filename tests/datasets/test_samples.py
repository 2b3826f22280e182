"""Any (image, label) samples as a data set, each checked when it is read."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import TensorDataset

from ccnet.datasets import SampleDataset
from ccnet.datasets.dataset import SizeMismatchError
from ccnet.runtime.files import DataError
from tests.datasets.conftest import CLASSES, IMAGE, LABEL

TENSOR = torch.from_numpy(IMAGE).permute(2, 0, 1)


@pytest.mark.parametrize(
    "image",
    [Image.fromarray(IMAGE), IMAGE, TENSOR, TENSOR / 255],
    ids=["PIL", "array", "tensor", "floats"],
)
@pytest.mark.parametrize(
    "label",
    [
        Image.fromarray(LABEL),
        LABEL,
        LABEL.astype(np.int64),
        torch.from_numpy(LABEL),
        torch.from_numpy(LABEL).long()[None],
    ],
    ids=["PIL", "uint8", "int64", "tensor", "CHW"],
)
def test_every_form_of_a_sample_gives_the_same(image: object, label: object):
    dataset = SampleDataset([(image, label)], CLASSES)
    read = dataset[0]
    np.testing.assert_array_equal(read[0], IMAGE)
    np.testing.assert_array_equal(read[1], LABEL)
    assert (dataset.name(0), len(dataset)) == ("sample 0", 1)
    assert dataset.classes == tuple(CLASSES)
    with pytest.raises(IndexError):
        dataset[1]


def test_a_data_set_of_pytorch_and_its_ignored_value():
    labels = torch.tensor([[[0, 1, 2, -1]]])
    data = TensorDataset(torch.zeros(1, 3, 1, 4), labels)
    dataset = SampleDataset(data, CLASSES, ["#000000", "#010101", "#020202"], ignore=-1)
    assert dataset[0][1].tolist() == [[0, 1, 2, 255]]
    assert dataset.palette[1] == (1, 1, 1)


def test_gray_images_are_repeated():
    for image in (IMAGE[:, :, 0], TENSOR[:1]):
        read = SampleDataset([(image, LABEL)], CLASSES)[0][0]
        np.testing.assert_array_equal(read, np.repeat(IMAGE[:, :, :1], 3, axis=2))


@pytest.mark.parametrize(
    ("image", "label", "words"),
    [
        (IMAGE, LABEL + 3, "sample 1: the label has the value 3, where classes are 0 to 2 and"),
        (IMAGE, LABEL.astype(np.int64) - 1, "the label has the value -1"),
        (IMAGE, LABEL.astype(np.float32), "whole numbers .* got float32 of shape"),
        (IMAGE, IMAGE, r"whole numbers \(H, W\), got uint8 of shape \(2, 4, 3\)"),
        (IMAGE, Image.fromarray(IMAGE), "mode 'RGB' has no numbers"),
        (IMAGE, None, "must be a PIL image, an array or a tensor, got None"),
        (IMAGE / 255, LABEL, "the image must be uint8, 0 to 255, got float64"),
        (IMAGE.astype(np.int32), LABEL, "the image must be uint8, 0 to 255, got int32"),
        (TENSOR / 2 - 3, LABEL, "numbers from -3 to 8.5; give floats from 0 to 1, before any"),
        (TENSOR.permute(1, 2, 0), LABEL, r"must be \(3, H, W\), got uint8 of shape \(2, 4, 3\)"),
        (IMAGE.transpose(2, 0, 1), LABEL, r"must be \(H, W, 3\), got uint8 of shape \(3, 2, 4\)"),
    ],
)
@pytest.mark.unchecked
def test_a_wrong_sample_is_named_by_its_index(image: object, label: object, words: str):
    dataset = SampleDataset([(IMAGE, LABEL), (image, label)], CLASSES)
    with pytest.raises(DataError, match=rf"^sample 1: .*{words.removeprefix('sample 1: ')}"):
        dataset[1]


def test_sizes_that_differ_and_what_is_no_pair_are_told():
    with pytest.raises(SizeMismatchError, match=r"sample 0: the image is 4×2, its label 3×2\."):
        SampleDataset([(IMAGE, LABEL[:, :3])], CLASSES)[0]
    with pytest.raises(DataError, match=r"sample 0: must be \(image, label\), got a dict"):
        SampleDataset([{"image": IMAGE}], CLASSES)[0]
    with pytest.raises(ValueError, match="generator has no length"):
        SampleDataset((pair for pair in ()), CLASSES)  # pyright: ignore[reportArgumentType]


def test_the_example_in_the_documentation_runs(capsys):
    page = Path(__file__).parents[2] / "docs" / "own_data.md"
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    (code,) = [block for block in blocks if "SampleDataset" in block]
    exec(compile(code, str(page), "exec"), {})
    assert "no pixel of sky: this cannot be learned" in capsys.readouterr().out

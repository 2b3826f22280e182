"""Amounts of memory: as people write them, and as the system tells them."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from ccnet.runtime.disk import readable_size
from ccnet.runtime.memory import parse_size, peak_memory


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("2GB", 2 * 10**9),
        ("1.5 GiB", 3 << 29),
        ("500mb", 500 * 10**6),
        ("64 kib", 64 << 10),
        ("1000", 1000),
        ("7B", 7),
        ("3TB", 3 * 10**12),
    ],
)
def test_amounts(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "GB", "-1GB", "0", "2 giga", "1e9", "nan", "2GB or so", "٣GB"]
)
def test_what_is_no_amount(text):
    with pytest.raises(ValueError, match="such as 2GB; got"):
        parse_size(text)


def test_sizes_that_are_shown_are_amounts():
    assert parse_size(readable_size(1_234_567)) == 1_200_000


def test_the_peak_grows_with_what_is_used_and_stays():
    device = torch.device("cpu")
    before = peak_memory(device)
    filled = np.ones(before, np.uint8)
    after = peak_memory(device)
    assert after - before > 0.5 * before
    del filled
    assert peak_memory(device) == pytest.approx(after, rel=0.1)


@pytest.mark.slow
def test_the_peak_of_a_parent_does_not_count():
    filled = np.ones(2 * 10**9, np.uint8)
    program = "import torch, ccnet.runtime.memory as m; print(m.peak_memory(torch.device('cpu')))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert int(result.stdout) < 10**9 < len(filled)

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


PROGRAM = """
import numpy as np, torch
from ccnet.runtime.memory import peak_memory
device = torch.device("cpu")
print(peak_memory(device))
filled = np.ones(500_000_000, np.uint8)
print(peak_memory(device))
del filled
print(peak_memory(device))
"""


@pytest.mark.slow
def test_the_peak_grows_with_what_is_used_and_stays_and_is_not_that_of_the_parent():
    filled = np.ones(1_500_000_000, np.uint8)
    result = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=True)
    before, after, end = map(int, result.stdout.split())
    assert 400_000_000 < after - before < 600_000_000
    assert end > 0.95 * after  # the kernel counts roughly
    assert after < len(filled)


def test_the_peak_is_at_least_what_is_used_now():
    device = torch.device("cpu")
    before = peak_memory(device)
    assert 10_000_000 < before <= peak_memory(device)

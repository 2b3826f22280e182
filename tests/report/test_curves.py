"""Curves of a training run."""

import numpy as np
import pytest

from ccnet.report.curves import save_curves
from tests.report.test_pictures import read_png

LOG = """step,epoch,loss,lr,miou
10,0,1.5,0.1,
20,0,1.2,0.1,
20,0,,,0.31
30,1,0.9,0.1,0.42
"""


@pytest.mark.parametrize("log", [LOG, LOG[:24], LOG[:43]], ids=["full", "header", "no scores"])
def test_curves_are_drawn_from_a_log_with_blank_cells(tmp_path, log):
    (tmp_path / "log.csv").write_text(log)
    save_curves(tmp_path / "curves.png", tmp_path / "log.csv")
    assert np.ptp(read_png(tmp_path / "curves.png")) == 255

"""Which bands a run is planned with."""

from ccnet.datasets.folder import FolderDataset
from ccnet.models.ccnet import CCNet
from ccnet.planning.bands import choose_and_apply
from tests.banded import write_folder


def test_bands_are_chosen_unless_they_are_given_or_a_model_has_them(tmp_path):
    data = FolderDataset(write_folder(tmp_path / "data", "tif"), "train")
    choices, readable = choose_and_apply(data, {}, None)
    found = {choice.flag: choice.value for choice in choices}
    assert found == {"data.bands": [1, 2, 3, 4, 5], "data.value_range": "percentiles"}
    assert readable[0][0].shape == (48, 48, 5)
    (choice,), _ = choose_and_apply(data, {"data.bands": [1, 5]}, None)
    assert (choice.flag, choice.value) == ("data.value_range", "percentiles")
    bands = readable.bands
    model = CCNet(2, "tiny", channels=8, in_channels=5, bands=bands.to_dict())
    choices, taken = choose_and_apply(data, {}, model)
    assert (choices, taken.bands) == ([], bands)

"""Networks are built when their weights are known to fit."""

import pytest
import torch
from torch import nn

from ccnet.weights import build_with_weights, differences

DEVICES: list[str] = []
"""Of the networks that were built."""


class Network(nn.Sequential):
    def __init__(self, width: int = 4):
        super().__init__(nn.Linear(2, width), nn.BatchNorm1d(width))
        self.register_buffer("table", torch.arange(3.0), persistent=False)
        DEVICES.append(self[0].weight.device.type)


@pytest.fixture(autouse=True)
def _no_devices():
    DEVICES.clear()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (torch.ones(3), r"1 of another shape \(0\.bias \(3,\) for \(4,\)\)"),
        (torch.ones(4, dtype=torch.int64), r"1 of another type \(0\.bias int64 for float32\)"),
        (torch.ones(4, dtype=torch.bool), r"1 of another type \(0\.bias bool for float32\)"),
        (torch.ones(4, dtype=torch.complex64), r"1 of another type \(0\.bias complex64 for"),
    ],
)
@pytest.mark.parametrize("is_all_stored", [True, False])
def test_nothing_is_allocated_for_weights_that_do_not_fit(value, words, is_all_stored):
    state = Network().state_dict() | {"0.bias": value}
    DEVICES.clear()
    with pytest.raises(ValueError, match=words):
        build_with_weights(Network, state, is_all_stored=is_all_stored)
    assert DEVICES == ["meta"]


def test_differences_are_summed_up_in_one_short_line():
    wanted = {f"{i}.{'x' * 500}": torch.ones(1) for i in range(1000)}
    text = differences({f"other.{key}": value for key, value in wanted.items()}, wanted)
    assert text.startswith("1000 missing (0.xxx")
    assert "; 1000 unexpected (other.0" in text
    assert len(text) < 1000


def test_a_key_of_a_file_is_quoted_in_one_line():
    text = differences({"a\nb\x1b[31m": torch.ones(1)}, {})
    assert text == r"1 unexpected ('a\nb\x1b[31m')"


def test_a_counter_is_a_number_of_any_real_type():
    network = nn.BatchNorm1d(2)
    for dtype in (torch.int32, torch.float32):
        state = network.state_dict() | {"num_batches_tracked": torch.tensor(1, dtype=dtype)}
        assert differences(state, network.state_dict()) == ""
    state["num_batches_tracked"] = torch.tensor(True)
    assert "1 of another type (num_batches_tracked bool" in differences(state, network.state_dict())


@pytest.mark.parametrize("is_all_stored", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64])
def test_a_network_has_the_weights_as_its_own(is_all_stored, dtype):
    source = Network().state_dict()
    state = {k: v.to(dtype) if v.is_floating_point() else v for k, v in source.items()}
    state["0.weight"] = state["0.weight"].T.contiguous().T
    del state["1.num_batches_tracked"]
    network = build_with_weights(
        lambda: nn.Sequential(*Network().children()), state, is_all_stored=is_all_stored
    )
    own = network.state_dict()
    for key, value in state.items():
        assert own[key].dtype == torch.float32
        assert own[key].is_contiguous()
        assert own[key].device.type == "cpu"
        torch.testing.assert_close(own[key], value.float())
        assert own[key].data_ptr() != value.data_ptr()
    assert own["1.num_batches_tracked"] == 0
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_what_is_not_stored_is_built():
    network = build_with_weights(Network, Network().state_dict(), is_all_stored=False)
    assert torch.equal(network.table, torch.arange(3.0))
    assert DEVICES[-2:] == ["meta", "cpu"]

"""Normalization: its values come from the configuration, whatever becomes of the weights."""

import copy

import pytest
import torch
from torch import fx, nn

from ccnet import CCNet
from tests.conftest import small

MEAN, STD = (1, 20, 300 / 7), (2, 3.5, 40)


def new() -> CCNet:
    return small(mean=MEAN, std=STD)


def images(dtype: torch.dtype = torch.uint8) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    eight = torch.randint(0, 256, (2, 3, 33, 40), dtype=torch.uint8, generator=generator)
    return eight if dtype == torch.uint8 else (eight.int() * 257).to(dtype)


def expected() -> torch.Tensor:
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (MEAN, STD))
    return (images().float() - mean) / std


def test_normalize_subtracts_the_mean_and_divides_by_the_deviation():
    model = small(mean=(0, 10, 20), std=(1, 2, 4))
    images = torch.full((1, 3, 2, 2), 30, dtype=torch.uint8)
    assert model.normalize(images).unique(dim=0).tolist() == [
        [[[value] * 2] * 2 for value in (30.0, 10.0, 2.5)]
    ]


def test_sixteen_bits_are_scaled_to_eight():
    model = small()
    bytes8 = torch.randint(0, 256, (1, 3, 4, 4), dtype=torch.uint8)
    bits16 = (bytes8.int() * 257).to(torch.uint16)
    torch.testing.assert_close(model.normalize(bits16), model.normalize(bytes8))


def test_mean_and_std_are_float32_per_channel():
    model = new().half()
    for values, name in ((MEAN, "mean"), (STD, "std")):
        tensor = getattr(model, name)
        assert (tensor.shape, tensor.dtype) == ((3, 1, 1), torch.float32)
        assert torch.equal(tensor.flatten(), torch.tensor(values))
    assert not {"mean", "std"} & {name for name, _ in model.named_buffers()}


def on_meta() -> CCNet:
    with torch.device("meta"):
        return new()


def emptied(model: CCNet) -> CCNet:
    empty = on_meta().to_empty(device="cpu")
    empty.load_state_dict(model.state_dict())
    return empty.eval()


def assigned(model: CCNet) -> CCNet:
    empty = on_meta()
    empty.load_state_dict(model.state_dict(), assign=True)
    return empty.eval()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
@pytest.mark.parametrize("change", [emptied, assigned, copy.deepcopy], ids=lambda f: f.__name__)
def test_a_model_from_meta_and_a_copy_normalize_and_label_as_the_original(change, dtype):
    model = new()
    twin = change(model)
    assert torch.equal(twin.mean, model.mean)
    torch.testing.assert_close(twin.normalize(images(dtype)), expected())
    with torch.no_grad():
        normalized = model.normalize(images(dtype))
        assert torch.equal(twin(twin.normalize(images(dtype))), model(normalized))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16, torch.float64])
def test_normalization_is_in_float32_and_cast_last(precision, dtype):
    normalized = new().to(precision).normalize(images(dtype))
    assert normalized.dtype == precision
    assert normalized.isfinite().all()  # 65535 is inf in float16
    torch.testing.assert_close(normalized, expected().to(precision))


def test_white_of_sixteen_bits_has_finite_logits_in_half_precision():
    model = new().half()
    white = torch.full((1, 3, 32, 32), 65535, dtype=torch.int32).to(torch.uint16)
    with torch.no_grad():
        logits = model(model.normalize(white))
    assert logits.dtype == torch.float16
    assert logits.isfinite().all()


def test_channels_last_is_kept():
    given = images().contiguous(memory_format=torch.channels_last)
    assert new().normalize(given).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (torch.rand(1, 3, 8, 8), r"got \(1, 3, 8, 8\) of torch\.float32"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.int32), r"got \(1, 3, 8, 8\) of torch\.int32"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.bool), r"got \(1, 3, 8, 8\) of torch\.bool"),
        (torch.zeros(1, 4, 8, 8, dtype=torch.uint8), r"got \(1, 4, 8, 8\)"),
        (torch.zeros(1, 1, 8, 8, dtype=torch.uint8), r"got \(1, 1, 8, 8\)"),
        (torch.zeros(1, 8, 8, 3, dtype=torch.uint8), r"got \(1, 8, 8, 3\)"),
        (torch.zeros(3, 8, 8, dtype=torch.uint8), r"got \(3, 8, 8\)"),
    ],
)
@pytest.mark.unchecked
def test_other_images_are_told(given, words):
    with pytest.raises(ValueError, match=rf"batch \(B, 3, H, W\) of uint8 or uint16, {words}"):
        small().normalize(given)


@pytest.mark.unchecked
@pytest.mark.parametrize("given", [None, [1], images().numpy()], ids=["None", "list", "array"])
def test_what_is_no_tensor_is_told(given):
    with pytest.raises(TypeError, match=rf"as a tensor .*, got {type(given).__name__}"):
        small().normalize(given)


class Whole(nn.Module):
    """From images to logits, as one module that a tracer sees whole."""

    def __init__(self, model: CCNet) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.model.normalize(images)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
@pytest.mark.unchecked
def test_normalization_is_traced_by_fx(dtype):
    whole = Whole(new())
    traced = fx.symbolic_trace(whole)
    assert torch.equal(traced(images(dtype)), whole(images(dtype)))
    with pytest.raises(ValueError, match="of uint8 or uint16"):
        traced(torch.rand(1, 3, 8, 8))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.unchecked
@pytest.mark.slow
def test_normalization_is_exported_for_any_size(dtype, precision):
    whole = Whole(new().to(precision))
    sizes = {2: torch.export.Dim("height", min=32), 3: torch.export.Dim("width", min=32)}
    program = torch.export.export(whole, (images(dtype),), dynamic_shapes=(sizes,))
    smaller = images(dtype)[:, :, :32, :37].contiguous()
    torch.testing.assert_close(program.module()(smaller), whole(smaller))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
@pytest.mark.unchecked
def test_normalization_compiles_to_one_graph(dtype):
    torch.compiler.reset()
    whole = Whole(new())
    compiled = torch.compile(whole, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(images(dtype)), whole(images(dtype)))

"""What several tests need: tensors as the operator takes them, random samples, a tiny model."""

import gc
import os
import pickle
import re
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

gc.disable()  # what is imported and collected stays; see pytest_collection_finish

if "PYTEST_XDIST_WORKER" in os.environ:  # more threads than cores only wait
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# a shell ignores SIGINT for what it starts in the background, and so would all that the tests start
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Triton decides when it is imported, which torch does too; workers inherit the decision
if "--device=cuda" in sys.argv or ("--device", "cuda") in zip(sys.argv, sys.argv[1:], strict=False):
    os.environ.setdefault("TRITON_INTERPRET", "0")
else:
    os.environ.setdefault("TRITON_INTERPRET", "1")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import numpy as np
import pytest
import torch
from jaxtyping import config, install_import_hook
from torch import Tensor, nn

from tests import shapes

ROOT = Path(__file__).parents[1]
# Triton, the compiler and Gradio read these files' functions themselves, not what the hook makes of
# them: Gradio asks whether one is a generator
UNCHECKED = ("__init__", "triton", "triton_kernels", "depthwise", "handlers")
# files without annotations of arrays are left alone, since the hook makes every call slower
ARRAYS = re.compile(r"\bjaxtyping\b|\bPicture\b")
CHECKED = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "ccnet").rglob("*.py")
    if path.stem not in UNCHECKED and ARRAYS.search(path.read_text())
]
# before the package is imported for the first time
install_import_hook(CHECKED, f"{shapes.__name__}.check_arrays")

from ccnet import CCNet, Predictor
from ccnet.datasets import Scenes
from ccnet.inference.folding import Tracer
from ccnet.runtime.processes import leaving_cleanly

SHARED = Path(__file__).parents[2] / "shared"  # real images, with licenses of their own


def pytest_configure():
    gc.enable()


def pytest_collection_finish():
    """Modules and tests stay until the end: no collection has to look at them."""
    gc.freeze()


def pytest_addoption(parser):
    help = "where the tests of the operator run; all others stay on the CPU"
    parser.addoption("--device", default="cpu", choices=("cpu", "cuda"), help=help)


@pytest.fixture
def device(request):
    """The device of the operator's tests, on which they also make their tensors."""
    name = request.config.getoption("--device")
    if name == "cpu":
        yield name
    else:
        with torch.device(name):
            yield name


@pytest.fixture(autouse=True)
def _fixed_seed():
    if torch.cuda.is_available():
        torch.manual_seed(0)
    else:  # without the stacks that manual_seed keeps for a GPU that never comes
        torch.default_generator.manual_seed(0)


@pytest.fixture(autouse=True)
def _check_arrays(request, monkeypatch):
    """Annotations of arrays are enforced, except in tests marked `unchecked`.

    Nor are they while torch.fx traces a network for the predictor, with proxies instead of arrays.
    """
    is_unchecked = request.node.get_closest_marker("unchecked") is not None
    config.update("jaxtyping_disable", is_unchecked)
    trace = Tracer.trace

    def unchecked(*arguments, **options):
        config.update("jaxtyping_disable", True)
        try:
            return trace(*arguments, **options)
        finally:
            config.update("jaxtyping_disable", is_unchecked)

    monkeypatch.setattr(Tracer, "trace", unchecked)
    yield
    config.update("jaxtyping_disable", False)


@pytest.fixture
def _every_warning():
    """torch gives some of its warnings only once in a process."""
    torch.set_warn_always(True)
    yield
    torch.set_warn_always(False)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    if not (SHARED / "data").is_dir():
        pytest.skip(f"needs the real images of {SHARED / 'data'}")
    return SHARED / "data"


@pytest.fixture(scope="session")
def torchvision_operators():
    """Lets torchvision be imported beside a CPU build of torch that has no operators for it.

    Only its Python parts work then. timm, segmentation-models-pytorch and torchmetrics import it.
    """
    try:
        import torchvision
    except RuntimeError:  # operator torchvision::nms does not exist
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision  # noqa: F401

        yield library  # which has to live as long as what it declares
    else:
        yield


def attention_inputs(
    *spatial: int, batch: int = 2, dtype=torch.float32, channels: int = 6, reduced: int = 3
) -> tuple[Tensor, Tensor, Tensor]:
    """query, key (B, D, *spatial) and value (B, C, *spatial) that need gradients."""
    shapes = [(batch, c, *spatial) for c in (reduced, reduced, channels)]
    query, key, value = (torch.randn(shape, dtype=dtype).requires_grad_() for shape in shapes)
    return query, key, value


def noise(height: int, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A random image, and a random label of five classes."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), np.uint8)
    return image, rng.integers(0, 5, (height, width), np.uint8)


def small(backbone: str = "tiny", **options) -> CCNet:
    """A narrow, untrained network for three classes, in evaluation mode."""
    return CCNet(3, backbone, channels=8, **{"auxiliary_channels": 8, **options}).eval()


def new_tiny_model(recurrence: int = 2, auxiliary_channels: int | None = None) -> CCNet:
    """For the embedded scenes; untrained, but its predictions vary and its attention counts."""
    model = CCNet(
        4,
        "tiny",
        recurrence,
        channels=16,
        kernel_size=1,
        auxiliary_channels=auxiliary_channels,
        classes=Scenes.classes,
        palette=Scenes.palette,
    )
    with_gamma(model, 0.5)
    image = torch.from_numpy(Scenes()[0][0]).movedim(-1, 0)[None]
    with torch.no_grad():
        mean = model.eval()(model.normalize(image)).mean((0, 2, 3))
        model.head.classifier.bias -= mean
    return model


def with_gamma(module: nn.Module, gamma: float = 0.7) -> nn.Module:
    """The module with attention that counts."""
    for name, parameter in module.named_parameters():
        if name.endswith("gamma"):
            nn.init.constant_(parameter, gamma)
    return module


def with_statistics(network):
    """The network in evaluation mode, with statistics of its own and attention that counts."""
    with_gamma(network, 0.5)
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:  # the plain mean over the batches below
        norm.momentum = None
    dtype = next(network.parameters()).dtype
    with torch.no_grad():
        network.train()(torch.randn(4, 3, 64, 96, dtype=dtype))
    for norm in norms:  # a scale of 1 and an offset of 0 would hide an exchange
        nn.init.uniform_(norm.weight, 0.8, 1.2)
        nn.init.uniform_(norm.bias, -0.1, 0.1)
    return network.eval()


@pytest.fixture
def tiny_model() -> CCNet:
    return new_tiny_model()


@pytest.fixture
def predictor(tiny_model: CCNet) -> Predictor:
    return Predictor(tiny_model, device="cpu")


def in_processes(number: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What `function(*arguments)` returns in each of several processes that are in touch."""
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(_process, (number, folder, function, arguments), number)
        return [pickle.loads(Path(folder, str(i)).read_bytes()) for i in range(number)]


def _process(
    rank: int, number: int, folder: str, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    torch.set_num_threads(1)
    with leaving_cleanly():
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=number
        )
        Path(folder, str(rank)).write_bytes(pickle.dumps(function(*arguments)))

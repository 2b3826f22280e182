"""A whole ResNet through all that PyTorch has for deployment, at sizes it was not traced at."""

import copy
import io
import pickle

import pytest
import torch

from ccnet import CCNet
from ccnet.export.deployed import ANY_SIZE, prepare
from ccnet.export.exporter import export
from tests.conftest import with_statistics

# torch traces the annotated code
pytestmark = [pytest.mark.slow, pytest.mark.unchecked]


@pytest.fixture(scope="module", params=[None, [4, 2]], ids=["plain", "refined"])
def network(request) -> CCNet:
    """The authors' stem, pooling and upsampling, which shape propagation finds hardest."""
    torch.manual_seed(0)
    options = {"stem": "deep_64", "ceil_mode": True, "align_corners": True, "recurrence": 2}
    options["refinement"] = request.param
    return with_statistics(CCNet(5, "resnet18", channels=32, auxiliary_channels=8, **options))


SIZES = [(2, 3, 64, 96), (1, 3, 71, 58), (3, 3, 33, 64)]


def assert_same(network, other, sizes=SIZES):
    """The error against float64 is at most twice that of the network itself."""
    for size in sizes:
        images = torch.randn(size)
        with torch.no_grad():
            exact = copy.deepcopy(network).double()(images.double())
            budget = 2 * (network(images) - exact).abs().max().item() + 1e-6
            torch.testing.assert_close(other(images).double(), exact, rtol=0, atol=budget)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # the checks of shapes
@pytest.mark.parametrize("backend", [None, "reference"])
@pytest.mark.unchecked
def test_jit_trace_takes_other_sizes(network, backend, tmp_path):
    network = copy.deepcopy(network)
    for module in network.head.attention.passes:
        module.backend = backend
    with torch.no_grad():
        traced = torch.jit.trace(network, torch.randn(SIZES[0]))
    assert_same(network, traced)
    traced.save(tmp_path / "traced.pt")
    assert_same(network, torch.jit.load(tmp_path / "traced.pt"))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("refinement", [None, [4, 2]])
@pytest.mark.unchecked
def test_compile_makes_one_graph_for_all_sizes(refinement):
    options = {"channels": 32, "auxiliary_channels": 8, "refinement": refinement}
    network = with_statistics(CCNet(5, "resnet18", **options))
    torch.compiler.reset()  # without ceil_mode, which torch compiles again for some sizes
    compiled = torch.compile(network, fullgraph=True, dynamic=True)
    with torch.compiler.set_stance("default"):
        assert_same(network, compiled, SIZES[:1])
    with torch.compiler.set_stance("fail_on_recompile"):
        # torch takes a batch of one, and one of 16 or more, for other programs
        assert_same(network, compiled, [(3, 3, 71, 58), (2, 3, 33, 64)])


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["fused", "reference"])
@pytest.mark.unchecked
def test_export_makes_one_program_for_all_sizes(network, backend):
    prepared, _ = prepare(network)
    for module in prepared.head.attention.passes:
        module.backend = backend
    program = torch.export.export(prepared, (torch.randn(SIZES[0]),), dynamic_shapes=(ANY_SIZE,))
    assert_same(network, program.module())
    operators = {node.target for node in program.graph.nodes if node.op == "call_function"}
    assert (torch.ops.ccnet.criss_cross_attention.default in operators) == (backend == "fused")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("format", ["onnx", "aot"])
def test_files_of_it_pass_their_comparison(network, format, tmp_path):
    path = tmp_path / ("model.onnx" if format == "onnx" else "model.pt2")
    rows = export(network, path, format, labels=True)
    assert all(row.labels > 0.999 and row.difference < 1e-4 for row in rows)


def test_copies_are_the_same_network(network, tmp_path):
    twin = CCNet.from_pretrained(network.save_pretrained(tmp_path) or tmp_path)
    rebuilt = CCNet(**network.arguments).eval()
    rebuilt.load_state_dict(network.state_dict())
    whole = io.BytesIO()
    torch.save(network, whole)
    whole.seek(0)
    copies = {
        "deepcopy": copy.deepcopy(network),
        "pickle": pickle.loads(pickle.dumps(network)),
        "torch.save": torch.load(whole, weights_only=False),
        "state_dict": rebuilt,
        "save_pretrained": twin,
    }
    images = torch.randn(1, 3, 40, 57)
    for name, other in copies.items():
        assert torch.equal(other(images), network(images)), name
        assert other.classes == network.classes, name
        assert torch.equal(other.mean, network.mean), name
        assert other.state_dict().keys() == network.state_dict().keys(), name

"""Derivatives of the fused form beyond the gradient, against those of the reference form."""

from functools import partial

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vjp, vmap
from torch.utils._pytree import tree_leaves

from ccnet import CrissCrossAttention, criss_cross_attention
from tests.conftest import attention_inputs

pytestmark = pytest.mark.usefixtures("device")
ARGUMENTS = (0, 1, 2)
fused, reference = (partial(criss_cross_attention, backend=x) for x in ("fused", "reference"))


@pytest.fixture(autouse=True)
def _float64_kernel(device):
    if device == "cuda":
        pytest.skip("no float64 kernel")


def inputs(*spatial: int, batch: int = 2) -> tuple[Tensor, ...]:
    made = attention_inputs(*spatial, batch=batch, dtype=torch.float64, channels=3, reduced=2)
    return tuple(x.detach() for x in made)


def stacked(count: int) -> tuple[Tensor, ...]:
    """Inputs with a dimension in front to map over."""
    return tuple(torch.stack(x) for x in zip(*(inputs(3, 2) for _ in range(count)), strict=True))


def loss(form):
    return lambda *x: form(*x).sin().sum()


def along(form, x, directions):
    return jvp(form, x, directions)[1]


def assert_equal(derivative) -> None:
    """The derivative of the fused form is that of the reference form, and is not zero."""
    got, expected = (tree_leaves(derivative(form)) for form in (fused, reference))
    for ours, definition in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, definition, rtol=1e-9, atol=1e-10)
    assert max(x.abs().max() for x in expected) > 1e-3


TRANSFORMS = {
    "grad": lambda form: grad(loss(form), ARGUMENTS),
    "vjp": lambda form: lambda *x: vjp(form, *x)[1](x[2].cos()),
    "jvp": lambda form: lambda *x: along(form, x, tuple(y.cos() for y in x)),
    "jvp of jvp": lambda form: (
        lambda *x: along(
            lambda *y: along(form, y, tuple(z.cos() for z in y)), x, tuple(z.sin() for z in x)
        )
    ),
    "jacrev": lambda form: jacrev(form, ARGUMENTS),
    "jacfwd": lambda form: jacfwd(form, ARGUMENTS),
    "hessian, forward over reverse": lambda form: hessian(loss(form), ARGUMENTS),
    "hessian, reverse over reverse": lambda form: jacrev(jacrev(loss(form), ARGUMENTS), ARGUMENTS),
    "hessian, reverse over forward": lambda form: jacrev(jacfwd(loss(form), ARGUMENTS), ARGUMENTS),
    "hessian, forward over forward": lambda form: jacfwd(jacfwd(loss(form), ARGUMENTS), ARGUMENTS),
}


@pytest.mark.parametrize("spatial", [(3,), (3, 2), (1, 3), (2, 1, 2)], ids=str)
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_transforms_of_torch_func_match_the_reference(transform, spatial):
    assert_equal(lambda form: TRANSFORMS[transform](form)(*inputs_of(spatial)))


def inputs_of(spatial) -> tuple[Tensor, ...]:
    torch.manual_seed(1)
    return inputs(*spatial, batch=1)


@pytest.mark.parametrize("in_dims", [0, (0, None, 0), (None, 0, None), (None, None, 0)], ids=str)
def test_vmap_folds_the_mapped_dimension_into_the_batch(in_dims, monkeypatch):
    dims = in_dims if isinstance(in_dims, tuple) else (in_dims,) * 3
    batches = [x if d == 0 else x[0] for x, d in zip(stacked(4), dims, strict=True)]
    assert_equal(lambda form: vmap(form, in_dims)(*batches))
    assert_equal(lambda form: vmap(grad(loss(form), ARGUMENTS), in_dims)(*batches))
    assert_equal(lambda form: vmap(TRANSFORMS["jvp"](form), in_dims)(*batches))
    assert_equal(lambda form: vmap(hessian(loss(form)), in_dims)(*batches))

    from ccnet.ops import cpu

    calls = []
    forward = cpu.forward
    monkeypatch.setattr(cpu, "forward", lambda *x: (calls.append(x[0].shape), forward(*x))[1])
    vmap(fused, in_dims)(*batches)
    assert calls == [(8, 3, 2, 2)]


def test_nested_vmap_over_different_dimensions_matches_the_reference():
    query, key, value = stacked(6)
    nested = query.unflatten(0, (2, 3)), key[:2], value[:3].movedim(0, 2)

    def mapped(form):
        return vmap(vmap(form, in_dims=(0, None, 2)), in_dims=(0, 0, None))(*nested)

    assert_equal(mapped)


def test_gradients_per_sample_are_those_of_a_loop():
    batch = stacked(5)
    per_sample = vmap(grad(loss(fused), ARGUMENTS))(*batch)
    loop = [grad(loss(fused), ARGUMENTS)(*sample) for sample in zip(*batch, strict=True)]
    for got, expected in zip(per_sample, zip(*loop, strict=True), strict=True):
        torch.testing.assert_close(got, torch.stack(expected))


def test_gradients_per_sample_of_the_module_s_parameters_are_those_of_a_loop():
    module = CrissCrossAttention(8).double()
    torch.nn.init.constant_(module.gamma, 0.5)
    parameters = dict(module.named_parameters())
    samples = torch.randn(4, 8, 5, 3, dtype=torch.float64)

    def sample_loss(parameters, sample):
        return functional_call(module, parameters, (sample,)).square().sum()

    per_sample = vmap(grad(sample_loss), in_dims=(None, 0))(parameters, samples)
    for index, sample in enumerate(samples):
        expected = torch.autograd.grad(module(sample).square().sum(), list(parameters.values()))
        for got, want in zip(per_sample.values(), expected, strict=True):
            torch.testing.assert_close(got[index], want)


@pytest.mark.parametrize("moved", [(0, 1, 2), (1,), (2,)], ids=str)
def test_forward_mode_matches_the_reference(moved):
    x, directions = inputs(3, 4), inputs(3, 4)

    def derivative(form):
        with forward_ad.dual_level():
            duals = [
                forward_ad.make_dual(a, b) if i in moved else a
                for i, (a, b) in enumerate(zip(x, directions, strict=True))
            ]
            return forward_ad.unpack_dual(form(*duals)).tangent

    assert_equal(derivative)


def test_forward_mode_of_a_gradient_matches_the_reference():
    x = [y.requires_grad_() for y in inputs(3, 4)]
    directions = inputs(3, 4)

    def derivative(form):
        with forward_ad.dual_level():
            duals = [forward_ad.make_dual(*pair) for pair in zip(x, directions, strict=True)]
            return [
                forward_ad.unpack_dual(g).tangent
                for g in torch.autograd.grad(loss(form)(*duals), x)
            ]

    assert_equal(derivative)


@pytest.mark.parametrize("order", [2, 3, 4])
def test_higher_derivatives_match_the_reference(order):
    def derivative(form):
        x = [y.clone().requires_grad_() for y in inputs_of((3, 2))]
        value = loss(form)(*x)
        for _ in range(order):
            gradients = torch.autograd.grad(value, x, create_graph=True)
            value = sum(g.square().sum() for g in gradients)
        return gradients

    assert_equal(derivative)


@pytest.mark.parametrize(
    "spatial",
    [
        *[(3,), (1, 1)],
        *[pytest.param(s, marks=pytest.mark.slow) for s in [(2, 3), (1, 3), (3, 1), (2, 1, 2)]],
    ],
    ids=str,
)
def test_gradcheck_passes_in_all_modes(spatial):
    x = [y.requires_grad_() for y in inputs(*spatial, batch=1)]
    assert torch.autograd.gradcheck(
        fused,
        x,
        check_forward_ad=True,
        check_batched_grad=True,
        check_batched_forward_grad=True,
    )
    assert torch.autograd.gradgradcheck(fused, x, check_fwd_over_rev=True, check_rev_over_rev=True)


@pytest.mark.parametrize("order", [1, 2])
def test_a_backward_pass_under_autocast_keeps_its_precision(order, device):
    def derivative(is_autocast):
        x = [y.float().requires_grad_() for y in inputs_of((3, 2))]
        value = loss(fused)(*x)
        for _ in range(order):
            with torch.autocast(device, torch.bfloat16, enabled=is_autocast):
                gradients = torch.autograd.grad(value, x, create_graph=True)
            value = sum(g.square().sum() for g in gradients)
        return gradients

    for got, expected in zip(derivative(True), derivative(False), strict=True):
        torch.testing.assert_close(got, expected)


@pytest.mark.slow
@pytest.mark.parametrize("transform", ["grad", "vjp", "jvp"])
@pytest.mark.unchecked
def test_compiled_transforms_match_the_reference(transform):
    torch.compiler.reset()
    x = inputs_of((3, 2))
    compiled = torch.compile(TRANSFORMS[transform](fused), backend="aot_eager", fullgraph=True)
    for got, expected in zip(
        tree_leaves(compiled(*x)), tree_leaves(TRANSFORMS[transform](reference)(*x)), strict=True
    ):
        torch.testing.assert_close(got, expected)


@pytest.mark.unchecked
def test_an_exported_program_has_the_same_derivatives():
    class Attention(torch.nn.Module):
        def forward(self, query, key, value):
            return fused(query, key, value)

    x = inputs_of((3, 2))
    program = torch.export.export(Attention(), x).module()
    for transform in ("grad", "jvp", "jacfwd"):
        expected = TRANSFORMS[transform](reference)(*x)
        for got, want in zip(
            tree_leaves(TRANSFORMS[transform](program)(*x)), tree_leaves(expected), strict=True
        ):
            torch.testing.assert_close(got, want)

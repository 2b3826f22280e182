"""The joined head against CCNet's own."""

from functools import partial

import pytest
import torch
from torch import nn

from ccnet import CCNetHead
from ccnet.inference.folding import fold_batch_norm
from ccnet.inference.head import JoinedHead, is_joinable
from tests.conftest import with_gamma

pytestmark = pytest.mark.unchecked  # torch traces the annotated code


def new_head(**options) -> CCNetHead:
    head = with_gamma(CCNetHead(6, 3, 4, **options)).double()
    for norm in (m for m in head.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(norm.running_mean, -0.1, 0.1)
        nn.init.uniform_(norm.running_var, 0.8, 1.2)
    return head.eval()


@pytest.mark.parametrize("options", [{}, {"kernel_size": 1, "activation": "leaky_relu"}])
def test_it_is_the_same_function(options):
    head = new_head(**options)
    assert not is_joinable(head)
    folded = fold_batch_norm(head)
    assert is_joinable(folded)
    features = torch.randn(2, 6, 5, 7).double()
    torch.testing.assert_close(JoinedHead(folded)(features), head(features), rtol=0, atol=1e-13)


def test_heads_that_differ_or_are_watched_are_not_joined():
    heads = [fold_batch_norm(new_head()) for _ in range(4)]
    assert all(map(is_joinable, heads))
    heads[0].fusion.register_forward_hook(print)
    heads[1].reduction[0].register_forward_hook(print)
    heads[2].fusion.insert(0, nn.Identity())
    heads[3].forward = partial(CCNetHead.forward, heads[3])
    assert not any(map(is_joinable, heads))

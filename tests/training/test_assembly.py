"""From a configuration to parts: groups, schedules, frozen and recomputed parts."""

import copy
import io
import pickle
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import BatchNorm2d

from ccnet.config import ConsistencyConfig, DataConfig, LossConfig, OptimizerConfig
from ccnet.datasets import Scenes
from ccnet.datasets.transforms import RandomTransform
from ccnet.demo import SCENES
from ccnet.losses import SegmentationLoss
from ccnet.losses.consistency import CategoryConsistency
from ccnet.models.ccnet import CCNet
from ccnet.training.assembly import (
    Recomputed,
    build_loss,
    build_moving_average,
    build_optimizer,
    build_scheduler,
    freeze,
    recompute_parts,
    to_training_mode,
    warn_of_ohem,
    with_class_weights,
)
from ccnet.training.network import build_model

CALLS: list[nn.Module] = []


def note_call(module: nn.Module, *_: object) -> None:
    CALLS.append(module)


def small() -> CCNet:
    return CCNet(2, "tiny", channels=8, kernel_size=1, auxiliary_channels=8)


def saved_and_loaded(model: CCNet) -> CCNet:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def rates(config: OptimizerConfig, steps: int, group: int = 0) -> list[float]:
    optimizer = build_optimizer(config, small())
    scheduler = build_scheduler(config, optimizer, steps)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[group]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_the_poly_schedule_is_the_paper_s():
    assert rates(OptimizerConfig(), 10) == pytest.approx(
        [1e-2 * (1 - step / 10) ** 0.9 for step in range(10)]
    )


def test_the_poly_schedule_warms_up_and_ends_where_it_is_told():
    config = OptimizerConfig(lr=0.1, final_lr=0.01, power=1.0, warmup_steps=3)
    expected = [0.01 + 0.09 * (1 - step / 9) for step in range(9)]
    for step in range(3):
        expected[step] *= (step + 1) / 4
    assert rates(config, 9) == pytest.approx(expected)


def test_a_warm_up_that_does_not_fit_is_refused():
    optimizer = build_optimizer(OptimizerConfig(), small())
    with pytest.raises(ValueError, match="one_cycle rises by itself"):
        build_scheduler(OptimizerConfig(schedule="one_cycle", warmup_steps=2), optimizer, 10)
    with pytest.raises(ValueError, match="0 to 10, the steps, got 11"):
        build_scheduler(OptimizerConfig(warmup_steps=11), optimizer, 10)


@pytest.mark.parametrize("schedule", ["poly", "one_cycle"])
def test_the_heads_may_learn_faster(schedule):
    config = OptimizerConfig(head_lr_factor=10.0, schedule=schedule)
    backbone, heads = rates(config, 10, group=0), rates(config, 10, group=1)
    assert heads == pytest.approx([10 * rate for rate in backbone])


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_norms_and_biases_may_go_without_decay(name):
    model = small()
    names = {id(parameter): key for key, parameter in model.named_parameters()}
    optimizer = build_optimizer(OptimizerConfig(name=name, decay_norms=False), model)
    decay = {
        names[id(parameter)]: group["weight_decay"]
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert set(decay) == set(names.values())
    without = {key for key, value in decay.items() if value == 0}
    norms = {f"{key}.weight" for key, m in model.named_modules() if isinstance(m, BatchNorm2d)}
    assert without == norms | {key for key in decay if key.endswith((".bias", "gamma"))}
    one_group = build_optimizer(OptimizerConfig(name=name), model).param_groups
    assert [group["weight_decay"] for group in one_group] == [1e-4]


def test_a_frozen_part_learns_nothing_and_counts_nothing():
    model = small()
    freeze(model, ["backbone.conv1"], norms=False)
    to_training_mode(model, ["backbone.conv1"], norms=False)
    assert not any(p.requires_grad for p in model.backbone.conv1.parameters())
    assert not model.backbone.conv1[1].training
    assert model.backbone.conv2[1].training
    assert all(p.requires_grad for p in model.head.parameters())
    frozen = set(map(id, model.backbone.conv1.parameters()))
    groups = build_optimizer(OptimizerConfig(), model).param_groups
    assert not frozen & {id(p) for group in groups for p in group["params"]}


def test_freezing_everything_is_refused():
    with pytest.raises(ValueError, match="nothing is left to train"):
        freeze(small(), ["backbone", "head", "auxiliary_head"], norms=False)


@pytest.mark.parametrize("act", [recompute_parts, lambda model, names: freeze(model, names, False)])
def test_a_part_that_there_is_not_is_named_with_those_that_there_are(act):
    with pytest.raises(
        ValueError, match=r"no part 'backbone.layer9'; it has backbone.conv1, .*head"
    ):
        act(small(), ["backbone.layer9"])


def test_a_recomputed_part_keeps_its_input_alone():
    def kept(model: CCNet) -> int:
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t: sizes.append(t.nbytes) or t, lambda t: t
        ):
            model(torch.randn(2, 3, 64, 64), auxiliary=True)[0].sum()
        return sum(sizes)

    plain, less = small(), small()
    recompute_parts(less, ["backbone.conv1", "backbone.conv2"])
    assert kept(less) < kept(plain) - 2 * 32 * 32 * 32 * 4


PARTS = ["backbone.conv1", "backbone.conv1.1", "head.attention", "head.dropout"]


def step(model: CCNet) -> list[torch.Tensor]:
    """Logits, gradients and statistics of one step."""
    torch.manual_seed(0)
    model.train().zero_grad()
    logits = model(torch.randn(2, 3, 64, 64), auxiliary=True)
    sum(x.square().mean() for x in logits).backward()
    gradients = [p.grad for p in model.parameters()]
    return [*map(torch.clone, logits), *gradients, *map(torch.clone, model.buffers())]


@pytest.mark.parametrize(
    "copied",
    [lambda m: m, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m)), saved_and_loaded],
    ids=["itself", "deepcopy", "pickle", "torch.save"],
)
def test_a_recomputed_part_keeps_its_names_and_its_kind(copied):
    plain, model = small(), small()
    model.load_state_dict(plain.state_dict())
    model.get_submodule(PARTS[0]).register_forward_hook(note_call)
    recompute_parts(model, PARTS)
    recompute_parts(model, PARTS[:1])  # once is enough
    model = copied(model)
    assert list(model.state_dict()) == list(plain.state_dict())
    assert [name for name, _ in model.named_modules()] == [
        name for name, _ in plain.named_modules()
    ]
    for (name, part), other in zip(model.named_modules(), plain.modules(), strict=True):
        assert isinstance(part, type(other)), name
        assert isinstance(part, Recomputed) == (name in PARTS), name
        assert "forward" not in vars(part), name
    CALLS.clear()
    assert all(map(torch.equal, step(model), step(plain)))
    assert len(CALLS) == 1  # hooks run with the module, and not again with its recomputation


def test_a_recomputed_part_moves_and_learns_as_before():
    model = small()
    recompute_parts(model, PARTS)
    model.double()
    assert model.backbone.conv1[0].weight.dtype == torch.float64
    assert model.backbone.conv1[1].running_mean.dtype == torch.float64
    freeze(model, [], norms=True)
    to_training_mode(model, [], norms=True)
    assert not model.backbone.conv1[1].training
    assert not model.backbone.conv1[1].weight.requires_grad


CONSISTENT = replace(SCENES, loss=LossConfig(category_consistent=1.0))


@pytest.mark.parametrize("refinement", [None, [2]])
def test_a_recomputed_head_gives_its_embedding_and_the_same_gradient(refinement):
    plain = build_model(CONSISTENT, Scenes(), refinement=refinement)
    model = copy.deepcopy(plain)
    recompute_parts(model, ["head"])
    gradients = []
    for network in (plain, model):
        torch.manual_seed(0)
        outputs = network(torch.randn(2, 3, 64, 64), auxiliary=True, embedding=True)
        sum(x.square().sum() for x in outputs).backward()
        gradients.append([p.grad for p in network.parameters()])
    assert all(map(torch.equal, *gradients))


def test_the_loss_is_that_of_the_configuration():
    consistency = ConsistencyConfig(channels=4, distance=2.0)
    config = replace(
        SCENES,
        loss=LossConfig(0.3, [1.0, 2.0], 0.6, 50, 2.0, 0.1, 0.7, 0.8, 0.9, consistency=consistency),
    )
    loss = build_loss(config)
    assert loss.auxiliary_weight == 0.3
    assert loss.class_weights.tolist() == [1, 2]
    assert (loss.ohem_threshold, loss.ohem_min_kept) == (0.6, 50)
    assert loss.cross_entropy == {"focal_gamma": 2.0, "label_smoothing": 0.1}
    assert (loss.dice, loss.lovasz, loss.category_consistent) == (0.7, 0.8, 0.9)
    assert loss.consistency == CategoryConsistency(distance=2.0)
    assert build_loss(SCENES).consistency == CategoryConsistency()
    assert vars(build_loss(SCENES)) | {"_buffers": 0} == vars(SegmentationLoss()) | {"_buffers": 0}


def test_weights_to_be_measured_become_numbers_once(capsys):
    config = replace(SCENES, loss=LossConfig(class_weights="auto"))
    data = Scenes("train", num_images=8)
    measured = with_class_weights(config, data, None)
    weights = measured.loss.class_weights
    assert isinstance(weights, list)
    assert len(weights) == 4
    assert replace(measured, loss=config.loss) == config
    assert "class weights of 8 of 8 images" in capsys.readouterr().err
    save = {"config": {"loss": {"class_weights": [1.0, 2.0, 3.0, 4.0]}}}
    assert with_class_weights(config, data, save).loss.class_weights == [1, 2, 3, 4]
    assert with_class_weights(measured, data, save) is measured
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("kept", "augment", "is_told"),
    [
        (8 * 32 * 40, RandomTransform((32, 40)), True),
        (8 * 32 * 40 - 1, RandomTransform((32, 40)), False),
        (8 * 64 * 64, None, True),  # the scenes are 64×64
        (8 * 64 * 64 - 1, None, False),
        (0.99, RandomTransform((32, 40)), False),
    ],
)
def test_ohem_that_keeps_every_pixel_is_told(kept, augment, is_told, capsys):
    loss = LossConfig(ohem_threshold=0.7, ohem_min_kept=kept)
    config = replace(SCENES, loss=loss, batch_size=8, data=DataConfig(augment=augment))
    warn_of_ohem(config, Scenes())
    said = capsys.readouterr().err
    assert ("OHEM leaves none of them out; a share works" in said) == is_told
    assert said.count("\n") == is_told
    warn_of_ohem(replace(config, loss=LossConfig(ohem_min_kept=10**9)), Scenes())
    assert capsys.readouterr().err == ""


def test_a_moving_average_follows_the_weights():
    model = small()
    assert build_moving_average(SCENES, model) is None
    average = build_moving_average(replace(SCENES, ema_decay=0.75), model)
    assert average is not None
    start = model.head.classifier.bias.detach().clone()
    for value in (1.0, 2.0):  # the first one is taken as it is
        nn.init.constant_(model.head.classifier.bias, value)
        average.update_parameters(model)
    assert not torch.equal(start, average.module.head.classifier.bias)
    assert average.module.head.classifier.bias.tolist() == pytest.approx([1.25, 1.25])

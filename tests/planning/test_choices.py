"""What is chosen, and that what is given stays."""

from dataclasses import replace

import pytest
import torch

from ccnet.config import TrainConfig
from ccnet.planning import choices
from ccnet.planning.choices import plan
from ccnet.planning.facts import DataFacts
from ccnet.planning.machine import Machine
from ccnet.planning.memory import bytes_per_image
from ccnet.planning.planner import flattened

CAMVID = DataFacts(
    num_images=367,
    num_validation=101,
    height=360,
    width=480,
    smallest_side=360,
    largest=(360, 480),
    shares=(0.17, 0.24, 0.01, 0.33, 0.05, 0.1, 0.01, 0.01, 0.06, 0.01, 0.01),
    thin_share=0.03,
)
FEW_CLASSES = replace(CAMVID, shares=(0.5, 0.3, 0.2))
PROCESSOR = Machine(torch.device("cpu"), "float32", 16 << 30, 4)
GPU = Machine(torch.device("cuda"), "bfloat16", 80 << 30, 16)


COUNTED: dict[str, int] = {}


@pytest.fixture(autouse=True)
def _memory_is_counted_once(monkeypatch):
    """The plans below are of few networks and crops; `test_memory.py` tests the count itself."""

    def counted(*arguments):
        if (key := repr(arguments)) not in COUNTED:
            COUNTED[key] = bytes_per_image(*arguments)
        return COUNTED[key]

    monkeypatch.setattr(choices, "bytes_per_image", counted)


def chosen(facts=CAMVID, machine=PROCESSOR, **given):
    given = {name.replace("__", "."): value for name, value in given.items()}
    choices = plan(facts, machine, given)
    assert len({choice.flag for choice in choices}) == len(choices)
    assert all(choice.reason for choice in choices)
    return {choice.flag: choice.value for choice in choices}


def test_every_choice_is_a_flag():
    flags = {flag for flag, _ in flattened(TrainConfig().to_dict())}
    flags |= {f"data.augment.{name}" for name in ("crop_size", "scale")}
    flags |= {f"data.augment.{name}" for name in ("brightness", "contrast", "saturation")}
    large = replace(CAMVID, height=6000, width=8000, largest=(6000, 8000), smallest_side=6000)
    for facts in (CAMVID, large):
        for machine in (PROCESSOR, GPU):
            assert chosen(facts, machine).keys() <= flags


def test_a_processor_gets_a_small_backbone_and_a_gpu_a_resnet():
    assert chosen()["model.backbone"] == "mobilenet_v2"
    assert chosen(machine=GPU)["model.backbone"] == "resnet50"
    assert chosen(machine=GPU)["precision"] == "bfloat16"
    assert "model.channels" not in chosen(model__backbone="resnet50")


def test_features_are_refined_by_the_finer_maps_that_the_backbone_has():
    assert chosen(FEW_CLASSES)["model.refinement"] == [4, 2]
    assert chosen()["model.refinement"] == [8, 4]
    assert chosen(model__output_stride=8)["model.refinement"] == [4]
    assert chosen(machine=GPU)["model.refinement"] == [4, 2]
    assert chosen(model__backbone="tiny")["model.refinement"] == [2]
    assert "model.refinement" not in chosen(model__refinement=None)


def test_the_output_stride_is_coarse_only_where_a_small_network_is_refined():
    assert chosen()["model.output_stride"] == 16
    assert "model.output_stride" not in chosen(machine=GPU)
    assert "model.output_stride" not in chosen(model__refinement=None)
    assert "model.output_stride" not in chosen(model__output_stride=8)


def test_the_head_of_a_small_network_is_shallow():
    assert chosen()["model.kernel_size"] == 1
    assert "model.kernel_size" not in chosen(machine=GPU)
    assert "model.kernel_size" not in chosen(model__backbone="resnet50")


def test_a_processor_takes_more_and_smaller_steps():
    assert (chosen()["batch_size"], chosen(machine=GPU)["batch_size"]) == (4, 8)
    images = [chosen(machine=each) for each in (PROCESSOR, GPU)]
    seen = [found["steps"] * found["batch_size"] for found in images]
    assert seen[0] == pytest.approx(seen[1], abs=8)


def test_what_is_given_is_not_chosen_and_others_follow_it():
    found = chosen(batch_size=2, data__augment__crop_size=[64, 64])
    assert not found.keys() & {"batch_size", "data.augment.crop_size"}
    assert found["steps"] == pytest.approx(2 * chosen()["steps"], abs=4)


@pytest.mark.parametrize(
    ("side", "crop"), [(20, 32), (64, 64), (100, 96), (150, 128), (360, 288), (5000, 384)]
)
def test_crops_are_multiples_of_32_that_fit_into_half_of_the_images(side, crop):
    facts = replace(CAMVID, height=side, width=2 * side, largest=(side, 2 * side))
    assert chosen(facts)["data.augment.crop_size"] == [crop, crop]


def test_large_images_are_made_smaller():
    facts = replace(CAMVID, height=3000, width=4000, largest=(3000, 4000))
    assert chosen(facts)["data.augment.scale"] == [0.13, 1.25]
    assert chosen()["data.augment.scale"] == [0.75, 1.5]
    thin = replace(facts, thin_share=0.2)
    assert chosen(thin)["data.augment.scale"] == [0.5, 1.25]


def test_a_gpu_has_time_for_larger_crops_and_a_wider_range():
    assert chosen(machine=GPU)["data.augment.crop_size"] == [352, 352]
    assert chosen(machine=GPU)["data.augment.scale"] == [0.5, 2.0]


def test_classes_are_weighted_where_some_are_rare():
    assert chosen()["loss.class_weights"] == "auto"
    even = replace(CAMVID, shares=(0.5, 0.3, 0.2, 0.0))
    assert "loss.class_weights" not in chosen(even)


def test_parts_of_a_batch_fit_into_the_memory():
    assert chosen()["accumulate"] == 1
    assert chosen(machine=replace(PROCESSOR, memory=1 << 29))["accumulate"] == 2
    assert chosen(batch_size=8, machine=replace(PROCESSOR, memory=1 << 29))["accumulate"] == 4


def test_steps_follow_the_number_of_images():
    steps = [chosen(replace(CAMVID, num_images=n))["steps"] for n in (6, 367, 20_000)]
    assert steps == sorted(steps)
    assert steps[0] == 750
    assert steps[2] == 40_000


def test_validations_take_a_small_part_of_the_time():
    found = chosen()
    assert found["steps"] / found["validate_every"] == pytest.approx(10, abs=0.5)
    facts = replace(CAMVID, num_validation=20_000)
    found = chosen(facts)
    assert found["steps"] / found["validate_every"] == pytest.approx(2, abs=0.1)


def test_images_that_are_too_large_to_be_seen_whole_are_validated_in_tiles():
    facts = replace(CAMVID, height=6000, width=8000, largest=(6000, 8000))
    assert chosen(facts)["protocol.tile"] == 769
    assert "protocol.tile" not in chosen()

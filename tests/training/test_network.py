"""The network of a run that starts from another model."""

from dataclasses import replace

import pytest
import torch

from ccnet.config import LossConfig, ModelConfig, TrainConfig
from ccnet.datasets import Scenes
from ccnet.demo import SCENES
from ccnet.models.ccnet import CCNet
from ccnet.training.network import (
    build_model,
    build_model_from,
    build_model_of_save,
    build_replica,
    classifier_weights,
    config_from,
    describe_start,
    inherited,
    kept_rows,
)

CLASSIFIERS = ["head.classifier.weight", "head.classifier.bias"]
CONSISTENT = replace(SCENES, loss=LossConfig(category_consistent=1.0))


def started(source: CCNet, config: TrainConfig) -> CCNet:
    return build_model_from(source, config_from(source, config), Scenes())


def with_classes(*classes: str, **options) -> CCNet:
    return CCNet(
        len(classes), "tiny", channels=64, kernel_size=1, classes=classes, dropout=0.0, **options
    )


def test_a_start_keeps_the_architecture_that_no_flag_gives():
    model = replace(SCENES.model, backbone="resnet18", channels=8)
    config = replace(SCENES, model=model)
    rules = {"stem": "deep_32", "dilation": "uniform", "ceil_mode": True, "auxiliary_bias": True}
    source = build_model(config, Scenes(), **rules)
    found = started(source, config)
    assert found.arguments.items() >= rules.items()
    torch.testing.assert_close(found.state_dict(), source.state_dict())
    assert inherited(found) == inherited(source)


def test_a_start_needs_no_flag_of_the_model():
    """With a configuration of defaults, of a ResNet-101, a run from a tiny network is tiny."""
    source = build_model(SCENES, Scenes(), activation="leaky_relu")
    config = config_from(source, TrainConfig(model=ModelConfig(pretrained="imagenet")))
    assert config.model == replace(SCENES.model, activation="leaky_relu")
    found = build_model_from(source, config, Scenes())
    assert found.arguments == source.arguments
    torch.testing.assert_close(found.state_dict(), source.state_dict())


def test_a_start_keeps_the_refinement_of_the_model_unless_another_is_asked_for(caplog):
    plain = replace(SCENES, model=replace(SCENES.model, channels=8))
    refined = replace(plain, model=replace(plain.model, refinement=[2]))
    source = build_model(refined, Scenes())
    for config in (plain, refined, TrainConfig()):
        found = started(source, config)
        assert found.arguments["refinement"] == [2]
        torch.testing.assert_close(found.state_dict(), source.state_dict())
    assert caplog.messages == []
    unrefined = build_model(plain, Scenes())
    found = started(unrefined, refined)
    assert found.arguments["refinement"] == [2]
    assert caplog.messages == ["new: head.refinement, head.classifier"]
    assert torch.equal(found.head.fusion[0].weight, unrefined.head.fusion[0].weight)
    said = describe_start(unrefined, config_from(unrefined, refined), Scenes.classes)
    assert said == "tiny, 8 channels, recurrence 2; new: refinement [2] and its classifier"


def test_a_start_with_another_refinement_has_the_embedding_of_the_loss():
    source = build_model(SCENES, Scenes())
    refined = replace(CONSISTENT, model=replace(CONSISTENT.model, refinement=[2]))
    found = started(source, refined)
    outputs = found(torch.randn(1, 3, 40, 48), auxiliary=True, embedding=True)
    assert [x.shape[1:] for x in outputs] == [(4, 40, 48), (16, 10, 12)]


def test_a_resumed_run_has_the_refinement_that_it_started_with():
    config = replace(SCENES, model=replace(SCENES.model, channels=8))
    model = build_model(config, Scenes(), refinement=[2])  # from a model that it started from
    save = {"inherited": inherited(model), "model": model.state_dict()}
    resumed = build_model_of_save(config, Scenes(), save)
    torch.testing.assert_close(resumed.state_dict(), model.state_dict())
    assert "refinement" not in inherited(build_model(config, Scenes()))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"channels": 32}, "has channels 64, the configuration 32; without model.channels"),
        ({"backbone": "resnet18"}, "has backbone tiny, the configuration resnet18"),
        ({"auxiliary_channels": 16}, "has auxiliary_channels None, the configuration 16"),
        ({"activation": "leaky_relu"}, "has activation relu, the configuration leaky_relu"),
        ({"ceil_mode": True}, "has ceil_mode None, the configuration True"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_flag_that_contradicts_the_model_is_refused(changes, words):
    source = build_model(SCENES, Scenes())
    with pytest.raises(ValueError, match=words):
        config_from(source, replace(SCENES, model=replace(SCENES.model, **changes)))


def test_flags_that_change_no_weight_may_differ():
    source = build_model(SCENES, Scenes())
    flags = {"dropout": 0.3, "recurrence": 3, "align_corners": True}
    config = config_from(source, replace(SCENES, model=replace(SCENES.model, **flags)))
    found = build_model_from(source, config, Scenes())
    assert found.arguments.items() >= flags.items()
    torch.testing.assert_close(found.state_dict(), source.state_dict())


def test_a_start_from_other_channels_is_refused():
    source = build_model(SCENES, Scenes(), in_channels=5)
    with pytest.raises(ValueError, match="takes 5 channels, data has 3"):
        started(source, SCENES)


@pytest.mark.parametrize("auxiliary", [None, 8])
@pytest.mark.parametrize("classes", [("sky", "blue", "ground"), ("green", "red", "blue", "ground")])
def test_classifiers_keep_the_rows_of_equal_names(classes, auxiliary):
    source = with_classes(*classes, auxiliary_channels=auxiliary)
    found = started(source, TrainConfig())
    weights, own = found.state_dict(), source.state_dict()
    names = classifier_weights(source)
    assert names[:2] == CLASSIFIERS
    assert len(names) == (2 if auxiliary is None else 4)
    for name in names:
        for row, label in enumerate(Scenes.classes):
            if label in classes:
                assert torch.equal(weights[name][row], own[name][classes.index(label)])
            else:
                assert all(not torch.equal(weights[name][row], other) for other in own[name])
    for name in own.keys() - set(names):
        assert torch.equal(weights[name], own[name]), name
    assert found.classes == Scenes.classes


def test_a_start_without_an_equal_name_has_new_classifiers():
    source = with_classes("a", "b", "c", "d", auxiliary_channels=None)
    torch.manual_seed(1)
    found = started(source, TrainConfig())
    for name in CLASSIFIERS:
        assert not torch.isclose(found.state_dict()[name], source.state_dict()[name]).any()


def test_numbered_classes_are_those_of_the_data_if_they_are_as_many():
    assert kept_rows(["class 0", "class 1"], ["a", "b"]) == [0, 1]
    assert kept_rows(["class 0", "class 1"], ["a", "b", "c"]) == [None, None, None]
    assert kept_rows(["b", "a"], ["a", "c", "b"]) == [1, None, 0]


def test_what_is_kept_and_what_is_new_is_said():
    source = with_classes("sky", "blue", "ground")
    said = describe_start(source, config_from(source, TrainConfig()), Scenes.classes)
    kept = "classes kept: ground, blue; new: red, green; left out: sky"
    assert said == f"tiny, 64 channels, recurrence 2; {kept}"
    source = build_model(SCENES, Scenes())
    said = describe_start(source, config_from(source, SCENES), Scenes.classes)
    assert said == "tiny, 64 channels, recurrence 2; all of its classes"


def test_a_replica_has_the_architecture_and_no_moving_average():
    model = build_model(SCENES, Scenes(), mean=[0.0] * 3)
    replica = build_replica(SCENES, Scenes(), model)
    replica.load_state_dict(model.state_dict())
    assert replica.arguments == model.arguments
    with pytest.raises(ValueError, match="fsdp keeps no moving average; strategy=ddp does"):
        build_replica(replace(SCENES, ema_decay=0.9), Scenes(), model)


@pytest.mark.parametrize(
    ("before", "now"), [(SCENES, CONSISTENT), (CONSISTENT, SCENES), (CONSISTENT, CONSISTENT)]
)
def test_a_start_takes_everything_but_the_embedding_which_belongs_to_the_loss(before, now):
    source = build_model(before, Scenes())
    started = build_model_from(source, now, Scenes())
    channels = None if now is SCENES else 16
    assert started.arguments.get("embedding_channels") == channels
    own, others = started.state_dict(), source.state_dict()
    assert {key for key in own if "embedding" in key} == (
        set() if channels is None else {"head.embedding.weight", "head.embedding.bias"}
    )
    assert all(torch.equal(own[key], others[key]) for key in own if "embedding" not in key)

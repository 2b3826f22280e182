"""Published weights: taken where they can be had, and their absence is loud."""

import pytest

from ccnet.planning import pretrained
from ccnet.planning.pretrained import choose_pretrained


def test_weights_that_can_be_had_are_taken(monkeypatch):
    fetched = []
    monkeypatch.setattr(pretrained, "fetch", fetched.append)
    choice = choose_pretrained("mobilenet_v2")
    assert (choice.value, choice.is_warning) == ("imagenet", False)
    assert "mobilenet_v2" in fetched[0]
    assert choose_pretrained("resnet50", "deep_32").value == "imagenet"
    assert "v1c" in fetched[1]


def test_without_a_network_the_run_begins_from_nothing_and_says_so(monkeypatch):
    def unreachable(url):
        raise OSError(f"{url} cannot be downloaded; give its path as pretrained")

    monkeypatch.setattr(pretrained, "fetch", unreachable)
    choice = choose_pretrained("mobilenet_v2")
    assert (choice.flag, choice.value, choice.is_warning) == ("model.pretrained", None, True)
    assert "much lower score" in choice.reason
    assert "give its path" in choice.reason


@pytest.mark.parametrize(("backbone", "stem"), [("tiny", None), ("resnet18", "deep_64")])
def test_a_backbone_without_known_weights_begins_from_nothing(backbone, stem):
    choice = choose_pretrained(backbone, stem)
    assert choice.value is None
    assert choice.is_warning
    assert backbone in choice.reason

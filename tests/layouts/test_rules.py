"""Suffix rules that are found by themselves."""

from pathlib import Path

import pytest

from ccnet.layouts.rules import (
    KNOWN,
    SAME_NAME,
    AmbiguousRuleError,
    Rule,
    best_of,
    choose_rule,
)


def keyed(*names: str) -> dict[str, Path]:
    return {name: Path(f"{name}.png") for name in names}


@pytest.mark.parametrize("ends", KNOWN, ids=str)
@pytest.mark.parametrize("in_one_folder", [False, True])
def test_every_known_rule_is_found(ends: tuple[str, str], in_one_folder: bool):
    images = keyed(*(f"{name}{ends[0]}" for name in ("a", "b", "deep/c")))
    labels = keyed(*(f"{name}{ends[1]}" for name in ("a", "b", "deep/c")))
    if in_one_folder:
        images = labels = images | labels
    rule, pairs = choose_rule(images, labels, in_one_folder=in_one_folder)
    assert {image: image.removesuffix(ends[0]) + ends[1] for image in pairs} == pairs
    assert len(pairs) == 3
    assert rule != SAME_NAME


@pytest.mark.parametrize("end", ["-x", " (mask)", "truth", "_manual1"])
@pytest.mark.parametrize("in_one_folder", [False, True])
def test_a_suffix_that_all_labels_have_is_found(end: str, in_one_folder: bool):
    images = keyed("1", "2", "10")
    labels = keyed(*(name + end for name in images))
    if in_one_folder:
        images = labels = images | labels
    rule, pairs = choose_rule(images, labels, in_one_folder=in_one_folder)
    assert (rule, pairs) == (Rule("", end), {name: name + end for name in ("1", "2", "10")})
    assert str(rule) == f"IMAGE with IMAGE{end}"


def test_numbers_are_no_suffix_and_a_suffix_of_some_is_none():
    names = keyed("1", "10", "2", "20")
    assert choose_rule(names, names, in_one_folder=True) == (SAME_NAME, {})
    images, labels = keyed("a", "b", "c"), keyed("a-x", "b-y", "c-x")
    assert choose_rule(images, labels, in_one_folder=False) == (SAME_NAME, {})


def test_equal_names_are_preferred_in_two_folders():
    images = {name: Path(f"{name}.jpg") for name in "ab"}
    labels = keyed("a", "b", "a_mask", "b_mask")
    assert choose_rule(images, labels, in_one_folder=False)[0] == SAME_NAME


def test_the_rule_of_more_pairs_counts():
    images, labels = keyed("a", "b", "c"), keyed("a", "a_mask", "b_mask", "c_mask")
    assert choose_rule(images, labels, in_one_folder=False)[0] == Rule("", "_mask")


def test_two_labels_of_an_image_are_named_and_no_choice_is_made():
    images = keyed("a", "b")
    labels = keyed("a_mask", "b_mask", "a_label", "b_label")
    with pytest.raises(AmbiguousRuleError, match=r"label of a\.png: a_mask\.png, a_label\.png\. M"):
        choose_rule(images, labels, in_one_folder=False)


def test_a_photograph_and_a_picture_of_one_name_are_a_pair():
    images, labels = {"a": Path("a.jpg"), "b": Path("b.png")}, keyed("a", "b")
    assert choose_rule(images, labels, in_one_folder=True) == (SAME_NAME, {"a": "a"})


def test_of_given_rules_the_first_that_pairs_the_most_counts():
    images = {name: Path(f"{name}_x.jpg") for name in ("a_x", "b_x")}
    labels = {name: Path(f"{name}.png") for name in ("a_ids", "b_ids", "a_train", "b_train")}
    ids, train = Rule("_x", "_ids"), Rule("_x", "_train")
    assert best_of([ids, train], images, labels) == (ids, {"a_x": "a_ids", "b_x": "b_ids"})
    del labels["b_ids"]
    assert best_of([ids, train], images, labels)[0] == train

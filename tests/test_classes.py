"""Names and colors of published classes."""

from ccnet.classes import ADE20K, CITYSCAPES, VOC


def test_names_and_colors_are_whole_and_distinct():
    assert [len(classes) for classes in (CITYSCAPES, VOC, ADE20K)] == [19, 21, 150]
    assert CITYSCAPES["bicycle"] == (119, 11, 32)
    assert VOC["tvmonitor"] == (0, 64, 128)
    assert ADE20K["flag"] == (92, 0, 255)
    for classes in (CITYSCAPES, VOC):
        assert len(set(classes.values())) == len(classes)

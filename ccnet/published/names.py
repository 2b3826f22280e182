"""Names and numbers by which the published networks are recognized: of the CCNet authors' files and
of mmsegmentation's.
"""

from typing import Literal

Family = Literal["authors", "mmsegmentation"]
IN_PLACE_EPS = 1e-5
"""The scale of the authors' in-place batch normalization is |weight| + this."""
STEMS = {  # by the channels of the stem's convolutions
    (64,): "plain",
    (32, 32, 64): "deep_32",
    (64, 64, 128): "deep_64",
}
# By whether the blocks are bottlenecks, and how many of them each layer has
DEPTHS: dict[tuple[bool, tuple[int, ...]], int] = {
    (False, (2, 2, 2, 2)): 18,
    (False, (3, 4, 6, 3)): 34,
    (True, (3, 4, 6, 3)): 50,
    (True, (3, 4, 23, 3)): 101,
    (True, (3, 8, 36, 3)): 152,
}
ATTENTION = "head.attention.passes.0."
# The starts of their keys and of ours
PREFIXES: dict[Family, dict[str, str]] = {
    "authors": {
        **{f"layer{index}.": f"backbone.layer{index}." for index in (1, 2, 3, 4)},
        "head.conva.": "head.reduction.",
        "head.cca.": ATTENTION,
        "head.convb.": "head.smoothing.",
        "head.bottleneck.0.": "head.fusion.0.",
        "head.bottleneck.1.": "head.fusion.1.",
        "head.bottleneck.3.": "head.classifier.",
        "dsn.0.": "auxiliary_head.0.",
        "dsn.1.": "auxiliary_head.1.",
        "dsn.3.": "auxiliary_head.4.",
    },
    "mmsegmentation": {
        "backbone.": "backbone.",
        "decode_head.convs.0.conv.": "head.reduction.0.",
        "decode_head.convs.0.bn.": "head.reduction.1.",
        "decode_head.cca.gamma.scale": ATTENTION + "gamma",
        "decode_head.cca.": ATTENTION,
        "decode_head.convs.1.conv.": "head.smoothing.0.",
        "decode_head.convs.1.bn.": "head.smoothing.1.",
        "decode_head.conv_cat.conv.": "head.fusion.0.",
        "decode_head.conv_cat.bn.": "head.fusion.1.",
        "decode_head.conv_seg.": "head.classifier.",
        "auxiliary_head.convs.0.conv.": "auxiliary_head.0.",
        "auxiliary_head.convs.0.bn.": "auxiliary_head.1.",
        "auxiliary_head.conv_seg.": "auxiliary_head.4.",
    },
}
# A key that only a CCNet of the family has
MARKS: dict[Family, str] = {
    "authors": "head.cca.query_conv.weight",
    "mmsegmentation": "decode_head.cca.query_conv.weight",
}
# The start of a key by which another network is recognized, the most specific first
STRANGERS = {
    "head.reduction.0.": "weights saved by this package: CCNet.from_pretrained(FOLDER) reads them",
    "roi_head.": "a detector of mmdetection",
    "bbox_head.": "a detector of mmdetection",
    "decode_head.psp_modules.": "mmsegmentation's PSPNet",
    "decode_head.sep_bottleneck.": "mmsegmentation's DeepLabV3+",
    "decode_head.aspp_modules.": "mmsegmentation's DeepLabV3",
    "decode_head.": "a network of mmsegmentation without criss-cross attention",
    "backbone.layer1.": "another network on a ResNet",
    "stem.": "a backbone alone (ResNet with a deep stem): CCNet(pretrained=FILE) reads it",
    "layer1.": "a backbone alone (ResNet): CCNet(pretrained=FILE) reads it",
    "features.0.": "a backbone alone (MobileNet or the like): CCNet(pretrained=FILE) reads it",
    "patch_embed.": "a vision transformer",
}

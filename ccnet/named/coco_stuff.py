"""COCO-Stuff 164k: the images of COCO 2017, 80 things, 91 kinds of stuff (Caesar et al. 2018)."""

from ccnet.classes import IGNORE_INDEX
from ccnet.layouts.rules import SAME_NAME, Rule
from ccnet.named.definition import FolderSplit, NamedData, Storage, folder_names

THINGS = """
person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant,
stop sign, parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe,
backpack, umbrella, handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, kite,
baseball bat, baseball glove, skateboard, surfboard, tennis racket, bottle, wine glass, cup, fork,
knife, spoon, bowl, banana, apple, sandwich, orange, broccoli, carrot, hot dog, pizza, donut, cake,
chair, couch, potted plant, bed, dining table, toilet, tv, laptop, mouse, remote, keyboard,
cell phone, microwave, oven, toaster, sink, refrigerator, book, clock, vase, scissors, teddy bear,
hair drier, toothbrush
"""
STUFF = """
banner, blanket, branch, bridge, building-other, bush, cabinet, cage, cardboard, carpet,
ceiling-other, ceiling-tile, cloth, clothes, clouds, counter, cupboard, curtain, desk-stuff, dirt,
door-stuff, fence, floor-marble, floor-other, floor-stone, floor-tile, floor-wood, flower, fog,
food-other, fruit, furniture-other, grass, gravel, ground-other, hill, house, leaves, light, mat,
metal, mirror-stuff, moss, mountain, mud, napkin, net, paper, pavement, pillow, plant-other,
plastic, platform, playingfield, railing, railroad, river, road, rock, roof, rug, salad, sand, sea,
shelf, sky-other, skyscraper, snow, solid-other, stairs, stone, straw, structural-other, table,
tent, textile-other, towel, tree, vegetable, wall-brick, wall-concrete, wall-other, wall-panel,
wall-stone, wall-tile, wall-wood, water-other, waterdrops, window-blind, window-other, wood
"""
CLASSES = tuple(name.strip() for name in f"{THINGS},{STUFF}".split(","))
NUM_VALUES = 182
NEVER_LABELED = (11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90)
"""Values of things that COCO names but nobody outlined: street sign, hat, shoe, ..."""

VOID = {IGNORE_INDEX: IGNORE_INDEX}
VALUES = tuple(value for value in range(NUM_VALUES) if value not in NEVER_LABELED)
"""The value of each class: its number in the list of COCO-Stuff, less one."""
MAPS = Storage({value: index for index, value in enumerate(VALUES)} | VOID)
TRAIN_ID_FILES = Storage(
    {index: index for index in range(len(CLASSES))} | VOID, end="_labelTrainIds"
)
"""What the converter of mmsegmentation writes beside the maps."""


def split_of(name: str, number: int) -> FolderSplit:
    images = ("images/{split}", "{split}")
    labels = (
        "annotations/{split}",
        "stuffthingmaps/{split}",
        "stuffthingmaps_trainval2017/{split}",
    )
    return FolderSplit(
        number,
        folder_names(*images, split=name),
        folder_names(*labels, split=name),
        (SAME_NAME, Rule("", TRAIN_ID_FILES.end)),
    )


COCO_STUFF_DATA = NamedData(
    title="COCO-Stuff 164k",
    classes=CLASSES,
    palette=None,
    storages=(TRAIN_ID_FILES, MAPS),
    splits={"train": split_of("train2017", 118287), "val": split_of("val2017", 5000)},
    homes=("dataset",),
)

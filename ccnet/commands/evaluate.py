"""`ccnet evaluate`."""

from pathlib import Path

from ccnet.config import Precision
from ccnet.datasets import DatasetName
from ccnet.prediction.protocol import Average, ProtocolName, TileWeights


def evaluate(
    model: Path,
    data: DatasetName = "folder",
    root: Path | None = None,
    split: str = "val",
    output: Path | None = None,
    protocol: ProtocolName | None = None,
    tile: int | None = None,
    stride: int | None = None,
    scales: list[float] | None = None,
    mirror: bool | None = None,
    weights: TileWeights | None = None,
    average: Average | None = None,
    num_workers: int = 0,
    device: str = "auto",
    devices: int | None = None,
    num_nodes: int | None = None,
    precision: Precision = "float32",
) -> int:
    """Score a model on a data set.

    Prints the intersection over union (IoU) of each class, their mean (mIoU), and pixel and mean
    accuracy. All labeled pixels are counted in one confusion matrix, at the size of each image.

        ccnet evaluate runs/mine/model --root FOLDER
        ccnet evaluate runs/mine/model --root FOLDER --protocol multiscale
        ccnet evaluate runs/demo/model --data scenes --split test --output scores.json

    Args:
        model: Model folder, or an id on the Hugging Face hub.
        data: Kind of data set. A folder is described by its dataset.yaml.
        root: Folder of the data set. The scenes need none.
        split: Part of the data set.
        output: JSON file to write the scores to, each 0 to 1.
        protocol: How images are shown to the network: whole; sliding, in tiles of 769 every 513
            pixels; multiscale, such tiles at scales 0.75 to 2 and mirrored too, both as in the
            paper; or mmsegmentation, its whole images at scales 0.5 to 1.75 and mirrored too.
            Unless given, that of the model's validation, and tiles for very large images.
        tile: Side of the tiles in pixels; with it and the next five flags parts of the protocol are
            changed.
        stride: Pixels from one tile to the next; two thirds of the tile unless given.
        scales: Factors by which images are resized, such as '[0.5, 1]'.
        mirror: Also show the mirror image.
        weights: Weights of a tile's pixels in the average: flat, or gaussian, for its center.
        average: What is averaged: logits or probabilities.
        num_workers: Processes per device that read images ahead. 0 reads in the main process.
        device: Where to compute: auto (the best device there is), cpu, cuda or mps.
        devices: Processes per machine, one per device. Unless given, as many as torchrun or SLURM
            started; 1 without them.
        num_nodes: Machines. Unless given, as many as torchrun or SLURM started; 1 without them.
        precision: Number format of the network. Report figures in float32; auto is bfloat16 where
            that is faster, else float32.
    """
    from rich.console import Console

    from ccnet.datasets import open_dataset
    from ccnet.prediction.evaluate import evaluate
    from ccnet.prediction.predictor import Predictor
    from ccnet.prediction.protocol import choose_protocol
    from ccnet.report.tables import scores_table
    from ccnet.runtime.disk import require_replaceable, write_json
    from ccnet.runtime.engine import process_device
    from ccnet.runtime.processes import rank, require_num_workers
    from ccnet.runtime.progress import counting

    require_num_workers(num_workers)
    changes = {"tile": tile, "stride": stride, "scales": scales, "mirror": mirror}
    asked = choose_protocol(protocol, **changes, weights=weights, average=average)
    if output is not None:
        require_replaceable(output)
    dataset = open_dataset(data, root, split)
    with process_device(device, devices, num_nodes) as own_device:
        predictor = Predictor(model, device=own_device, precision=precision, protocol=asked)
        with counting("evaluating") as progress:
            scores = evaluate(predictor, dataset, num_workers=num_workers, progress=progress)
        if rank() > 0:
            return 0
    title = f"{model} on {data} {split}, {len(dataset)} images, {predictor.protocol}"
    Console().print(scores_table(scores, title))
    if output is not None:
        facts = {"model": str(model), "data": data, "split": split, "precision": precision}
        way = {"protocol": predictor.protocol.to_dict(), "images": len(dataset)}
        write_json(output, {**facts, **way, **scores.to_dict()})
    return 0

"""`ccnet evaluate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ccnet.config import Precision
from ccnet.datasets import DatasetName
from ccnet.prediction.protocol import AS_VALIDATED, ProtocolChoice

if TYPE_CHECKING:
    from ccnet.datasets import SegmentationDataset
    from ccnet.prediction.predictor import Predictor


def evaluate(
    model: Path,
    data: DatasetName = "folder",
    root: Path | None = None,
    split: str = "val",
    val_share: float = 0.2,
    group_by: str | None = None,
    output: Path | None = None,
    report: Path | None = None,
    compare: Path | None = None,
    num_workers: int = 0,
    device: str = "auto",
    devices: int | None = None,
    num_nodes: int | None = None,
    precision: Precision = "float32",
    views: ProtocolChoice = AS_VALIDATED,
) -> int:
    """Score a model on a data set.

    Prints the intersection over union (IoU) of each class, their mean (mIoU), and pixel and mean
    accuracy. All labeled pixels are counted in one confusion matrix, at the size of each image. A
    data set in whose labels only one class occurs is an error, since its mIoU says nothing.

        ccnet evaluate runs/mine/model --root FOLDER
        ccnet evaluate runs/mine/model --root FOLDER --protocol multiscale --report report
        ccnet evaluate runs/old/model --root FOLDER --compare runs/new/model
        ccnet evaluate runs/demo/model --data scenes --split test --output scores.json

    Args:
        model: Model folder, or an id on the Hugging Face hub.
        data: Kind of data set: a folder of your own, or a published one by its name. A folder is
            described by its dataset.yaml; without one, label files are of the model's classes.
        root: Folder of the data set. The scenes need none.
        split: Part of the data set, or a list file, such as runs/mine/lists/val.txt.
        val_share: Share of the images that is the split val of a folder without one, 0 to 1.
        group_by: Regular expression: images in whose names it finds the same text stay together.
        output: JSON file to write the scores to, each 0 to 1.
        report: Folder for report.html, a page to browse the errors: images from worst to best, the
            confusion matrix, borders, calibration, suspected label errors; with JSON and CSV files.
        compare: Second model. Prints the difference of the mIoU with its 95 % interval and p-value
            (paired bootstrap over images), and the images on which the models differ most.
        num_workers: Processes per device that read images ahead. 0 reads in the main process.
        device: Where to compute: auto (the best device there is), cpu, cuda or mps.
        devices: Processes per machine, one per device. Unless given, as many as torchrun or SLURM
            started; 1 without them.
        num_nodes: Machines. Unless given, as many as torchrun or SLURM started; 1 without them.
        precision: Number format of the network. Report figures in float32; auto is bfloat16 where
            that is faster, else float32.
    """
    from rich.console import Console

    from ccnet.checking.requirements import require_bright_images
    from ccnet.datasets import Division, open_dataset
    from ccnet.datasets.pairs import say_notes
    from ccnet.prediction.predictor import Predictor
    from ccnet.runtime.disk import require_replaceable, write_json
    from ccnet.runtime.engine import process_device
    from ccnet.runtime.processes import rank, require_num_workers

    require_num_workers(num_workers)
    if report is not None and compare is not None:
        raise ValueError("--report is of one model: leave out --compare")
    protocol = views.chosen()
    if output is not None:
        require_replaceable(output)
    with process_device(device, devices, num_nodes) as own_device:
        predictors = [
            Predictor(path, device=own_device, precision=precision, protocol=protocol)
            for path in (model, compare)
            if path is not None
        ]
        division, names = Division(val_share, group_by=group_by), predictors[0].classes
        dataset = open_dataset(data, root, split, division=division, unnamed=names)
        if rank() == 0:
            say_notes(dataset)
        require_bright_images(dataset, [predictor.model.bands for predictor in predictors])
        protocols = ", ".join(dict.fromkeys(str(predictor.protocol) for predictor in predictors))
        title = f"{data} {split}, {len(dataset)} images, {protocols}"
        way = {"precision": precision, "protocol": protocols}
        if compare is not None:
            names = str(model), str(compare)
            found, table = compared(predictors, dataset, names, title, num_workers)
        else:
            title = f"{model} on {title}"
            found, table = scored(predictors[0], dataset, title, num_workers, report, way)
        if rank() > 0:
            return 0
    Console().print(table)
    if output is not None:
        facts = {"model": str(model), "data": data, "split": split, "images": len(dataset)}
        write_json(output, {**facts, **way, **found})
    return 0


def scored(
    predictor: "Predictor",
    dataset: "SegmentationDataset",
    title: str,
    num_workers: int,
    report: Path | None,
    facts: dict[str, Any],
) -> tuple[dict[str, Any], Any]:
    """The scores of a model as JSON and as a table; writes the report if one is asked for."""
    from ccnet.metrics.confusion import require_labels_of_several_classes
    from ccnet.prediction.evaluate import evaluate
    from ccnet.report.evaluation import Evaluation
    from ccnet.report.page import write_report
    from ccnet.report.tables import scores_table
    from ccnet.runtime.processes import rank
    from ccnet.runtime.progress import counting

    observer = None if report is None else Evaluation(dataset.classes, dataset.palette)
    with counting("evaluating") as progress:
        scores = evaluate(
            predictor, dataset, num_workers=num_workers, progress=progress, observer=observer
        )
    require_labels_of_several_classes(scores)
    if observer is not None and report is not None:
        observer = observer.gathered()
        if rank() == 0:
            page = write_report(report, observer, title=title, facts=facts)
            print(f"{page} opens in a browser")
    return scores.to_dict(), scores_table(scores, title)


def compared(
    predictors: "list[Predictor]",
    dataset: "SegmentationDataset",
    names: tuple[str, str],
    title: str,
    num_workers: int,
) -> tuple[dict[str, Any], Any]:
    """How two models differ on a data set, as JSON and as a table."""
    from ccnet.prediction.compare import compare
    from ccnet.report.tables import comparison_table
    from ccnet.runtime.progress import counting

    first, second = predictors
    with counting("comparing") as progress:
        found = compare(first, second, dataset, num_workers=num_workers, progress=progress)
    return {"compared": names[1], **found.to_dict()}, comparison_table(found, names, title)

"""Train networks of segmentation_models.pytorch as its users do, to compare `ccnet train` with.

One of its networks with the same encoder weights as ours; AdamW, one-cycle, cross-entropy with
class weights, random scale, crop, mirror and colors, batches of eight, in a given number of
minutes. The number of steps follows from the time that the first ones take.

    python benchmarks/own_data_peers.py unet FOLDER --weights mobilenet_v2.safetensors \\
        --minutes 10 --output LABELS
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torchvision_operators import allow_torchvision

from ccnet.datasets import SegmentationDataset, open_dataset
from ccnet.datasets.transforms import RandomTransform
from ccnet.runtime.device import pick_device, pick_precision
from ccnet.training.samples import AugmentedDataset, TrainingBatches, new_loader
from ccnet.weights import read_weights

PEERS = {"unet": "Unet", "fpn": "FPN", "deeplabv3+": "DeepLabV3Plus"}
BATCH_SIZE, WARM_UP = 8, 5
MEAN = torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1)
STD = torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1)


def build(name: str, num_classes: int, weights: Path | None) -> nn.Module:
    """A network whose encoder, a MobileNetV2, has torchvision's weights."""
    allow_torchvision()
    import segmentation_models_pytorch as smp

    network = getattr(smp, PEERS[name])(
        encoder_name="mobilenet_v2", encoder_weights=None, classes=num_classes
    )
    if weights is not None:
        state = read_weights(weights).tensors
        missing = nn.Module.load_state_dict(network.encoder, state, strict=False).missing_keys
        # the last 1×1 convolution of MobileNetV2, which files without a classifier leave out
        if others := [key for key in missing if not key.startswith("features.18")]:
            raise ValueError(f"{weights}: {others[:3]} are missing")
    return network


def class_weights(data: SegmentationDataset) -> Tensor:
    """Median-frequency weights; 0 for a class that does not occur."""
    counts = np.zeros(256)
    for index in range(len(data)):
        counts += np.bincount(data[index][1].ravel(), minlength=256)
    shares = counts[: len(data.classes)] / counts[: len(data.classes)].sum()
    present = shares > 0
    weights = np.zeros(len(shares), np.float32)
    weights[present] = np.median(shares[present]) / shares[present]
    return torch.from_numpy(np.cbrt(weights))


def normalize(images: Tensor) -> Tensor:
    images = (images.float() - MEAN.to(images.device)) / STD.to(images.device)
    return images.contiguous(memory_format=torch.channels_last)


def train(
    network: nn.Module, data: SegmentationDataset, crop: int, seconds: float, seed: int, device: str
) -> int:
    """Train for so long; returns the number of steps."""
    place = pick_device(device)
    dtype = torch.bfloat16 if pick_precision("auto", place) == "bfloat16" else torch.float32
    network.to(place, memory_format=torch.channels_last).train()
    weights = class_weights(data).to(place)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=1e-2)
    augment = RandomTransform(
        (crop, crop), scale=(0.5, 2.0), brightness=0.3, contrast=0.3, saturation=0.3
    )
    batches = TrainingBatches(len(data), BATCH_SIZE, 10**6, seed)
    loader = new_loader(AugmentedDataset(data, augment, seed), batches, 1, place)
    start, marks, num_steps = time.monotonic(), [], 10**6
    schedule = LambdaLR(optimizer, lambda step: one_cycle(step / num_steps))
    for step, (images, labels) in enumerate(loader, start=1):
        images, labels = normalize(images.to(place)), labels.to(place)
        with torch.autocast(place.type, dtype, enabled=dtype != torch.float32):
            logits = network(images)
        loss = F.cross_entropy(logits.float(), labels, weights, ignore_index=255)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        marks.append(time.monotonic())
        if step > WARM_UP:  # the first steps are slow
            each = (marks[-1] - marks[WARM_UP - 1]) / (step - WARM_UP)
            num_steps = max(step, int(step + (start + seconds - marks[-1]) / each))
        schedule.step()
        if step >= num_steps:
            break
    return step


def one_cycle(share: float, warm_up: float = 0.3) -> float:
    """The factor of the rate after a share of the steps: PyTorch's OneCycleLR with cosines."""
    if share < warm_up:
        return 0.04 + 0.96 * (1 - np.cos(np.pi * share / warm_up)) / 2
    return max(1e-4, (1 + np.cos(np.pi * min(1, (share - warm_up) / (1 - warm_up)))) / 2)


@torch.inference_mode()
def predict(network: nn.Module, data: SegmentationDataset, output: Path, device: str) -> None:
    """Write a label map of each image: whole, padded to a multiple of 32, and cut again."""
    place = pick_device(device)
    network.eval()
    output.mkdir(parents=True)
    for index in range(len(data)):
        image = data[index][0]
        height, width = image.shape[:2]
        batch = normalize(torch.from_numpy(image).to(place).movedim(-1, 0)[None])
        logits = network(F.pad(batch, (0, -width % 32, 0, -height % 32)))
        labels = logits[0, :, :height, :width].argmax(0).cpu().numpy().astype(np.uint8)
        Image.fromarray(labels).save(output / f"{Path(data.name(index)).stem}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", default="folder", help="kind of data set, as `ccnet evaluate`")
    parser.add_argument("--weights", type=Path, help="torchvision's MobileNetV2")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--crop", type=int, default=288)
    parser.add_argument("--output", type=Path, required=True, help="new folder of label maps")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    words = parser.parse_args()
    torch.manual_seed(words.seed)
    data = open_dataset(words.data, words.folder, "train")
    network = build(words.peer, len(data.classes), words.weights)
    steps = train(network, data, words.crop, 60 * words.minutes, words.seed, words.device)
    predict(network, open_dataset(words.data, words.folder, "test"), words.output, words.device)
    print(json.dumps({"steps": steps}))


if __name__ == "__main__":
    main()

"""Train CCNet with the Trainer of PyTorch Lightning, for projects that already use it.

`ccnet train` does not need Lightning's Trainer. The data are the embedded scenes, 32 new images
per step.

    python examples/lightning_trainer.py [steps]

This needs pytorch-lightning and takes about a minute.
"""

import sys

import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from ccnet import CCNet, Predictor
from ccnet.datasets import Scenes
from ccnet.losses import SegmentationLoss
from ccnet.prediction.evaluate import evaluate

CLASS_WEIGHTS = (0.1, 1.0, 1.0, 1.0)  # nine pixels in ten are ground


class LitCCNet(LightningModule):
    """CCNet with its loss, optimizer and schedule; `model` holds further arguments of CCNet."""

    def __init__(self, steps: int = 800, lr: float = 2e-3, **model: object) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.model = CCNet(len(Scenes.classes), classes=Scenes.classes, **model)

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        images, labels = batch  # uint8, (B, H, W, 3) and (B, H, W)
        images = self.model.normalize(images.movedim(-1, 1))
        weights = torch.tensor(CLASS_WEIGHTS, device=self.device)
        logits = self.model(images, auxiliary=True)
        loss = SegmentationLoss(class_weights=weights)(logits, labels.long())
        self.log("loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> dict[str, object]:
        steps, lr = self.hparams["steps"], self.hparams["lr"]
        optimizer = torch.optim.AdamW(self.parameters(), lr)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def main(steps: int = 800) -> None:
    network = {"backbone": "tiny", "channels": 64, "kernel_size": 1, "dropout": 0.0}
    lit = LitCCNet(steps, auxiliary_channels=None, **network)
    scenes = Scenes("train", num_images=32 * steps)
    Trainer(max_epochs=1, logger=False, enable_checkpointing=False).fit(
        lit, DataLoader(scenes, batch_size=32)
    )
    scores = evaluate(Predictor(lit.model), Scenes("test"))
    print(f"mIoU {scores.miou:.3f} on held-out scenes")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

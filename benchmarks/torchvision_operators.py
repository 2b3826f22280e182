"""Lets libraries that import torchvision be used beside a build of torch that it does not fit."""

import torch

_declared: list[torch.library.Library] = []  # a library has to live as long as what it declares


def allow_torchvision() -> None:
    """Declare torchvision's operators, without any computation, where it cannot be imported."""
    try:
        import torchvision  # noqa: F401
    except RuntimeError:  # operator torchvision::nms does not exist
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _declared.append(library)

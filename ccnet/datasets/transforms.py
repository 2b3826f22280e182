"""Random transforms of an image together with its label: scale, crop, mirror, color.

Nothing here imports torch, so that `ccnet --help` answers at once.
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float64, UInt8, UInt16
from PIL import Image

from ccnet.classes import IGNORE_INDEX
from ccnet.runtime.values import Between, require_fields

LUMA = np.array([0.299, 0.587, 0.114])
RGB_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
YIQ_TO_RGB = np.linalg.inv(RGB_TO_YIQ)
CROP_DRAWS = 10
"""How often a crop is drawn while one class takes too much of it."""
SHARE_SAMPLES = 64
"""Samples per side from which the share of a class is judged."""

Box = tuple[float, float, float, float]
"""Left, top, right and bottom, in pixels of the image."""
Side = Annotated[int, Between(1, 16384)]
Scale = Annotated[float, Between(0.01, 100)]
Share = Annotated[float, Between(0, 1)]
Byte = Annotated[int, Between(0, 255)]


@dataclass(frozen=True)
class RandomTransform:
    """Random scale, crop, mirror and color; by default as in the paper, which changes no colors.

    Of images that are not RGB of 8 bits, brightness and contrast change all bands alike. Saturation
    and hue are of colors only.

    The crop is chosen first and only its window is resized, so that the cost depends on the size of
    the crop and not on that of the image. A scaled image that is smaller than the crop lies in its
    top left corner; the rest is `fill` in the image and 255 in the label.
    """

    crop_size: tuple[Side, Side]
    """Height and width of the result, in pixels."""
    scale: tuple[Scale, Scale] = (0.75, 2.0)
    """Smallest and largest factor of the size; the factor is uniform between them."""
    mirror: Share = 0.5
    """Probability of a left-right flip, 0 to 1."""
    max_class_share: Annotated[float, Between(0, 1, excluded="low")] = 0.75
    """Largest share of the labeled pixels of a crop that one class may have, 0 to 1. Above it the
    crop is drawn again, 10 times at most. The share is judged from 64×64 samples; 1 is no limit."""
    brightness: Share = 0.0
    """Colors are multiplied by a random factor from 1 ± this, 0 to 1; 0 changes nothing."""
    contrast: Share = 0.0
    """Distances from the mean gray are multiplied by a random factor from 1 ± this, 0 to 1."""
    saturation: Share = 0.0
    """Distances from the gray of each pixel are multiplied by a random factor from 1 ± this, 0 to
    1."""
    hue: Annotated[float, Between(0, 0.5)] = 0.0
    """Colors are rotated about the gray axis by up to ± this, in whole turns, 0 to 0.5."""
    fill: tuple[Byte, Byte, Byte] = (124, 116, 104)
    """RGB color of the padding, by default the mean of ImageNet. Images that are not RGB are padded
    with the mean of each band of the view."""

    def __post_init__(self):
        require_fields(self, "data.augment")
        if self.scale[0] > self.scale[1]:
            raise ValueError(f"data.augment.scale must be [low, high], got {list(self.scale)}")

    def __call__(
        self,
        image: UInt8[np.ndarray, "h w c"] | UInt16[np.ndarray, "h w c"],
        label: UInt8[np.ndarray, "h w"],
        rng: np.random.Generator,
    ) -> tuple[
        UInt8[np.ndarray, "crop_h crop_w c"] | UInt16[np.ndarray, "crop_h crop_w c"],
        UInt8[np.ndarray, "crop_h crop_w"],
    ]:
        """One random view; image and label are sampled on the same subpixel grid.

        Raises ValueError for a label of another size, and for saturation or hue of an image that is
        not RGB of 8 bits.
        """
        if image.shape[:2] != label.shape:
            raise ValueError(
                f"the image is {image.shape[:2]} but its label is {label.shape} (height, width)"
            )
        box, size = self._draw_window(label, rng)
        if image.dtype != np.uint8 or image.shape[2] != 3:
            return self._view_of_bands(image, label, box, size, rng)
        view = _resize_window(image, box, size, Image.Resampling.BILINEAR)
        target = _resize_window(label, box, size, Image.Resampling.NEAREST)
        if rng.random() < self.mirror:
            view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            target = target.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        view = self._jitter(view, rng)
        return _pad(view, self.crop_size, self.fill), _pad(target, self.crop_size, IGNORE_INDEX)

    def _view_of_bands(
        self,
        image: UInt8[np.ndarray, "h w c"] | UInt16[np.ndarray, "h w c"],
        label: UInt8[np.ndarray, "h w"],
        box: Box,
        size: tuple[int, int],
        rng: np.random.Generator,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The window of an image that is not RGB of 8 bits: resized in float32, band by band."""
        self.require_fit(image.shape[2], image.dtype)
        bands = [
            np.asarray(_resize_window(image[:, :, band], box, size, Image.Resampling.BILINEAR))
            for band in range(image.shape[2])
        ]
        view = np.stack(bands, axis=2)
        target = np.asarray(_resize_window(label, box, size, Image.Resampling.NEAREST))
        if rng.random() < self.mirror:
            view, target = view[:, ::-1], target[:, ::-1]
        for strength, center in ((self.brightness, 0.0), (self.contrast, float(view.mean()))):
            if strength:
                view = center + (view - center) * np.float32(1 + rng.uniform(-strength, strength))
        padded = np.empty((*self.crop_size, view.shape[2]), np.float32)
        padded[:] = view.mean(axis=(0, 1))
        padded[: view.shape[0], : view.shape[1]] = view
        top = np.iinfo(image.dtype).max
        padded_label = np.full(self.crop_size, IGNORE_INDEX, np.uint8)
        padded_label[: target.shape[0], : target.shape[1]] = target
        return np.rint(padded.clip(0, top)).astype(image.dtype), padded_label

    def require_fit(self, num_bands: int, dtype: np.dtype | str) -> None:
        """Raises ValueError for changes of color, of images that are not RGB of 8 bits."""
        if (self.saturation or self.hue) and (num_bands, np.dtype(dtype)) != (3, np.uint8):
            raise ValueError(
                "data.augment.saturation and hue are of RGB images of 8 bits, and these have "
                f"{num_bands} bands of {np.dtype(dtype).name}; leave them at 0 (brightness and "
                "contrast change all bands alike)"
            )

    def _draw_window(
        self, label: UInt8[np.ndarray, "h w"], rng: np.random.Generator
    ) -> tuple[Box, tuple[int, int]]:
        """A window of the image, and its size after scaling, (height, width)."""
        scale = rng.uniform(*self.scale)
        scaled = [max(1, round(side * scale)) for side in label.shape]
        height, width = (min(pair) for pair in zip(scaled, self.crop_size, strict=True))
        step_y, step_x = label.shape[0] / scaled[0], label.shape[1] / scaled[1]
        box = (0.0, 0.0, 0.0, 0.0)
        for _ in range(CROP_DRAWS):
            top = int(rng.integers(scaled[0] - height + 1))
            left = int(rng.integers(scaled[1] - width + 1))
            box = (left * step_x, top * step_y, (left + width) * step_x, (top + height) * step_y)
            if self.max_class_share == 1 or largest_share(label, box) <= self.max_class_share:
                break
        return box, (height, width)

    def _jitter(self, view: Image.Image, rng: np.random.Generator) -> Image.Image:
        """Change brightness, contrast, saturation and hue, in random order.

        Each is an affine map of RGB, so all four make one 3×4 matrix, which is applied once.
        """
        if not (self.brightness or self.contrast or self.saturation or self.hue):
            return view
        small = np.asarray(view)[::4, ::4]
        mean = small.reshape(-1, 3).mean(axis=0)
        matrix, offset = np.eye(3), np.zeros(3)
        for kind in rng.permutation(4):
            strength = (self.brightness, self.contrast, self.saturation, self.hue)[kind]
            amount = rng.uniform(-strength, strength)
            step, shift = _color_map(kind, amount, matrix @ mean + offset)
            matrix, offset = step @ matrix, step @ offset + shift
        return view.convert("RGB", tuple(np.column_stack([matrix, offset]).ravel().tolist()))


def largest_share(label: UInt8[np.ndarray, "h w"], box: Box) -> float:
    """The share that the largest class has of the labeled pixels in a window, 0 to 1.

    It is judged from 64×64 samples at most, and is 1 where all of them are ignored.
    """
    left, top, right, bottom = (int(edge) for edge in box)
    step_y = max(1, -(-(bottom - top) // SHARE_SAMPLES))
    step_x = max(1, -(-(right - left) // SHARE_SAMPLES))
    window = label[top : max(bottom, top + 1) : step_y, left : max(right, left + 1) : step_x]
    counts = np.bincount(window.ravel(), minlength=IGNORE_INDEX + 1)[:IGNORE_INDEX]
    labeled = counts.sum()
    return float(counts.max() / labeled) if labeled else 1.0


def _resize_window(
    array: np.ndarray, box: Box, size: tuple[int, int], resample: Image.Resampling
) -> Image.Image:
    """The window at a new size, as if the whole array had been resized and then cropped."""
    left, top, right, bottom = box
    # the filter reaches one output pixel beyond the window
    margin_x, margin_y = (right - left) / size[1] + 1, (bottom - top) / size[0] + 1
    x, y = int(max(0.0, left - margin_x)), int(max(0.0, top - margin_y))
    part = array[y : int(bottom + margin_y) + 1, x : int(right + margin_x) + 1]
    if resample == Image.Resampling.BILINEAR and part.ndim == 2:
        part = part.astype(np.float32)  # Pillow resizes 16 bits only so
    # rounding may move the window slightly past the edge of the part, which Pillow refuses
    right, bottom = min(right - x, part.shape[1]), min(bottom - y, part.shape[0])
    return Image.fromarray(np.ascontiguousarray(part)).resize(
        (size[1], size[0]), resample, box=(left - x, top - y, right, bottom)
    )


def _color_map(
    kind: int, amount: float, mean: Float64[np.ndarray, "3"]
) -> tuple[Float64[np.ndarray, "3 3"], Float64[np.ndarray, "3"]]:
    """Brightness, contrast, saturation or hue (0–3) as a matrix and an offset on RGB."""
    if kind == 0:
        return (1 + amount) * np.eye(3), np.zeros(3)
    if kind == 1:
        return (1 + amount) * np.eye(3), np.full(3, -amount * (LUMA @ mean))
    if kind == 2:
        return (1 + amount) * np.eye(3) - amount * np.tile(LUMA, (3, 1)), np.zeros(3)
    cos, sin = np.cos(2 * np.pi * amount), np.sin(2 * np.pi * amount)
    turn = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    return YIQ_TO_RGB @ turn @ RGB_TO_YIQ, np.zeros(3)


def _pad(
    picture: Image.Image, size: tuple[int, int], fill: int | tuple[int, int, int]
) -> np.ndarray:
    """The picture in the top left corner of an array of this size, (height, width)."""
    if (picture.height, picture.width) == size:
        return np.array(picture)
    padded = Image.new(picture.mode, (size[1], size[0]), fill)
    padded.paste(picture)
    return np.array(padded)

"""int8 by onnxruntime: convolutions compute on bytes, everything else in float32."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np


def quantize(source: Path, target: Path, batches: Iterable[np.ndarray]) -> None:
    """Write the int8 form of an ONNX file whose input is `images`.

    Weights get one scale per channel, activations one per tensor, from the extremes that they reach
    on the batches. The attention stays in float32: its scores are exponents, of which eight bits
    would leave only noise.

    Args:
        source: the ONNX file in float32.
        target: the file to write.
        batches: typical inputs, to calibrate with.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with TemporaryDirectory(dir=target.parent) as folder, without_advice():
        prepared = Path(folder, "prepared.onnx")
        # only convolutions are changed, for which no symbolic shapes are needed
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            target,
            cast(Any, Calibration(batches)),  # the base class is in onnxruntime, an extra
            op_types_to_quantize=["Conv"],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    content = onnx.load(target)
    own = [fact for fact in content.metadata_props if not fact.key.startswith("onnx.")]
    del content.metadata_props[:]
    content.metadata_props.extend(own)  # without those of onnxruntime
    onnx.save(content, target)


class Calibration:
    """Batches one at a time, then None, as onnxruntime's CalibrationDataReader gives them."""

    def __init__(self, batches: Iterable[np.ndarray]) -> None:
        self.batches = iter(batches)

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self.batches, None)
        return None if batch is None else {"images": batch}


@contextmanager
def without_advice() -> Iterator[None]:
    """onnxruntime's advice to prepare a file, logged on the root logger, is silenced: ours is."""
    before = logging.root.manager.disable
    logging.disable(max(before, logging.WARNING))
    try:
        yield
    finally:
        logging.disable(before)

"""int8 by onnxruntime: convolutions on bytes, all else, the attention too, in float32."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np


def quantize(source: Path, target: Path, batches: Iterable[np.ndarray]) -> None:
    """Write the int8 form of an ONNX file; the batches are inputs that show the usual values.

    Weights have a scale a channel; activations one a tensor, from the extremes that the batches
    reach. Scores of the attention are exponents: eight bits of them would be noise.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with TemporaryDirectory() as folder, without_advice():
        prepared = Path(folder, "prepared.onnx")
        # symbolic shapes need not be known: only convolutions are changed
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            target,
            cast(Any, Calibration(batches)),  # its base class would import onnxruntime
            op_types_to_quantize=["Conv"],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    content = onnx.load(target)
    own = [fact for fact in content.metadata_props if not fact.key.startswith("onnx.")]
    del content.metadata_props[:]
    content.metadata_props.extend(own)  # without onnxruntime's notes to itself
    onnx.save(content, target)


class Calibration:
    """Batches as onnxruntime's calibration asks for them, one at a time, then None."""

    def __init__(self, batches: Iterable[np.ndarray]) -> None:
        self.batches = iter(batches)

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self.batches, None)
        return None if batch is None else {"images": batch}


@contextmanager
def without_advice() -> Iterator[None]:
    """onnxruntime logs, on the root logger, that a file should be prepared, which ours is."""
    before = logging.root.manager.disable
    logging.disable(max(before, logging.WARNING))
    try:
        yield
    finally:
        logging.disable(before)

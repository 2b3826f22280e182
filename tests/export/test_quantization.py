"""int8 files: which operators compute on bytes, and what onnxruntime would leave behind."""

import json
import logging

import numpy as np
import onnx
import onnxruntime
import pytest

from ccnet.export.exporter import export
from ccnet.export.quantization import Calibration, quantize, without_advice

pytestmark = pytest.mark.unchecked  # torch traces the annotated code


@pytest.mark.slow
def test_int8_has_its_convolutions_on_bytes_and_keeps_most_classes(model, photos, tmp_path):
    path = tmp_path / "model.onnx"
    rows = export(model, path, labels=True, precision="int8", images=photos)
    assert all(row.labels >= 0.9 and row.difference > 0 for row in rows)
    content = onnx.load(path)
    makers = {output: node for node in content.graph.node for output in node.output}
    convolutions = [node for node in content.graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 2 + 3 + 1
    assert all(
        makers[name].op_type == "DequantizeLinear"
        for node in convolutions
        for name in node.input[:2]
    )
    assert {fact.key: json.loads(fact.value) for fact in content.metadata_props}[
        "precision"
    ] == "int8"


@pytest.mark.slow
def test_an_int8_file_takes_any_size_and_nearly_gives_the_logits_of_the_float_file(
    onnx_file, tmp_path
):
    rng = np.random.default_rng(0)
    batches = [rng.integers(0, 256, (1, 3, 40, 56), np.uint8) for _ in range(3)]
    quantize(onnx_file, tmp_path / "int8.onnx", batches)
    images = rng.integers(0, 256, (2, 3, 33, 64), np.uint8)
    logits, expected = (
        onnxruntime.InferenceSession(path).run(["logits"], {"images": images})[0]
        for path in (tmp_path / "int8.onnx", onnx_file)
    )
    assert logits.shape == expected.shape
    assert 0 < np.linalg.norm(logits - expected) < 0.1 * np.linalg.norm(expected)


@pytest.mark.slow
def test_an_int8_file_keeps_the_facts_and_no_notes_of_onnxruntime(onnx_file, tmp_path):
    images = np.zeros((1, 3, 40, 56), np.uint8)
    quantize(onnx_file, tmp_path / "int8.onnx", [images])
    facts = [
        {fact.key: fact.value for fact in onnx.load(path).metadata_props}
        for path in (onnx_file, tmp_path / "int8.onnx")
    ]
    assert facts[0] == facts[1]
    assert "classes" in facts[0]


def test_batches_are_given_one_at_a_time_and_then_none():
    batches = [np.zeros((1, 3, 4, 4), np.uint8), np.ones((1, 3, 4, 4), np.uint8)]
    reader = Calibration(iter(batches))
    for batch in batches:
        given = reader.get_next()
        assert given is not None
        assert given["images"] is batch
    assert reader.get_next() is None


@pytest.mark.parametrize("level", [logging.NOTSET, logging.ERROR])
def test_logging_is_as_quiet_afterwards_as_before(level):
    logging.disable(level)
    try:
        with without_advice():
            assert not logging.getLogger().isEnabledFor(logging.WARNING)
        assert logging.root.manager.disable == level
    finally:
        logging.disable(logging.NOTSET)

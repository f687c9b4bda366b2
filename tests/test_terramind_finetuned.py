"""Checkpoints that a TerraTorch user has: written by Lightning, of a whole task."""

from __future__ import annotations

import logging
import warnings

import pytest
import torch

from tests.fake_weights import load
from xr_rsembed.errors import WeightsError
from xr_rsembed.models.registry import find_spec

TINY = find_spec("terramind_v1_tiny")
BANDS = ("B8A", "B2", "B12")


def checkpoint(file, **backbone):
    """A segmentation task as terratorch builds it, saved by Lightning; the task's encoder."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import lightning
        from terratorch.tasks import SemanticSegmentationTask

        task = SemanticSegmentationTask(
            model_factory="EncoderDecoderFactory",
            model_args={
                "backbone": TINY.key,
                "backbone_pretrained": False,
                "backbone_modalities": ["S2L2A"],
                "necks": [
                    {"name": "SelectIndices", "indices": [2, 5, 8, 11]},
                    {"name": "ReshapeTokensToImage", "remove_cls_token": False},
                    {"name": "LearnedInterpolateToPyramidal"},
                ],
                "decoder": "UNetDecoder",
                "decoder_channels": [32, 16, 8, 8],
                "num_classes": 2,
                **backbone,
            },
            loss="ce",
            ignore_index=-1,
        )
        trainer = lightning.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, max_epochs=0)
        trainer.strategy.connect(task)
        trainer.save_checkpoint(file)
    return task.eval().model.encoder


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    torch.manual_seed(3)
    file = tmp_path_factory.mktemp("tuned") / "best.ckpt"
    return file, checkpoint(file)


def test_equals_the_encoder_of_the_task(tuned, caplog):
    file, theirs = tuned
    image = {"S2L2A": torch.randn(1, 12, 224, 224)}
    with caplog.at_level(logging.INFO, "xr_rsembed"), torch.inference_mode():
        found = load(TINY, "S2L2A", file)(image, (-1,), {}).grid
        expected = theirs(dict(image))[-1]
    torch.testing.assert_close(found.flatten(2).mT, expected, atol=1e-5, rtol=0)
    (line,) = (record.getMessage() for record in caplog.records if "best.ckpt" in record.getMessage())
    for word in (
        "keys matched under 'model.encoder.'",
        "left out, which this encoder does not use",
        "model.decoder",
    ):
        assert word in line


def test_a_modality_that_it_was_not_tuned_with(tuned):
    file, _ = tuned
    with pytest.raises(WeightsError) as caught:
        load(TINY, ("S2L2A", "S1GRD"), file)
    for word in (
        str(file),
        "untok_sen1grd@224",
        "keys matched under 'model.encoder.'",
        "model.decoder",
        "modalities",
    ):
        assert word in str(caught.value)


def test_of_another_size(tuned):
    file, _ = tuned
    with pytest.raises(WeightsError, match=r"keys of another shape: (.|\n)*, not "):
        load(find_spec("terramind_v1_small"), "S2L2A", file)


def test_tuned_on_some_bands(tmp_path):
    theirs = checkpoint(tmp_path / "bands.ckpt", backbone_bands={"S2L2A": ["NIR_NARROW", "BLUE", "SWIR_2"]})
    image = {"S2L2A": torch.randn(1, 3, 224, 224)}
    with torch.inference_mode():
        found = load(TINY, "S2L2A", tmp_path / "bands.ckpt", bands=BANDS)(image, (-1,), {}).grid
        expected = theirs(dict(image))[-1]
    torch.testing.assert_close(found.flatten(2).mT, expected, atol=1e-5, rtol=0)
    with pytest.raises(WeightsError, match="keys of another shape"):
        load(TINY, "S2L2A", tmp_path / "bands.ckpt")


def test_all_bands_in_another_order(tuned):
    """Not to be taken for a checkpoint that was tuned in that order."""
    file, _ = tuned
    (modality,) = (one for one in TINY.modalities if one.name == "S2L2A")
    image = torch.randn(1, 12, 224, 224)
    with torch.inference_mode():
        plain = load(TINY, "S2L2A", file)({"S2L2A": image}, (-1,), {}).grid
        turned = load(TINY, "S2L2A", file, bands=modality.bands[::-1])(
            {"S2L2A": image.flip(1)}, (-1,), {}
        ).grid
    torch.testing.assert_close(turned, plain, atol=1e-5, rtol=1e-5)

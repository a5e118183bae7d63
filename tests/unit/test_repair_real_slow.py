"""Repairs and cuts of published models, with everything run: seconds each on a quiet machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeopt.pipeline.fixing import Request, fix
from edgeopt.progress import Silent

pytestmark = pytest.mark.slow


def test_deeplab_maps_all_but_its_last_two_operations(shared: Path, tmp_path: Path) -> None:
    """Its resize from 1 x 1 only repeats a value, and held back six others."""
    model = shared / "edgetpu" / "models" / "deeplabv3_mnv2_dm05_pascal_quant.tflite"
    found = fix(Request(model=model, target="edgetpu", output=tmp_path), Silent())
    assert found.before.placement is not None
    assert found.after.placement is not None
    assert (found.before.placement.ops_mapped, found.after.placement.ops_mapped) == (64, 70)
    assert found.after.placement.ops_total == 72


def test_movenet_is_cut_into_three_files_that_compute_the_same(
    shared: Path, tmp_path: Path
) -> None:
    model = shared / "edgetpu" / "models" / "movenet_single_pose_lightning_ptq.tflite"
    asked = Request(model=model, target="edgetpu", output=tmp_path, cut_head=True, cut_tail=True)
    found = fix(asked, Silent())
    assert [len(one.part.operators) for one in found.cuts] == [2, 98, 57]
    assert found.chain_proof is not None
    assert found.chain_proof.identical
    body = found.cuts[1].look.placement
    assert body is not None
    assert (body.ops_mapped, body.ops_cpu) == (98, 0)

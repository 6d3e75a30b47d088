"""The way back by command is held to the floor; the device's own way back is not."""

from __future__ import annotations

import pytest

from agent.errors import PolicyRefused
from contract.deployments import Cause
from tests.agent.deployment.device import FAMILY, Device
from tests.agent.deployment.releases import Released


def test_a_command_does_not_go_below_the_floor(device: Device, v1: Released, v2: Released) -> None:
    device.serve(v1, seq=1)
    device.serve(v2, seq=2)
    device.journal.save_trust(0, {}, {FAMILY: 2})
    with pytest.raises(PolicyRefused, match=r"digits/1 has counter 1; the family's floor is 2"):
        device.deployer.rollback(FAMILY)
    device.settle()
    assert device.model.digest == v2.digest


def test_a_command_goes_back_to_what_stands_at_the_floor(
    device: Device, v1: Released, v2: Released
) -> None:
    device.serve(v1, seq=1)
    device.serve(v2, seq=2)
    device.journal.save_trust(0, {}, {FAMILY: 1})
    device.deployer.rollback(FAMILY)
    device.settle()
    assert device.model.digest == v1.digest


def test_a_release_that_fails_is_left_whatever_stands_behind_it(
    device: Device, v1: Released, v2: Released
) -> None:
    device.serve(v1, seq=1)
    device.assign(v2, seq=2)
    device.settle()
    device.journal.save_trust(0, {}, {FAMILY: 2})
    device.model.answer(60)
    device.model.classes = [0, 0, 60]
    device.tick()
    assert device.model.digest == v1.digest
    assert device.outcomes()[-1] == ("digits/2", "rolled-back", Cause.CLASS_COLLAPSE.value)


def test_a_digest_under_another_s_name_is_no_success(
    device: Device, v1: Released, v2: Released
) -> None:
    device.serve(v1, seq=1)
    lie = Released(v2.manifest, v1.manifest_bytes, v1.blobs)
    assert (lie.target, lie.digest) == ("digits/2", v1.digest)
    device.assign(lie, seq=2)
    device.settle()
    assert device.outcomes()[-1] == ("digits/2", "rejected", "untrusted")
    assert device.model.digest == v1.digest

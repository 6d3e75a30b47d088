"""A genuine command, sent again by whoever holds the broker: carried out once, whatever is done to
the device in between."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric import ec

from agent.commands import Commands
from agent.delivery import Delivery
from agent.errors import PolicyRefused
from agent.outbox import Outbox
from agent.stamps import Stamper
from agent.trust.guard import check_command
from agent.uplink import Speaker, Uplink
from contract.deployments import Cause
from contract.envelope import key_id, open_sealed
from contract.messages import Reply
from contract.topics import Channel
from tests.agent.deployment.device import HARDWARE
from tests.agent.deployment.releases import Released
from tests.agent.wire import DEVICE
from tests.attacks.plane import Asking
from tests.attacks.scene import QUESTIONS, Scene
from tests.trust.ceremony import HOUR_MS

KEY = ec.generate_private_key(ec.SECP256R1())
BOOT = "b" * 32


class Obedient:
    """What the main loop does with commands, over the scene's link; its outbox is on the disk."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._outbox = Outbox(scene.state_dir / "outbox.sqlite")
        stamper = Stamper(BOOT, scene.now_ms, lambda: 0)
        speaker = Speaker(DEVICE, "5" * 32, "0", KEY, HARDWARE, stamper)
        uplink = Uplink(speaker, scene.link.connection, self._outbox, Delivery())
        self._commands = Commands(self._outbox, uplink, scene.deployer, lambda: None, lambda: None)

    def hear(self, payload: bytes) -> bool:
        """Over the broker; whether it was carried out. Raises what `check_command` raises."""
        received = self._scene.receive(Channel.COMMAND, payload)
        view = self._scene.guard.cached_view()
        assert view is not None
        done = self._commands.carry_out(check_command(received.payload, view, DEVICE))
        self._scene.settle()
        return done

    def replies(self) -> list[str]:
        """The commands that were answered."""
        public = KEY.public_key()
        keys = {key_id(public): public}
        found = [open_sealed((Reply,), row.payload, keys) for row in self._outbox.oldest(100)]
        return [reply.command for reply in found if isinstance(reply, Reply)]

    def close(self) -> None:
        self._outbox.close()


def deaf(scene: Scene, device: Obedient, replay: bytes) -> None:
    """Sent again it does nothing, is not even answered, and inference goes on."""
    serving, answers, state = scene.serving(), scene.answers(), scene.state()
    assert not device.hear(replay)
    assert (scene.serving(), scene.state()) == (serving, state)
    assert scene.answers() == answers
    assert device.replies() == ["c-1"]


def test_a_command_that_is_replayed(scene: Scene, v1: Released, v2: Released) -> None:
    scene.serve(v2)
    back = scene.sealed(scene.command(after_ms=HOUR_MS))
    device = Obedient(scene)
    with Asking(scene.server, "digits", QUESTIONS) as client:
        assert device.hear(back)
        assert scene.serving() == v1.digest
        last = scene.state().last
        assert last is not None
        assert last.cause is Cause.OPERATOR
        deaf(scene, device, back)

        scene.serve(v2)
        deaf(scene, device, back)
        client.goes_on()
    device.close()


def test_a_command_that_is_replayed_after_a_power_cut_to_a_clock_at_1970(
    scene: Scene, v1: Released, v2: Released
) -> None:
    scene.serve(v2)
    back = scene.sealed(scene.command(after_ms=HOUR_MS))
    device = Obedient(scene)
    assert device.hear(back)
    scene.serve(v2)
    device.close()
    scene.power_off()
    scene.clock_ms = 0
    scene.boot()
    again = Obedient(scene)
    deaf(scene, again, back)
    again.close()


def test_a_command_that_is_kept_back_until_it_has_expired(scene: Scene, v2: Released) -> None:
    scene.serve(v2)
    back = scene.sealed(scene.command(after_ms=HOUR_MS))
    scene.world.now_ms += 2 * HOUR_MS
    scene.deaf_to(Channel.COMMAND, back, PolicyRefused)

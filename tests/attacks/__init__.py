"""The attack suite: each attack of docs/security.md, refused by its class, while inference answers.

`scene.Scene` is a device under attack: real guard, journal, store, deployment and data plane, its
link to a real Mosquitto, and a hub whose keys the attacker may have stolen. A test offers something
that should not exist, and `Scene.refuses` holds the device to three things: the class under which
it is refused, the release that serves, and that release's answers. docs/security.md names the test
of each attack, those in other folders included.
"""

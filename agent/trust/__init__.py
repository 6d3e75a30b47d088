"""The device's half of trust: what may be believed, from when, and in which order."""

"""The inference server: its own process, its data plane, its adapters, and the client to steer it.

Run as `python -m agent.serving --state DIR --port P`; steered over `DIR/run/control.sock`.
"""

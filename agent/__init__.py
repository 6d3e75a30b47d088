"""The device: link, trust, store, deployment machine, inference server, reports."""

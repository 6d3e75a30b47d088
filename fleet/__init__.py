"""The hub: devices, releases, rollouts, ingest, broker and REST API of one fleet.

Imports contract and model, never the agent or the converter.
"""

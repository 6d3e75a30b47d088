"""What a bundle holds and how it runs: archive, chunks, runtimes, golden samples, drift counts.

Shared by the workstation, the hub and the device; imports `contract` and no other room. Knows
nothing of networks, trust or deployments: it answers for bytes and tensors only.
"""

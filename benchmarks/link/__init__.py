"""What benchmarks/transport.py measures with: a real hub and broker, real links, bare readers."""

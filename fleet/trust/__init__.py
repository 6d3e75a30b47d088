"""The hub's half of trust: it takes over what offline keys signed, and vouches for freshness."""

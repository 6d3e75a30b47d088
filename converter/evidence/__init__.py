"""What a variant carries to show what it is worth: golden samples and the reference profile."""

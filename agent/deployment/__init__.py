"""How a release comes into service on this device, and how it is taken back."""

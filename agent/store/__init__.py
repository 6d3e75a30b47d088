"""What the device keeps on disk: installed releases, staging, and which of them is served."""

"""Where samples come from: arrays, folders of images or sounds, tables. Each is bounded."""

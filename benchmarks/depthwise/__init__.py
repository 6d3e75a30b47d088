"""A depthwise-separable network that quantises badly once its channels are spread."""

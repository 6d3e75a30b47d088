"""Handwritten digits: the data, the training and the two committed models of the demo."""

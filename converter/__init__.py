"""The workstation: a trained model goes in, a measured, signed bundle comes out."""

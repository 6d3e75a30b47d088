"""What the three programs say to each other: ids, topics, messages, manifest, errors.

Pure: nothing here opens a file, a socket or a clock, and nothing imports another room.
"""

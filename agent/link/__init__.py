"""The device's MQTT 5 connection, and what is fetched over it.

Owns the sockets and the network thread. Decides nothing: messages go to the main loop unparsed.
"""

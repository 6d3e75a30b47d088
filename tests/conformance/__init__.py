"""The agent's update client under the command line that the tuf-conformance suite expects.

`tuf_client` is what the suite is given; `client` is its code, `test_tuf_client` drives it against
a real repository over HTTP.
"""

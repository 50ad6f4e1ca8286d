"""What the fuzzer has to know of bodies that are not JSON."""

import json

import schemathesis


@schemathesis.serializer("application/x-tar")
def archive(_context, value):
    """What is made up for the document, as bytes: never a good archive, and never to be taken."""
    return value if isinstance(value, bytes) else json.dumps(value, default=str).encode()

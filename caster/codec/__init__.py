"""Formats, as pure functions and state machines: bytes or text in, values out, and back. No I/O, clock or logger."""

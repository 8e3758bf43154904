"""All exceptions of the project, one tree.

* `DipperError`: anything that a user can read and act on; its text names what and where
    * `ConfigError`: the configuration or the command's arguments are wrong
    * `FormatError`: bytes or text are not what their format says (a file, a frame, a record)
    * `RemoteProtocolError`: a peer broke the protocol; carries the HTTP status to answer with
    * `RefusedError`: a peer refused us, or we refuse a request for a reason that the peer may know
        * `WrongPasswordError`: for a password that is wrong, or the name of nobody
    * `SourceError`: a source of data cannot be opened or has ended before its time
* `LocalProtocolError`: our own code misused a codec: a bug
"""

__all__ = [
    "ConfigError",
    "DipperError",
    "FormatError",
    "LocalProtocolError",
    "RefusedError",
    "RemoteProtocolError",
    "SourceError",
    "WrongPasswordError",
]


class DipperError(Exception):
    """Anything that a user can read and act on."""


class ConfigError(DipperError):
    """The configuration or the command's arguments are wrong."""


class FormatError(DipperError):
    """Bytes or text are not what their format says."""


class RemoteProtocolError(DipperError):
    """A peer broke the protocol.

    Attributes:
        status: The HTTP status that tells the peer so.
    """

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class RefusedError(DipperError):
    """A request was refused, by a peer or by us.

    Attributes:
        status: The HTTP status of the refusal.
    """

    def __init__(self, message: str, status: int = 403) -> None:
        super().__init__(message)
        self.status = status


class WrongPasswordError(RefusedError):
    """A name or a password was wrong; who does so often is kept out."""

    def __init__(self, message: str) -> None:
        super().__init__(message, 401)


class SourceError(DipperError):
    """A source of data cannot be opened or has ended before its time."""


class LocalProtocolError(Exception):
    """Our own code misused a codec: a bug."""

"""Whether a port can be served from; imports nothing slow."""

import errno
import socket

from ..geometry.errors import HeadlabError


def check_port(host: str, port: int) -> None:
    """Raises HeadlabError where a port cannot be used; otherwise another one would be taken without a word."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            number = getattr(error, "errno", None)
            reason = "it is in use" if number == errno.EADDRINUSE else " ".join(str(error).split())
            raise HeadlabError(f"port {port} of {host} cannot be used: {reason}; name another with --port") from error

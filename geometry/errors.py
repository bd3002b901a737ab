"""Errors a user can mend. Commands print them as one line and exit with code 2."""


class HeadlabError(Exception):
    """Wrong input: the message says what was wrong, why, and what to do about it, in one line."""


class NoFaceError(HeadlabError):
    """No face was found in an image."""


class MissingAssetError(HeadlabError):
    """A file that only its authors may give out is not there; names it, its licence, its page and the command."""

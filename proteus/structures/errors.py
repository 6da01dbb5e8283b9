"""What is wrong with a user's data."""


class DataError(ValueError):
    """Data that a run was given and cannot use; the message names the file or sample, and what to do about it."""

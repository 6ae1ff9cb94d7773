"""What a user can get wrong, said in one line.

ValueError
├── InputError     a field, the value received, what is accepted   -> exit status 2
└── MediaError     a file that is not usable media, and why        -> a rejected row
"""


class InputError(ValueError):
    """A mistake that the user can mend; the command line prints it as one line and exits with 2."""

    def __init__(self, field: str, value: object, accepted: str) -> None:
        self.field = field
        self.value = value
        self.accepted = accepted
        super().__init__(f"{field}: got {value!r}; accepted: {accepted}")

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions with their own constructor do not survive pickling between processes otherwise.
        return (type(self), (self.field, self.value, self.accepted))


class MediaError(ValueError):
    """A file that cannot be used, with the reason that ends up in its row."""


class Stopped(Exception):
    """A run was asked to stop, and saved itself first; the message says where it stands."""

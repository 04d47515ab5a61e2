"""Responses of web servers, with failures that say whether another attempt may succeed."""

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping

import requests

from ser_jax.common.errors import UserError

CHUNK = 2**16  # bytes


class FetchError(Exception):
    """A failed download. If `transient`, another attempt after `wait_s` may succeed."""

    def __init__(self, reason: str, transient: bool = False, wait_s: float = 0.0):
        super().__init__(reason)
        self.transient = transient
        self.wait_s = wait_s


def check_address(url: str) -> str:
    """Return a --base_url without a final slash.

    Raises:
      UserError: it is not http or https.
    """
    if not re.match(r"https?://[^/]", url):
        raise UserError(f"--base_url={url} is not a web address; use http(s)://host/folder.")
    return url.rstrip("/")


@contextlib.contextmanager
def responding(
    session: requests.Session, url: str, timeout_s: float, headers: Mapping[str, str] | None = None
) -> Iterator[requests.Response]:
    """Yield a server's response, unless it is an error, for its body to be read in the block.

    With headers, a range that the server does not have (416) is no error.

    Raises:
      FetchError: also for a connection that fails within the block.
    """
    try:
        with session.get(url, stream=True, timeout=timeout_s, headers=headers) as response:
            code = response.status_code
            if not response.ok and not (code == 416 and headers):
                after = response.headers.get("Retry-After", "")
                raise FetchError(
                    f"HTTP {code} {response.reason} from {url}",
                    transient=code in (408, 429) or code >= 500,
                    wait_s=min(int(after), 60) if after.isdecimal() else 0,
                )
            yield response
    except (requests.RequestException, ValueError) as error:  # ValueError: a malformed redirect
        transient = not isinstance(error, requests.exceptions.InvalidSchema)
        raise FetchError(f"{_root_cause(error)} ({url})", transient) from error


def chunks_of(response: requests.Response, max_bytes: int) -> Iterator[bytes]:
    """Yield the body of a response in chunks.

    Raises:
      FetchError: it is longer than `max_bytes`.
    """
    n_bytes = 0
    for chunk in response.iter_content(CHUNK):
        n_bytes += len(chunk)
        if n_bytes > max_bytes:
            raise FetchError(f"the server sends more than {max_bytes:,} bytes ({response.url})")
        yield chunk


def with_retries(
    attempt: Callable[[], None],
    wait: Callable[[float], object],
    *,
    attempts: int,
    delay_s: float,
    n_bytes: Callable[[], int] = lambda: 0,
) -> FetchError | None:
    """Call `attempt` until it succeeds, and return None, or its last failure.

    Args:
      attempt: raises FetchErrors.
      wait: waits for a number of seconds.
      attempts: consecutive ones, while their failures are transient.
      delay_s: seconds before the second attempt; doubled before each further one.
      n_bytes: what has been received; attempts that bring it to a new height are not counted.
    """
    n_failures, received = 0, n_bytes()
    while True:
        try:
            return attempt()
        except FetchError as error:
            before, received = received, max(received, n_bytes())
            n_failures = 1 if received > before else n_failures + 1
            if not error.transient or n_failures >= attempts:
                return error
            wait_s = max(error.wait_s, delay_s * 2 ** (n_failures - 1))
        wait(wait_s)


def _root_cause(error: BaseException) -> BaseException:
    """Return the exception that the libraries have wrapped; their own texts are long."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__
    return error

"""Short-lived credentials for a TURN server that shares a secret with the hub.

The scheme is that of draft-uberti-behave-turn-rest-00 and of coturn's `use-auth-secret`: the name is the unix
time at which it expires and whose it is, the password is a keyed hash of the name.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64encode
from dataclasses import dataclass

from pgpeer.errors import ConfigError
from pgpeer.signaling.messages import URL_CHARACTERS_LIMIT, TurnOffer


@dataclass(frozen=True, slots=True)
class TurnService:
    """The TURN servers of a hub.

    Attributes:
        urls: 'turn:HOST:PORT', 'turns:HOST' or 'stun:HOST', at most 16.
        secret: what the servers have as `static-auth-secret`.
    """

    urls: tuple[str, ...]
    secret: bytes

    def __post_init__(self) -> None:
        """Refuse what cannot work.

        Raises:
            ConfigError: no or too many URLs, one of another scheme, or no secret.
        """
        good = all(
            url.startswith(("turn:", "turns:", "stun:")) and len(url) <= URL_CHARACTERS_LIMIT
            for url in self.urls
        )
        if not good or not 1 <= len(self.urls) <= 16:
            raise ConfigError(
                "The TURN servers of a hub are 1 to 16 URLs that begin with turn:, turns: or stun:.",
                remedy="Write them as turn:HOST:PORT.",
            )
        if not self.secret:
            raise ConfigError(
                "The secret of the TURN servers is empty.",
                remedy="Give the file that holds their static-auth-secret.",
            )

    def offer(self, request: int, peer_id: str, now: float, ttl_seconds: int) -> TurnOffer:
        """Give a peer credentials that hold for `ttl_seconds` from `now` (unix seconds)."""
        username = f"{int(now) + ttl_seconds}:{peer_id}"
        digest = hmac.new(self.secret, username.encode(), hashlib.sha1).digest()
        return TurnOffer(request, self.urls, username, b64encode(digest).decode("ascii"), ttl_seconds)

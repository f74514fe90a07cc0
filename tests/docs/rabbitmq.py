"""The RabbitMQ that the pages speak of, and the private one that stands for it in tests."""

import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

# What pages say, always in the same words: the user, a password from the environment, a host, and the vhost.
PAGE_URL = re.compile(r"amqp://mysite:(\{[^}]+\})@rabbit\d?\.example\.org/mysite")


class PageBroker(NamedTuple):
    """A vhost of a broker."""

    url: str

    def translated(self, code: str) -> str:
        """What the page says, with the names of this broker."""
        parts = urlsplit(self.url)
        assert PAGE_URL.search(code)
        return PAGE_URL.sub(rf"amqp://{parts.username}:\1@{parts.hostname}:{parts.port}{parts.path}", code)

    @property
    def environment(self) -> Mapping[str, str]:
        """What the pages leave to the environment."""
        return {"RABBITMQ_PASSWORD": urlsplit(self.url).password or ""}

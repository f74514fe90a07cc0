"""Chromium without a screen, and the chat's pages as a person uses them."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from channels_trunk.testing.waiting import eventually_blocking
from tools.server_table import CHROMEDRIVER, CHROMIUM, Program

FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    # Windows behind others do as they do in front: their timers must not be slowed down.
    "--disable-backgrounding-occluded-windows",
    "--disable-background-timer-throttling",
    "--disable-renderer-backgrounding",
]
PATIENCE = 20.0


def installed(program: Program) -> str:
    """Where the program is; a missing one fails the test and says what to do."""
    path = program.find()
    assert path is not None, program.remedy()
    return str(path)


@contextlib.contextmanager
def chromium(folder: Path) -> Iterator[webdriver.Chrome]:
    """One Chromium with a fresh profile in the folder."""
    options = webdriver.ChromeOptions()
    options.binary_location = installed(CHROMIUM)
    for flag in (*FLAGS, f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(flag)
    service = webdriver.ChromeService(installed(CHROMEDRIVER))
    driver = webdriver.Chrome(options=options, service=service)
    try:
        yield driver
    finally:
        driver.quit()


class Window:
    """One browser window in one room."""

    def __init__(self, driver: webdriver.Chrome, *, name: str, address: str) -> None:
        self.name = name
        self._driver = driver
        driver.switch_to.new_window("window")
        self._handle = driver.current_window_handle
        driver.get(address)

    @property
    def driver(self) -> webdriver.Chrome:
        """The driver, looking at this window."""
        self._driver.switch_to.window(self._handle)
        return self._driver

    def find(self, selector: str) -> WebElement:
        """The element there is."""
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def script(self, source: str) -> Any:
        """Run JavaScript in the page; return what it returns."""
        return self.driver.execute_script(source)

    def eventually(self, condition: Callable[[], Any], *, what: str) -> Any:
        """Wait for a condition; a failure shows what the page showed."""
        try:
            return eventually_blocking(condition, within=PATIENCE, what=what)
        except TimeoutError as error:
            page = self.script("return document.body.innerText")
            raise AssertionError(f"{error}; {self.name}'s window showed:\n{page}") from None

    @property
    def state(self) -> str:
        """The state of the connection: connecting, live, lost or refused."""
        return str(self.script("return document.getElementById('status').dataset.state"))

    def wait_live(self) -> None:
        """Wait until the page is connected."""
        self.eventually(lambda: self.state == "live", what="a live connection")

    def say(self, text: str) -> None:
        """Type the text and press Enter."""
        self.find("#text").send_keys(text, Keys.ENTER)

    def said(self) -> list[tuple[str, str]]:
        """All messages shown: which server process they came through, and their text."""
        source = """return [...document.querySelectorAll('.message')].map((item) =>
            [item.querySelector('.badge').textContent, item.querySelector('.text').textContent])"""
        return [(server, text) for server, text in self.script(source)]

    def wait_for(self, text: str, *, through: str) -> None:
        """Wait until the message is shown, once."""
        self.eventually(lambda: (through, text) in self.said(), what=f"the message {text!r} through {through}")
        assert [said for _, said in self.said()].count(text) == 1

    def people(self) -> list[tuple[str, str]]:
        """Who is here: name and server process."""
        source = """return [...document.querySelectorAll('#people li')].map((item) =>
            [item.querySelector('.who').firstChild.textContent, item.querySelector('.badge').textContent])"""
        return [(name, server) for name, server in self.script(source)]

    def wait_for_people(self, *people: tuple[str, str]) -> None:
        """Wait until exactly these are here: name and server process, by name."""
        self.eventually(lambda: self.people() == list(people), what=f"the people {people}")

    def lines(self, selector: str) -> list[str]:
        """The texts of all such elements."""
        source = f"return [...document.querySelectorAll({selector!r})].map((item) => item.textContent)"
        return [str(line) for line in self.script(source)]

    def wait_for_lines(self, selector: str) -> list[str]:
        """Wait until there is such an element; return the texts of all."""
        lines: list[str] = self.eventually(lambda: self.lines(selector), what=selector)
        return lines

    def watch_states(self) -> None:
        """From now on, keep each state the connection goes through."""
        self.script("""window.seenStates = [];
            new MutationObserver(() => window.seenStates.push(document.getElementById('status').dataset.state))
                .observe(document.getElementById('status'), {attributes: true, attributeFilter: ['data-state']});""")

    def seen_states(self) -> list[str]:
        """The states since `watch_states`, also those that were over at once."""
        return [str(state) for state in self.script("return window.seenStates")]

    def close(self) -> None:
        """Close the window, and leave the driver with one that is there."""
        self.driver.close()
        self._driver.switch_to.window(self._driver.window_handles[0])


class Windows:
    """Opens windows, and closes all of them in the end."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self._driver = driver
        self._open: list[Window] = []

    def enter(self, address: str, *, name: str, room: str) -> Window:
        """Go through the front door into the room."""
        window = Window(self._driver, name=name, address=f"{address}?{urlencode({'name': name, 'room': room})}")
        self._open.append(window)
        window.wait_live()
        return window

    def open(self, address: str) -> Window:
        """Open any page."""
        self._open.append(Window(self._driver, name="somebody", address=address))
        return self._open[-1]

    def close(self) -> None:
        """Close all windows."""
        while self._open:
            self._open.pop().close()

"""The chat, as people see it: browser windows at two server processes over one SQLite file."""

from collections.abc import Iterator

import pytest
from selenium import webdriver
from selenium.webdriver.common.keys import Keys

from tests.acceptance.browser import Windows, chromium
from tests.acceptance.processes import Chat, chat


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chat]:
    with chat(tmp_path_factory.mktemp("chat")) as running_chat:
        yield running_chat


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    with chromium(tmp_path_factory.mktemp("browser")) as started:
        yield started


@pytest.fixture
def windows(driver: webdriver.Chrome) -> Iterator[Windows]:
    opened = Windows(driver)
    yield opened
    opened.close()


def test_what_is_typed_in_one_window_shows_in_the_other(demo: Chat, windows: Windows, room: str) -> None:
    ada = windows.enter(demo.addresses["A"], name="Ada", room=room)
    bo = windows.enter(demo.addresses["B"], name="Bo", room=room)
    assert (ada.find("#pid").text, bo.find("#pid").text) == (
        f"pid {demo.pid('server-a')}",
        f"pid {demo.pid('server-b')}",
    )

    ada.say("Is anybody here?")
    for window in (ada, bo):
        window.wait_for("Is anybody here?", through="A")
    bo.say("Yes, at the other process.")
    for window in (ada, bo):
        window.wait_for("Yes, at the other process.", through="B")


def test_both_windows_show_who_is_here(demo: Chat, windows: Windows, room: str) -> None:
    ada = windows.enter(demo.addresses["A"], name="Ada", room=room)
    bo = windows.enter(demo.addresses["B"], name="Bo", room=room)
    for window in (ada, bo):
        window.wait_for_people(("Ada", "A"), ("Bo", "B"))

    bo.driver.get("about:blank")
    ada.wait_for_people(("Ada", "A"))
    ada.eventually(lambda: "Bo left" in ada.lines(".note"), what="a word that Bo left")
    bo.driver.back()
    bo.wait_live()
    for window in (ada, bo):
        window.wait_for_people(("Ada", "A"), ("Bo", "B"))


def test_the_worker_rolls_for_the_whole_room(demo: Chat, windows: Windows, room: str) -> None:
    ada = windows.enter(demo.addresses["A"], name="Ada", room=room)
    bo = windows.enter(demo.addresses["B"], name="Bo", room=room)
    ada.say("/roll 3d6+2")
    shown = [window.wait_for_lines(".dice") for window in (ada, bo)]
    assert shown[0] == shown[1]
    assert f"pid {demo.pid('worker')}" in shown[0][0]
    dice = [int(die) for die in ada.lines(".die")]
    assert len(dice) == 3
    assert ada.lines(".total strong") == [str(sum(dice) + 2)]


def test_a_bad_roll_is_answered_to_its_sender_alone(demo: Chat, windows: Windows, room: str) -> None:
    ada = windows.enter(demo.addresses["A"], name="Ada", room=room)
    bo = windows.enter(demo.addresses["B"], name="Bo", room=room)
    ada.say("/roll the dice")
    ada.eventually(lambda: "Write dice like 2d6, d20 or 3d8+2." in ada.lines(".notice"), what="the worker's answer")
    ada.say("What comes after that")
    bo.wait_for("What comes after that", through="A")
    assert bo.lines(".notice") == []


def test_html_in_a_message_is_shown_and_not_run(demo: Chat, windows: Windows, room: str) -> None:
    ada = windows.enter(demo.addresses["A"], name="Ada", room=room)
    bo = windows.enter(demo.addresses["B"], name="Bo", room=room)
    attack = "<img src=x onerror=\"document.title='harmed'\"><script>document.title='harmed'</script><b>bold</b>"
    ada.say(attack)
    for window in (ada, bo):
        window.wait_for(attack, through="A")
        assert window.script("return document.querySelectorAll('.text *').length") == 0
        assert "harmed" not in window.driver.title


def test_a_person_may_have_any_letters_but_no_markup(demo: Chat, windows: Windows, room: str) -> None:
    window = windows.enter(demo.addresses["A"], name="Zoë O'Neill", room=room)
    window.wait_for_people(("Zoë O'Neill", "A"))
    front = windows.open(f"{demo.addresses['A']}?enter=1&room=Not+a+room&name=%3Cb%3EAda")
    assert front.lines(".error") != []
    assert len(front.lines(".error")) == 2
    assert front.find("#name").get_attribute("value") == "<b>Ada"


def test_who_is_at_the_other_process_notices_no_kill(demo: Chat, windows: Windows, room: str) -> None:
    ada = windows.enter(demo.addresses["A"], name="Ada", room=room)
    cy = windows.enter(demo.addresses["A"], name="Cy", room=room)
    bo = windows.enter(demo.addresses["B"], name="Bo", room=room)
    everybody = [("Ada", "A"), ("Bo", "B"), ("Cy", "A")]
    ada.wait_for_people(*everybody)
    for window in (ada, cy, bo):
        window.watch_states()

    with demo.nothing_restarted():
        killed = demo.kill("server-b")
        bo.eventually(lambda: "lost" in bo.seen_states(), what="the lost connection")
        ada.say("Still there, Cy?")
        cy.wait_for("Still there, Cy?", through="A")
        cy.say("Sure.")
        ada.wait_for("Sure.", through="A")

    bo.eventually(lambda: demo.has_successor("server-b", of=killed), what="another server process")
    bo.wait_live()
    assert bo.find("#pid").text == f"pid {demo.pid('server-b')}"
    bo.say("I am back.")
    for window in (ada, cy, bo):
        window.wait_for("I am back.", through="B")
        window.wait_for_people(*everybody)
    cy.say("Welcome back.")
    bo.wait_for("Welcome back.", through="A")
    assert ada.seen_states() == cy.seen_states() == []  # their sockets were open all the time
    assert bo.said().count(("A", "Sure.")) == 0  # and nothing was kept for those who were away


def test_while_a_process_is_away_its_people_are_not_here(demo: Chat, windows: Windows, room: str) -> None:
    ada = windows.enter(demo.addresses["A"], name="Ada", room=room)
    bo = windows.enter(demo.addresses["B"], name="Bo", room=room)
    ada.wait_for_people(("Ada", "A"), ("Bo", "B"))
    with demo.nothing_restarted():
        killed = demo.kill("server-b")
        bo.eventually(lambda: bo.state == "lost", what="the lost connection")
        bo.say("Unsent")
        assert bo.find("#text").get_attribute("value") == "Unsent"
        assert not bo.find("#send").is_enabled()
        ada.wait_for_people(("Ada", "A"))
    bo.eventually(lambda: demo.has_successor("server-b", of=killed), what="another server process")
    bo.wait_live()
    bo.find("#text").send_keys(Keys.ENTER)  # what could not be sent is still in the box
    for window in (ada, bo):
        window.wait_for("Unsent", through="B")
        window.wait_for_people(("Ada", "A"), ("Bo", "B"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_nothing_sticks_out_of_the_page(demo: Chat, windows: Windows, room: str, *, scheme: str, width: int) -> None:
    window = windows.enter(demo.addresses["A"], name="Somebody with a long name"[:24], room=room)
    window.driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    size = {"width": width, "height": 700, "deviceScaleFactor": 1, "mobile": width < 700}
    window.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    window.say("a" * 300)
    window.wait_for("a" * 300, through="A")
    window.say("/roll 20d1000")
    window.eventually(lambda: len(window.lines(".die")) == 20, what="twenty dice")
    sizes = window.script("const root = document.documentElement; return [root.scrollWidth, root.scrollHeight]")
    assert sizes == [width, 700]
    # The message box is in sight, and what was rolled last is not hidden behind it.
    edges = window.script("""return ['.dice', '#composer'].map((selector) => {
        const box = document.querySelector(selector).getBoundingClientRect(); return [box.top, box.bottom]; })""")
    (_, dice_bottom), (composer_top, composer_bottom) = edges
    assert dice_bottom <= composer_top
    assert composer_bottom <= 700

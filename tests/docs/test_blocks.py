"""Every code block of every page is covered by its page's plan, and does what the page says."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.docs import commands
from tests.docs.markdown import CHECKED_LANGUAGES, ROOT, Block, blocks, pages
from tests.docs.plans import PLANS
from tests.docs.postgres import PageDatabase
from tests.docs.project import Project
from tests.docs.rabbitmq import PageBroker
from tests.docs.scenarios import SCENARIOS
from tests.docs.story import Story
from tests.docs.treatments import File, Plan, Run, Schema, Settings, Shell, Treatment, Unit

LANGUAGES: dict[type[Treatment], str] = {
    Run: "python",
    Settings: "python",
    File: "python",
    Shell: "shell",
    Unit: "ini",
    Schema: "sql",
}


# That the two agree is the first test; the others are to fail for reasons of their own.
PLANNED = [page for page in pages() if page in PLANS]


def is_planned(block: Block, plan: Plan) -> bool:
    """Whether the plan has to say something about this very block."""
    return block.language in CHECKED_LANGUAGES or block.language not in plan.languages


def pairs(page: str) -> list[tuple[Block, Treatment]]:
    """The blocks with their treatments, in order."""
    plan = PLANS[page]
    return list(zip([block for block in blocks(page) if is_planned(block, plan)], plan.blocks, strict=True))


def of_kind(kind: type[Treatment]) -> Sequence[object]:
    """The blocks of all pages that are treated so, as test parameters."""
    found = []
    for page in PLANNED:
        planned = [block for block in blocks(page) if is_planned(block, PLANS[page])]
        # What does not fit is test_every_block_is_covered's to tell.
        for block, treatment in zip(planned, PLANS[page].blocks, strict=False):
            if isinstance(treatment, kind):
                found.append(pytest.param(block, treatment, id=block.place))
    return found


def test_every_page_has_a_plan() -> None:
    assert sorted(PLANS) == sorted(pages())


@pytest.mark.parametrize("page", PLANNED)
def test_every_block_is_covered(page: str) -> None:
    plan = PLANS[page]
    planned = [block for block in blocks(page) if is_planned(block, plan)]
    found = [(block.place, block.code.splitlines()[0], block.language) for block in planned]
    assert len(found) == len(plan.blocks), found
    for (place, first, language), treatment in zip(found, plan.blocks, strict=True):
        expected = "javascript" if isinstance(treatment, File) and treatment.path.endswith(".js") else None
        expected = expected or ("html" if isinstance(treatment, File) and treatment.path.endswith(".html") else None)
        assert first.startswith(treatment.begins), place
        assert language == (expected or LANGUAGES[type(treatment)]), place
    shown = Counter(block.language for block in blocks(page) if not is_planned(block, plan))
    assert dict(shown) == plan.languages


@pytest.mark.parametrize("page", [page for page in PLANNED if any(isinstance(t, Run) for t in PLANS[page].blocks)])
def test_python_runs(page: str, tmp_path: Path) -> None:
    steps = []
    for block, treatment in pairs(page):
        if isinstance(treatment, Run):
            where = f"tests/docs/plans, around {block.place}"
            steps.append((where, 1, treatment.before))
            steps.append((str(ROOT / page), block.line, block.code))
            steps.append((where, 1, treatment.after))
    Project.tiny(tmp_path, settings=PLANS[page].settings).run_steps(steps)


@pytest.mark.parametrize(("block", "treatment"), of_kind(Settings))
def test_settings_work(block: Block, treatment: Settings, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    elsewhere, here = treatment.replace
    assert elsewhere in block.code
    code = block.code.replace(elsewhere, here) if elsewhere else block.code
    environment: Mapping[str, str] = {}
    if treatment.postgres:
        database = PageDatabase.of(request.getfixturevalue, pooled=treatment.pooled)
        code, environment = database.translated(code), database.environment
    if treatment.rabbitmq:
        broker = PageBroker(request.getfixturevalue("rabbit").fresh_vhost())
        code, environment = broker.translated(code), broker.environment
    project = Project.tiny(tmp_path, settings=code, environment=environment)
    for alias in treatment.migrate:
        project.python("-m", "django", "migrate", "--verbosity", "0", "--database", alias)
    found = project.try_settings()
    assert found["messages"] == list(treatment.messages)
    assert set(found["works"].values()) == {True}


@pytest.mark.parametrize(("block", "treatment"), of_kind(Shell))
def test_commands_are_known(block: Block, treatment: Shell) -> None:
    for line in commands.lines(block.code):
        assert treatment.in_scenario or commands.is_known(line), f"{block.place}: {line}"


@pytest.mark.parametrize(("block", "treatment"), of_kind(Unit))
def test_units_start_known_commands(block: Block, treatment: Unit) -> None:
    unit = commands.parse_unit(block.code)
    assert commands.is_known(unit["Service"]["ExecStart"]), block.place
    assert set(unit) >= {"Unit", "Service", "Install"}


def test_every_page_with_files_has_a_scenario() -> None:
    def needs_one(plan: Plan) -> bool:
        return any(isinstance(t, File) or (isinstance(t, Shell) and t.in_scenario) for t in plan.blocks)

    assert sorted(SCENARIOS) == sorted(page for page, plan in PLANS.items() if needs_one(plan))


@pytest.mark.timeout(180)
@pytest.mark.parametrize("page", SCENARIOS)
def test_scenarios(page: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    files, typed = {}, []
    for block, treatment in pairs(page):
        if isinstance(treatment, File):
            files[treatment.path] = block.code
        elif isinstance(treatment, Shell) and treatment.in_scenario:
            typed += commands.lines(block.code)
    story = Story(folder=tmp_path, files=files, commands=typed, fixture=request.getfixturevalue)
    SCENARIOS[page](story)
    assert not story.files, "the scenario has not used every file"
    assert not story.commands, "the scenario has not run every command"

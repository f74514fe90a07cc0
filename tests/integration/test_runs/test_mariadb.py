"""Django drops its test database on MariaDB, and the layer that was in it says nothing of that."""

from pathlib import Path

import pytest

from tests.integration.database.test_django_tests import entry_of
from tests.integration.test_runs.runs import Run

pytestmark = pytest.mark.timeout(300)


def test_one_test_case(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    databases = {"default": entry_of("mariadb_alias", request, folder=tmp_path, name="never_made_either")}
    layer = {"BACKEND": "channels_trunk.layers.DatabaseChannelLayer", "CONFIG": {"database": "default"}}
    run = Run(tmp_path, databases, {"default": layer})
    assert "Ran 1 test" in run.manage("--keepdb", "site_cases")
    assert "Ran 1 test" in run.manage("site_cases")

"""Plans of the pages about PostgreSQL."""

from tests.docs.treatments import File, Plan, Settings, Shell

SET_UP = Plan(
    blocks=[
        Shell(begins="pip install '.[postgres]'"),
        Settings(begins="import os", postgres=True),
        Settings(begins="CHANNEL_LAYERS = ", postgres=True),
        File(begins="import os", path="settings.py"),
        Shell(begins="python manage.py trunk_schema > trunk.sql", in_scenario=True),
        Shell(begins="pg_dump", in_scenario=True),
        Settings(begins="CHANNEL_LAYERS = ", postgres=True, pooled=True),
    ]
)

MOVE = Plan(blocks=[Settings(begins="import os", postgres=True, messages=["channels_trunk.W001"])])

COMMANDS = Plan(
    blocks=[
        Shell(begins="python manage.py trunk_doctor"),
        Shell(begins="python manage.py trunk_status"),
        Shell(begins="python manage.py trunk_trim"),
        Shell(begins="python manage.py trunk_flush"),
        Shell(begins="python manage.py trunk_schema"),
    ]
)

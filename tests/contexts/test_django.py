"""What Django, and what is plugged into it, does around the layer."""

import pytest

from tests.contexts.conftest import Engine, MakeEngine

_ATOMIC = """
from django.db import connection, transaction
channel = other.sync.new_channel()
with connection.cursor() as cursor:
    cursor.execute("CREATE TABLE note (text TEXT)")
try:
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO note VALUES ('x')")
        layer.sync.send(channel, HELLO)
        assert other.sync.receive(channel, timeout=40) == HELLO
        print("at once")
        1 / 0
except ZeroDivisionError:
    pass
except ChannelLayerError as error:
    print(error)
works()
"""


@pytest.mark.parametrize("name", ["memory", "sqlite", "postgres", "rabbitmq"])
def test_a_transaction_of_the_callers_own_holds_no_message_back(make_engine: MakeEngine, name: str) -> None:
    """As in a view with ATOMIC_REQUESTS: what is sent goes at once, and a rollback takes nothing back."""
    assert make_engine(name).says(_ATOMIC) == "at once\n"


def test_a_transaction_that_keeps_the_layers_own_file_locked_is_named(make_engine: MakeEngine) -> None:
    """SQLite has one writer: a layer in the application's file waits for it, and says what to call instead."""
    code = "layer.send_timeout = other.send_timeout = 1\n" + _ATOMIC
    done = make_engine("database").run(code)
    assert done.returncode == 0, done.stderr
    assert "send with layer.sync.send_on_commit() or group_send_on_commit()" in done.stdout


def test_a_transaction_that_has_failed_does_not_fail_the_layer(engine: Engine) -> None:
    code = """
from django.db import DatabaseError, connection, transaction
with transaction.atomic():
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT * FROM not_there")
    except DatabaseError:
        pass
    transaction.set_rollback(True)
    works()
print("works")
"""
    assert engine.says(code) == "works\n"


def test_what_hears_of_new_connections_may_send(make_engine: MakeEngine) -> None:
    """Receivers of connection_created are called in the layer's thread for its own connection, and may wrap it."""
    code = """
from django.db import connections
from django.db.backends.signals import connection_created
seen = []
def wrap(execute, sql, params, many, context):
    seen.append(threading.current_thread().name)
    if len(seen) < 50:
        layer.sync.group_send("statements", {"type": "statement"})
    return execute(sql, params, many, context)
def created(connection, **_):
    layer.sync.group_send("statements", {"type": "connection"})
    connection.execute_wrappers.append(wrap)
connection_created.connect(created)
works()
asyncio.run(works_here())
print(any("channels-trunk-db" in name for name in seen))
"""
    assert make_engine("database").says(code) == "True\n"


def test_wrappers_of_the_callers_connection_see_nothing_of_the_layer(make_engine: MakeEngine) -> None:
    code = """
from django.db import connection
seen = []
def refuse(execute, sql, params, many, context):
    seen.append(sql)
    raise AssertionError("no queries in here")
with connection.execute_wrapper(refuse):
    works()
print(seen)
"""
    assert make_engine("database").says(code) == "[]\n"


def test_the_log_of_queries_shows_no_message(engine: Engine) -> None:
    """With DEBUG = True Django keeps and logs each statement, with its values."""
    code = """
import io, logging
from django.db import connections, reset_queries
settings.DEBUG = True
text = io.StringIO()
logging.getLogger("django.db.backends").addHandler(logging.StreamHandler(text))
logging.getLogger("django.db.backends").setLevel(logging.DEBUG)
layer.sync.send("jobs", {"type": "secret-of-a-message"})
assert layer.sync.receive("jobs", timeout=40) == {"type": "secret-of-a-message"}
works()
print("secret" in text.getvalue(), [q for c in connections.all() for q in c.queries if "secret" in str(q)])
"""
    assert engine.says(code) == "False []\n"


def test_checks_open_nothing(engine: Engine) -> None:
    code = """
from django.core.checks import run_checks
print([message.id for message in run_checks() if message.is_serious()])
print(threading.active_count(), layer.health().state)
"""
    assert engine.says(code) == "[]\n1 closed\n"


def test_connections_that_django_closes_are_not_the_layers(engine: Engine) -> None:
    """close_old_connections(), close_all() and a signal of a request's end."""
    code = """
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, connections
works()
for _ in range(3):
    request_started.send(None)
    close_old_connections()
    connections.close_all()
    request_finished.send(None)
    works()
assert layer.stats().reconnects_total == 0
print("works")
"""
    assert engine.says(code) == "works\n"


def test_a_router_that_knows_no_such_model(make_engine: MakeEngine) -> None:
    """The layer asks no router where its tables are: it has been told."""
    code = """
class Refusing:
    def db_for_read(self, model, **hints): raise AssertionError(model)
    def db_for_write(self, model, **hints): raise AssertionError(model)
    def allow_relation(self, *objects, **hints): raise AssertionError(objects)
settings.DATABASE_ROUTERS = [Refusing()]
from django.db import router
router.__dict__.pop("routers", None)
router._routers = None
works()
print("works")
"""
    assert make_engine("database").says(code) == "works\n"


@pytest.mark.parametrize("use_tz", ["True", "False"])
def test_settings_that_change_while_it_runs(make_engine: MakeEngine, use_tz: str) -> None:
    """As override_settings does it in tests."""
    for name in ("sqlite", "database"):
        code = f"""
from django.test import override_settings
works()
with override_settings(USE_TZ={use_tz}, TIME_ZONE="Asia/Tokyo", LANGUAGE_CODE="de"):
    works()
works()
print("works")
"""
        assert make_engine(name).says(code) == "works\n"


def test_migrations_that_run_beside(engine: Engine) -> None:
    """Those of other apps, while messages go: on SQLite they may wait for each other, and for no longer than that."""
    code = """
import django.apps
from django.core.management import call_command
settings.INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "channels_trunk"]
django.apps.apps.set_installed_apps(settings.INSTALLED_APPS)
layer.send_timeout = other.send_timeout = 60
is_over, count, failed = threading.Event(), 0, []
def send():
    global count
    try:
        while not is_over.is_set() or count < 3:
            works()
            count += 1
    except BaseException as error:
        failed.append(error)
sending = threading.Thread(target=send)
sending.start()
for _ in range(2):
    call_command("migrate", "auth", verbosity=0)
    call_command("migrate", "auth", "zero", verbosity=0)
is_over.set()
sending.join()
assert not failed, failed
print("works")
"""
    assert engine.says(code) == "works\n"

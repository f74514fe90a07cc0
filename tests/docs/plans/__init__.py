"""What is done with each code block of each page."""

from tests.docs.plans import guide, reference
from tests.docs.treatments import Plan

PLANS: dict[str, Plan] = {
    "README.md": guide.README,
    "docs/README.md": Plan(),
    "docs/glossary.md": Plan(),
    "docs/tutorial/chat.md": guide.TUTORIAL,
    "docs/howto/choose-a-layer.md": guide.CHOOSE,
    "docs/howto/move-to-sqlite.md": guide.MOVE,
    "docs/howto/sync-code.md": guide.SYNC,
    "docs/howto/on-commit.md": guide.ON_COMMIT,
    "docs/howto/workers.md": guide.WORKERS,
    "docs/howto/test.md": guide.TEST,
    "docs/howto/deploy.md": guide.DEPLOY,
    "docs/howto/encryption.md": guide.ENCRYPTION,
    "docs/howto/watch.md": guide.WATCH,
    "docs/howto/write-a-transport.md": guide.TRANSPORT,
    "docs/howto/run-the-conformance-suite.md": guide.CONFORMANCE,
    "docs/reference/options.md": reference.OPTIONS,
    "docs/reference/api.md": reference.API,
    "docs/reference/stats-and-health.md": Plan(),
    "docs/reference/checks.md": reference.CHECKS,
    "docs/reference/errors.md": Plan(languages={"text": 1}),
    "docs/reference/frame-format.md": reference.FRAMES,
    "docs/reference/sqlite-files.md": reference.FILES,
    "docs/explanation/architecture.md": reference.ARCHITECTURE,
    "docs/explanation/guarantees.md": Plan(),
    "docs/explanation/capacity.md": Plan(),
    "docs/explanation/sqlite-log.md": Plan(),
    "docs/explanation/performance.md": Plan(),
}

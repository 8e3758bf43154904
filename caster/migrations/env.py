"""How Alembic runs a migration here: on the connection that `caster.migrations` hands over."""

from alembic import context

from caster.schema import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    transactional_ddl=True,  # SQLite's changes of tables are undone, too, since its transaction was begun by hand
)
with context.begin_transaction():
    context.run_migrations()

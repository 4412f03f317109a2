"""The door to PostgreSQL: installation by psycopg and Alembic, the work of the worker by asyncpg."""

from __future__ import annotations

from support.cluster import cluster
from support.postgres import postgres_database, postgres_server
from support.redis import redis_server, redis_url

__all__ = ["cluster", "postgres_database", "postgres_server", "redis_server", "redis_url"]

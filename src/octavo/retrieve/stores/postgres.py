"""A store in PostgreSQL with pgvector: documents that several machines index and search together.

Words are an inverted index of our own, scored by BM25 in SQL (k1 1.2, b 0.75) over PostgreSQL's English stems, because
its `ts_rank` knows no rarity. Vectors are compared exactly, so a filter never costs a result; an approximate index is
not made. Each index is a schema of its own.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from octavo.errors import MissingDependencyError, OctavoError
from octavo.retrieve import words
from octavo.retrieve.stores.store import (
    Hit,
    Listing,
    Passage,
    Place,
    Source,
    Vectors,
    VectorSpace,
    check_document,
    check_space,
)

if TYPE_CHECKING:
    import psycopg

VERSION = 1
SCHEMA = """
CREATE TABLE meta (key text PRIMARY KEY, value text NOT NULL);
CREATE TABLE document (
  id bigserial PRIMARY KEY, name text NOT NULL UNIQUE, fingerprint text NOT NULL, sha256 text NOT NULL,
  metadata text NOT NULL, text text NOT NULL
);
CREATE TABLE passage (
  id bigserial PRIMARY KEY, document bigint NOT NULL REFERENCES document ON DELETE CASCADE,
  first int NOT NULL, last int NOT NULL, page int, line int, context text NOT NULL, text text NOT NULL,
  length int NOT NULL, embedding vector
);
CREATE INDEX ON passage (document);
CREATE TABLE posting (
  term text COLLATE "C" NOT NULL, passage bigint NOT NULL REFERENCES passage ON DELETE CASCADE, count int NOT NULL,
  PRIMARY KEY (term, passage)
);
CREATE INDEX ON posting (passage);
"""
POST = """
INSERT INTO posting SELECT coalesce((ts_lexize('english_stem', term))[1], term) AS stem, %s, sum(count)
FROM unnest(%s::text[], %s::int[]) AS given (term, count) GROUP BY stem
"""
BM25 = """
WITH asked AS (
  SELECT DISTINCT coalesce((ts_lexize('english_stem', term))[1], term) AS term FROM unnest(%(terms)s::text[]) AS term
  UNION SELECT DISTINCT posting.term FROM posting
    JOIN unnest(%(characters)s::text[]) AS character ON posting.term LIKE character || '%%'
), rarity AS (
  SELECT term, count(*)::float8 AS df FROM posting JOIN asked USING (term) GROUP BY term
), whole AS (SELECT count(*)::float8 AS n, greatest(avg(length), 1)::float8 AS mean FROM passage)
SELECT passage.id, sum(
  ln(1 + (n - df + 0.5) / (df + 0.5)) * posting.count * 2.2 / (posting.count + 1.2 * (0.25 + 0.75 * length / mean))
) AS score
FROM posting JOIN rarity USING (term) JOIN passage ON passage.id = posting.passage CROSS JOIN whole
WHERE %(within)s::text[] IS NULL OR document IN (SELECT id FROM document WHERE name = ANY (%(within)s))
GROUP BY passage.id ORDER BY score DESC, passage.id LIMIT %(limit)s
"""
NEAREST = """
SELECT id, -(embedding <#> %(vector)s::vector) AS score FROM passage
WHERE %(within)s::text[] IS NULL OR document IN (SELECT id FROM document WHERE name = ANY (%(within)s))
ORDER BY embedding <#> %(vector)s::vector, id LIMIT %(limit)s
"""
FOUND = """
SELECT passage.id, name, sha256, first, last, page, line, context, passage.text
FROM passage JOIN document ON document.id = document WHERE passage.id = ANY (%s)
"""


class PostgresStore:
    """Implements `Store`.

    address: such as postgresql://user@host/database. space: the encoder whose vectors it keeps; None: whatever the
    index was made with, and no vectors in a new one. schema: its name in the database. Raises OctavoError for a server
    that does not answer or lacks pgvector, and for an index of another encoder.
    """

    def __init__(self, address: str, space: VectorSpace | None = None, *, schema: str = "octavo") -> None:
        self._place = f"the index {schema} in {address.rpartition('@')[2]}"
        self._lock = threading.RLock()
        self._connection = _connect(address, self._place)
        try:
            self._prepare(schema, space)
            meta = dict(self._rows("SELECT key, value FROM meta"))
            if meta.get("version") != str(VERSION) or meta.get("analysis") != str(words.ANALYSIS):
                raise OctavoError(f"{self._place} was made by another version of Octavo; drop it and index anew")
            self.space = VectorSpace(meta["encoder"], int(meta["dimensions"])) if "encoder" in meta else None
            check_space(self.space, space, self._place)
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self, schema: str, space: VectorSpace | None) -> None:
        from psycopg import Error, sql

        name = sql.Identifier(schema)
        try:
            with self._connection.transaction():
                self._connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (f"octavo {schema}",))
                self._connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
                self._connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(name))
                self._connection.execute(sql.SQL("SET search_path TO {}, public").format(name))
                if self._rows("SELECT to_regclass(%s || '.meta')", (name.as_string(self._connection),)) == [(None,)]:
                    self._connection.execute(SCHEMA)
                    made = {"version": str(VERSION), "analysis": str(words.ANALYSIS)}
                    if space is not None:
                        made |= {"encoder": space.encoder, "dimensions": str(space.dimensions)}
                    for key, value in made.items():
                        self._connection.execute("INSERT INTO meta VALUES (%s, %s)", (key, value))
            self._connection.execute(sql.SQL("SET search_path TO {}, public").format(name))
        except Error as error:
            raise OctavoError(f"{self._place} cannot be opened: {str(error).splitlines()[0]}") from None

    def put(self, source: Source, places: Sequence[Place], vectors: Vectors | None) -> None:
        """Store a document with its passages, in place of one of the same name."""
        check_document(source, places, vectors, self.space)
        with self._lock, self._connection.transaction():
            self._connection.execute("DELETE FROM document WHERE name = %s", (source.name,))
            [(document,)] = self._rows(
                "INSERT INTO document (name, fingerprint, sha256, metadata, text) "
                "VALUES (%s, %s, %s, %s, %s) RETURNING id",
                (source.name, source.fingerprint, source.sha256, json.dumps(dict(source.metadata)), source.text),
            )
            for row, place in enumerate(places):
                self._put_passage(document, place, source.text, None if vectors is None else vectors[row])

    def _put_passage(self, document: int, place: Place, text: str, vector: Vectors | None) -> None:
        passage = text[place.start : place.end]
        counts = Counter(words.indexed(f"{place.context}\n{passage}").split())
        where = (document, place.start, place.end, place.page, place.line, place.context, passage)
        [(row,)] = self._rows(
            "INSERT INTO passage (document, first, last, page, line, context, text, length, embedding) "
            "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s::vector) RETURNING id",
            (*where, counts.total(), None if vector is None else _literal(vector)),
        )
        self._connection.execute(POST, (row, list(counts), list(counts.values())))

    def delete(self, names: Collection[str]) -> None:
        """Delete documents with all that was made from them."""
        with self._lock:
            self._connection.execute("DELETE FROM document WHERE name = ANY (%s)", (list(names),))

    def listing(self) -> dict[str, Listing]:
        """Every document by its name."""
        rows = self._rows(
            "SELECT name, fingerprint, sha256, metadata, (SELECT count(*) FROM passage WHERE document = document.id) "
            'FROM document ORDER BY name COLLATE "C"'
        )
        return {row[0]: Listing(row[1], row[2], row[4], json.loads(row[3])) for row in rows}

    def text(self, name: str) -> str:
        """A document's canonical text."""
        rows = self._rows("SELECT text FROM document WHERE name = %s", (name,))
        if not rows:
            raise OctavoError(f"there is no document {name!r} in {self._place}")
        return str(rows[0][0])

    def search_words(self, query: str, limit: int, within: Collection[str] | None = None) -> list[Hit]:
        """The passages that fit a query's words best; any of the words will do."""
        terms = words.query_terms(query.replace("\0", " "))
        lone = [term for term in terms if words.is_lone_character(term)]
        asked = {"terms": [term for term in terms if term not in lone], "characters": lone}
        return self._hits(BM25, {**asked, "limit": limit, "within": None if within is None else list(within)})

    def search_vector(
        self, vector: Vectors, limit: int, within: Collection[str] | None = None, *, exact: bool = False
    ) -> list[Hit]:
        """The passages whose vectors have the greatest inner product with `vector`, always compared with every one."""
        if self.space is None:
            raise OctavoError(f"{self._place} keeps no vectors; index anew with an encoder")
        if vector.shape != (self.space.dimensions,):
            raise OctavoError(f"the query has the shape {vector.shape}; the store takes ({self.space.dimensions},)")
        asked = {"vector": _literal(vector), "limit": limit, "within": None if within is None else list(within)}
        return self._hits(NEAREST, asked)

    def arrange(self, *, show: bool = False) -> None:
        """Nothing to do: every vector is compared."""

    def remember(self, key: str, value: str) -> None:
        """Keep a note."""
        with self._lock:
            self._connection.execute(
                "INSERT INTO meta VALUES (%s, %s) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                (f"note {key}", value),
            )

    def recall(self, key: str) -> str | None:
        """A note that was kept."""
        rows = self._rows("SELECT value FROM meta WHERE key = %s", (f"note {key}",))
        return str(rows[0][0]) if rows else None

    def compact(self) -> None:
        """Vacuum: the rows of what was deleted are overwritten by what comes."""
        with self._lock:
            self._connection.execute("VACUUM document, passage, posting")

    def close(self) -> None:
        """Close the connection. Idempotent."""
        with self._lock:
            self._connection.close()

    def _hits(self, statement: str, asked: Mapping[str, Any]) -> list[Hit]:
        with self._lock, self._connection.transaction():  # one moment's state for both reads
            scored = self._rows(statement, asked)
            rows = self._rows(FOUND, ([row for row, _ in scored],))
        passages = {row[0]: Passage(row[1], row[2], Place(*row[3:8]), row[8]) for row in rows}
        return [Hit(passages[row], float(score)) for row, score in scored if row in passages]

    def _rows(self, statement: str, values: Any = None) -> list[tuple[Any, ...]]:
        with self._lock:
            rows: list[tuple[Any, ...]] = self._connection.execute(statement.encode(), values).fetchall()
            return rows


def has_index(address: str, schema: str) -> bool:
    """Whether a database has an index of ours under that name. Raises OctavoError for a server that does not answer."""
    with _connect(address, schema) as connection:
        found = connection.execute("SELECT to_regclass(quote_ident(%s) || '.posting')", (schema,)).fetchone()
    return found is not None and found[0] is not None


def drop_index(address: str, schema: str) -> None:
    """Delete an index. Raises OctavoError for a server that does not answer."""
    from psycopg import sql

    with _connect(address, schema) as connection:
        connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema)))


def _connect(address: str, place: str) -> psycopg.Connection[tuple[Any, ...]]:
    try:
        import psycopg
    except ImportError:
        raise MissingDependencyError("PostgreSQL needs psycopg: pip install 'octavo[postgres]'") from None
    try:
        return psycopg.connect(address, autocommit=True)
    except psycopg.Error as error:
        raise OctavoError(f"{place} cannot be reached: {str(error).splitlines()[0]}") from None


def _literal(vector: Vectors) -> str:
    """A vector as pgvector reads it, to the bit."""
    return "[" + ",".join(np.format_float_scientific(value, unique=True) for value in vector) + "]"

"""A day's file loaded at once: ``python -m bench.peers.with_duckdb FILE BREACHES.parquet``; prints the breaches."""

import sys

from bench.peers.rules import limits


def main() -> None:
    """Load, hold against the limits, write."""
    import duckdb

    file, out = sys.argv[1:]
    database = duckdb.connect()
    database.execute("SET TimeZone = 'UTC'")
    database.execute("CREATE TABLE limits (code VARCHAR, low DOUBLE, high DOUBLE)")
    database.executemany("INSERT INTO limits VALUES (?, ?, ?)", [(c, i.low, i.high) for c, i in limits().items()])
    database.execute(
        f"""COPY (
            SELECT message_id, patient_id, code, value, CASE WHEN value < low THEN low ELSE high END AS "limit"
            FROM (SELECT message_id, patient_id, unnest(observations, recursive := true) FROM read_json(
                '{file}', format = 'newline_delimited', columns = {{message_id: 'VARCHAR', patient_id: 'VARCHAR',
                observations: 'STRUCT(code VARCHAR, value DOUBLE)[]'}}))
            JOIN limits USING (code) WHERE value < low OR value > high
        ) TO '{out}' (FORMAT parquet)"""  # noqa: S608 - our own paths
    )
    counted = database.execute("SELECT count(*) FROM read_parquet(?)", [out]).fetchone()
    print(counted[0] if counted else 0)


if __name__ == "__main__":
    main()

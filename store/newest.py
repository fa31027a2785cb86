"""SQL for the newest row of each key."""

from collections.abc import Sequence


def newest(relation: str, key: Sequence[str], newest_first: str = "commit_seq DESC") -> str:
    """A SELECT of the newest row of each key, with all columns of the relation.

    Nearly all keys have one row and pass as they are: the window function, which is slow, sees the rest only.
    Keys are compared by hash at first; a chance collision does no harm.
    """
    columns = ", ".join(key)
    return f"""
WITH repeated AS (SELECT hash({columns}) AS key_hash FROM {relation} GROUP BY key_hash HAVING count(*) > 1)
SELECT * FROM {relation} WHERE hash({columns}) NOT IN (FROM repeated)
UNION ALL
SELECT * FROM {relation} WHERE hash({columns}) IN (FROM repeated)
QUALIFY row_number() OVER (PARTITION BY {columns} ORDER BY {newest_first}) = 1
"""

"""A table as plain text, whole and greppable whatever the width of the terminal."""

from collections.abc import Iterable, Sequence


def plain_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Left-aligned columns, two spaces between them; line breaks in cells become spaces."""
    lines = [list(header), *([" ".join(str(cell).split()) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )

"""Tables: how they are written and read as text, and how well two of them agree."""

from .chartqa_files import read_table_csv
from .files import export_tables
from .linearization import FORMATS
from .parsing import parse_table
from .scores import VARIANTS, check_size, per_example_table_scores, table_scores
from .table import Table
from .writing import write_table

__all__ = [
    "FORMATS",
    "VARIANTS",
    "Table",
    "check_size",
    "export_tables",
    "parse_table",
    "per_example_table_scores",
    "read_table_csv",
    "table_scores",
    "write_table",
]

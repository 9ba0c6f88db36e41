"""One table of everything that the benchmarks have measured.

python -m tests.benchmarks.table [--quick] [--out out/bench]
"""

from __future__ import annotations

from .measure import arguments, markdown, read_rows


def main(argv: list[str] | None = None) -> None:
    args = arguments(__doc__).parse_args(argv)
    machines = read_rows(args.out, quick=args.quick)
    if not machines:
        print(f"{args.out} holds no rows yet: run the benchmarks first (make bench)")
    for machine, rows in machines.items():
        print(f"{machine}\n\n{markdown([row for _, row in rows])}\n")


if __name__ == "__main__":
    main()

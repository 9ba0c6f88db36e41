"""The loader gives every row its own image."""

from __future__ import annotations

import datasets

from chartqa_ft.batching.loader import chart_loader
from chartqa_ft.batching.rows import ROW_KEY

from ..support.chart_records import BLUE, RED, charts_dataset


def test_every_row_of_put_together_datasets_gets_its_own_image():
    train = charts_dataset([RED, RED, BLUE], ["1.png", "1.png", "2.png"])
    val = charts_dataset([BLUE, BLUE, RED], ["1.png", "1.png", "3.png"])
    both = datasets.concatenate_datasets([train, val])
    # also where rows were chosen and formatted
    for records in (both, both.select([3, 0, 4, 1]), both.with_format("python")):
        loader = chart_loader(
            records,
            list,
            batch_size=4,
            accumulation=1,
            num_replicas=1,
            group_by_chart=True,
            shuffle=True,
            drop_last=False,
            seed=0,
        )
        seen = [record for batch in loader for record in batch]
        assert len(seen) == len(records)
        for record in seen:
            assert record["image"].tobytes() == records[record[ROW_KEY].row]["image"].tobytes()

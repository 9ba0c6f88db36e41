"""P3: validation of a UniChart-base by beam search of four, against the official recipe, which goes row by row.

    python -m tests.benchmarks.evaluation [--quick] [--size 960] [--charts 20] [--runs 5] [--batch-size 8]

Both sides read the charts from their files and answer all their questions with the same weights; every answer is
compared. The weights are random, and so large that the answers differ; few end by themselves, so that most take as
many tokens as ChartQA's longer ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from chartqa_ft import answer_questions

from .measure import Report, Row, alternate, arguments, ratio
from .unichart_base import BEAMS, OfficialRecipe, real_records, unichart, use_all_cores

NEW_TOKENS = 8
GOAL = {False: ">= 1.6x", True: ">= 15x"}


def with_many_answers(model: nn.Module, tokenizer: Any) -> nn.Module:
    """Let random weights answer each question otherwise: charts and questions move the logits far, and ids that the
    tokenizer does not have, which would be no text, are never the likeliest."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 2 and "embed" not in name:
                weight.mul_(3.0 if name.startswith("encoder.") else 4.0)
        embeddings = model.decoder.get_output_embeddings().weight
        embeddings[len(tokenizer) :] = 0.0
        embeddings[tokenizer.all_special_ids] = 0.0
    return model


class Validation:
    """The two ways to answer all questions of `records`; each keeps its last answers."""

    def __init__(self, model: nn.Module, processor: Any, records: Sequence[Mapping[str, Any]], batch_size: int):
        self.model, self.processor, self.records, self.batch_size = model, processor, records, batch_size
        self.recipe = OfficialRecipe(model, processor)
        self.answers: dict[str, list[str]] = {}

    def official(self) -> None:
        self.answers["official"] = [self.recipe.answer(record, NEW_TOKENS) for record in self.records]

    def ours(self) -> None:
        self.answers["ours"] = answer_questions(
            self.model,
            self.processor,
            [record["image"] for record in self.records],
            [record["question"] for record in self.records],
            batch_size=self.batch_size,
            num_beams=BEAMS,
            max_new_tokens=NEW_TOKENS,
            early_stopping=True,
            progress=False,
        )

    def different(self) -> int:
        """How many answers differ between the two."""
        return sum(a != b for a, b in zip(self.answers["official"], self.answers["ours"], strict=True))


def main(argv: list[str] | None = None) -> None:
    parser = arguments(__doc__)
    parser.add_argument("--size", type=int, default=960, help="side of the picture in pixels")
    parser.add_argument("--charts", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=8)
    args = parser.parse_args(argv)
    use_all_cores()
    out = Report("P3", args.out, args.quick)
    size, charts = (64, 3) if args.quick else (args.size, args.charts)
    records = real_records(charts)
    model, processor = unichart(size, records, quick=args.quick)
    with_many_answers(model, processor.tokenizer)
    cuda = torch.cuda.is_available() and not args.quick
    model.to("cuda" if cuda else "cpu").eval()
    sides = Validation(model, processor, records, args.batch_size)
    times = alternate({"official": sides.official, "ours": sides.ours}, runs=args.runs, warm_up=int(cuda))
    work = f"validation, {size} px, {len(records)} questions on {charts} charts, beam {BEAMS}"
    peers = ratio(times["official"], times["ours"])
    out.add(Row(work, times["ours"], len(records), times["official"], peers, GOAL[cuda]))
    most = Counter(sides.answers["ours"]).most_common(1)[0][1]
    out.note(f"{sides.different()} of {len(records)} answers differ; {len(records) - most} differ from the commonest")


if __name__ == "__main__":
    main()

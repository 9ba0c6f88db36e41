"""P3 for decoder-only models: answers of a LLaVA, against `generate` of transformers row by row and in batches.

    python -m tests.benchmarks.llava_evaluation [--quick] [--charts 20] [--questions 40] [--runs 5] [--batch-size 8]

All sides read the charts from their files and answer the same questions with the same weights; every answer is
compared. The weights are random, and so large that the answers differ. One token in `ENDS` ends an answer, so that
answers have about as many tokens as those of ChartQA.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from chartqa_ft import adapter_for, answer_questions

from .measure import Report, Row, alternate, arguments, ratio
from .sft import PROMPT, llava
from .unichart_base import real_records, use_all_cores

NEW_TOKENS, ENDS = 16, 6
WHOLE_PROMPTS, ALL_ROWS = "ours, whole prompts", "ours, ended rows stay"
GOALS = {"one by one": ">= 6x", "batched": ">= 1.5x"}


def with_many_answers(model: nn.Module, tokenizer: Any) -> nn.Module:
    """Let random weights answer each question otherwise, and end answers at different lengths."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 2 and "embed" not in name and "lm_head" not in name:
                weight.mul_(3.0)
        head = model.get_output_embeddings().weight
        head[len(tokenizer) :] = 0.0
        head[tokenizer.all_special_ids] = 0.0
    others = [token for token in range(len(tokenizer)) if token not in tokenizer.all_special_ids]
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, *others[::ENDS]]
    return model


class Answers:
    """The ways to answer all questions of `records`; each keeps its last answers."""

    def __init__(self, model: nn.Module, processor: Any, records: Sequence[Mapping[str, Any]], batch_size: int):
        self.model, self.processor, self.records, self.batch_size = model, processor, records, batch_size
        self.adapter = adapter_for(model, processor, prompt=PROMPT)
        self.answers: dict[str, list[str]] = {}

    def peer(self, batch_size: int, name: str) -> None:
        """`generate` as the documentation of transformers shows it: prompts padded on the left, greedy search."""
        found: list[str] = []
        self.processor.tokenizer.padding_side = "left"
        for start in range(0, len(self.records), batch_size):
            rows = self.records[start : start + batch_size]
            batch = self.processor(
                images=[self.adapter.image(row) for row in rows],
                text=[self.adapter.prompt_text(row["question"]) for row in rows],
                padding=True,
                return_tensors="pt",
            ).to(self.model.device, self.model.dtype)
            with torch.inference_mode():
                ids = self.model.generate(
                    **batch,
                    do_sample=False,
                    max_new_tokens=NEW_TOKENS,
                    repetition_penalty=1.0,
                    no_repeat_ngram_size=0,
                    bad_words_ids=[[self.adapter.unknown]],
                    temperature=None,
                    top_p=None,
                    top_k=None,
                )
            found += self.adapter.decode(ids[:, batch["input_ids"].shape[1] :])
        self.answers[name] = found

    def ours(self, name: str = "ours") -> None:
        self.adapter.shares_prefixes = name != WHOLE_PROMPTS
        self.adapter.drops_finished = name != ALL_ROWS
        self.answers[name] = answer_questions(
            self.model,
            self.processor,
            [record["image"] for record in self.records],
            [record["question"] for record in self.records],
            batch_size=self.batch_size,
            max_new_tokens=NEW_TOKENS,
            adapter=self.adapter,
            progress=False,
        )

    def different(self, name: str) -> int:
        """How many answers of another side differ from ours."""
        return sum(a != b for a, b in zip(self.answers[name], self.answers["ours"], strict=True))


def main(argv: list[str] | None = None) -> None:
    parser = arguments(__doc__)
    parser.add_argument("--charts", type=int, default=20)
    parser.add_argument("--questions", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--threads", type=int, help="of torch; all cores unless given")
    parser.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall", help="cpu: processor seconds, where others use the machine"
    )
    parser.add_argument("--levers", action="store_true", help="measure ours without each of its levers, too")
    parser.add_argument("--without", nargs="*", choices=tuple(GOALS), default=(), help="peers to leave out")
    args = parser.parse_args(argv)
    use_all_cores()
    if args.threads:
        torch.set_num_threads(args.threads)
    out = Report("P3 decoder", args.out, args.quick)
    charts, questions = (3, 6) if args.quick else (args.charts, args.questions)
    found = real_records(60)
    records = evenly(found, charts, questions)
    model, processor = llava(found, quick=args.quick)
    with_many_answers(model, processor.tokenizer)
    cuda = torch.cuda.is_available() and not args.quick
    model.to("cuda" if cuda else "cpu").eval()
    sides = Answers(model, processor, records, args.batch_size)
    works = {
        "one by one": partial(sides.peer, 1, "one by one"),
        "batched": partial(sides.peer, args.batch_size, "batched"),
        "ours": sides.ours,
        **{name: partial(sides.ours, name) for name in (WHOLE_PROMPTS, ALL_ROWS) if args.levers},
    }
    works = {name: work for name, work in works.items() if name not in args.without}
    clock = time.process_time if args.clock == "cpu" else time.perf_counter
    times = alternate(works, runs=args.runs, clock=clock)
    for name in [name for name in works if name != "ours"]:
        goal = GOALS.get(name, "-")
        work = f"answers, LLaVA, {len(records)} questions on {charts} charts, against {name}"
        peers = ratio(times[name], times["ours"])
        out.add(Row(work, times["ours"], len(records), times[name], peers, goal))
        out.note(f"{sides.different(name)} of {len(records)} answers differ from those {name}")
    most = Counter(sides.answers["ours"]).most_common(1)[0][1]
    words = sorted(len(processor.tokenizer(answer).input_ids) for answer in sides.answers["ours"])
    out.note(f"{len(records) - most} answers differ from the commonest; {words[0]} to {words[-1]} tokens")


def evenly(records: Sequence[Mapping[str, Any]], charts: int, questions: int) -> list[Mapping[str, Any]]:
    """`questions` questions on `charts` charts, as equally many on each as there are; other charts ask again."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        groups.setdefault(record["chart_id"], []).append(record)
    each = questions // charts
    chosen = sorted(groups.values(), key=len, reverse=True)[:charts]
    return [
        {**group[0], "question": group[number]["question"] if number < len(group) else other["question"]}
        for group in chosen
        for number, other in zip(range(each), records, strict=False)
    ]


if __name__ == "__main__":
    main()

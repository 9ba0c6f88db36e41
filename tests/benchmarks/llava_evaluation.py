"""P3 for decoder-only models: answers of a LLaVA, against `generate` of transformers row by row and in batches.

    python -m tests.benchmarks.llava_evaluation [--quick] [--charts 20] [--questions 40] [--runs 5] [--batch-size 8]

All sides read the charts from their files and answer the same questions with the same weights; every answer is
compared. The weights are random, and so large that the answers differ. One token in `ENDS` ends an answer, so that
answers have about as many tokens as those of ChartQA.

An evaluation computes the loss, too: `model(**batch).loss` and then `generate` for each row, as `Seq2SeqTrainer` does,
against `ChartQATrainer.evaluate`, which also scores and writes the answers.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from chartqa_ft import ChartQATrainer, ChartQATrainingArguments, adapter_for, answer_questions

from .measure import Report, Row, alternate, arguments, ratio
from .sft import PROMPT, llava
from .unichart_base import real_records, use_all_cores

NEW_TOKENS, ENDS = 16, 6
WHOLE_PROMPTS, ALL_ROWS = "ours, whole prompts", "ours, ended rows stay"
GOALS = {"one by one": ">= 6x", "batched": ">= 1.5x"}
WITH_LOSS, OURS_WITH_LOSS = "loss and answers, one by one", "ours, loss and answers"
LOSSES_EQUAL = 1e-5
"""Relative difference up to which losses are called equal: both are means in float32."""


def with_many_answers(model: nn.Module, tokenizer: Any) -> nn.Module:
    """Let random weights answer each question otherwise, and end answers at different lengths."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 2 and "embed" not in name and "lm_head" not in name:
                weight.mul_(3.0)
        head = model.get_output_embeddings().weight
        head[len(tokenizer) :] = 0.0
        head[tokenizer.all_special_ids] = 0.0
    end_early(model, tokenizer)
    return model


def end_early(model: nn.Module, tokenizer: Any, answers: Sequence[str] = ()) -> None:
    """Let one token in `ENDS` end an answer, but none that `answers` hold, which could not be learnt otherwise."""
    held = {token for text in answers for token in tokenizer(f" {text}").input_ids + tokenizer(text).input_ids}
    others = [token for token in range(len(tokenizer)) if token not in tokenizer.all_special_ids]
    ends = [token for token in others[::ENDS] if token not in held]
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, *ends]


class Answers:
    """The ways to answer all questions of `records`; each keeps its last answers."""

    def __init__(self, model: nn.Module, processor: Any, records: Sequence[Mapping[str, Any]], batch_size: int):
        self.model, self.processor, self.records, self.batch_size = model, processor, records, batch_size
        self.adapter = adapter_for(model, processor, prompt=PROMPT)
        self.answers: dict[str, list[str]] = {}
        self.losses: dict[str, float] = {}

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

    def peer_with_loss(self) -> None:
        """The loss of each row by a forward pass with labels, and its answer by `generate`."""
        loss_sum, tokens = 0.0, 0
        for row in self.records:
            batch = {key: value for key, value in self.adapter.encode([row]).items() if torch.is_tensor(value)}
            number = int((batch["labels"] != -100).sum())
            with torch.inference_mode():
                loss = self.model(**{key: value.to(self.model.device) for key, value in batch.items()}).loss
            loss_sum, tokens = loss_sum + float(loss) * number, tokens + number
        self.losses[WITH_LOSS] = loss_sum / tokens
        self.peer(1, WITH_LOSS)

    def ours_with_loss(self) -> None:
        """`ChartQATrainer.evaluate`, with all that it does besides."""
        self.adapter.shares_prefixes = self.adapter.drops_finished = True
        with tempfile.TemporaryDirectory() as folder:
            args = ChartQATrainingArguments(
                output_dir=folder,
                per_device_eval_batch_size=self.batch_size,
                generation_num_beams=1,
                generation_max_new_tokens=NEW_TOKENS,
                use_cpu=self.model.device.type == "cpu",
                report_to=[],
                disable_tqdm=True,
            )
            trainer = ChartQATrainer(self.model, args, processing_class=self.processor, adapter=self.adapter)
            self.losses[OURS_WITH_LOSS] = trainer.evaluate(self.records)["eval_loss"]
        self.answers[OURS_WITH_LOSS] = [row["prediction"] for row in trainer.evaluator.answered]

    def different(self, name: str, ours: str = "ours") -> int:
        """How many answers of another side differ from ours."""
        return sum(a != b for a, b in zip(self.answers[name], self.answers[ours], strict=True))


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
    parser.add_argument("--without", nargs="*", choices=(*GOALS, WITH_LOSS), default=(), help="peers to leave out")
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
    if WITH_LOSS not in args.without:
        end_early(model, processor.tokenizer, [record["answer"] for record in records])
        sides = Answers(model, processor, records, args.batch_size)
        compare_with_loss(out, sides, args.runs, clock)


def compare_with_loss(out: Report, sides: Answers, runs: int, clock: Callable[[], float]) -> None:
    """Add the row of an evaluation that computes loss and answers.

    Raises:
        RuntimeError: the losses of the two sides differ by more than rounding.
    """
    works = {WITH_LOSS: sides.peer_with_loss, OURS_WITH_LOSS: sides.ours_with_loss}
    times = alternate(works, runs=runs, clock=clock)
    rows = len(sides.records)
    charts = len({record["chart_id"] for record in sides.records})
    peers = ratio(times[WITH_LOSS], times[OURS_WITH_LOSS])
    work = f"loss and answers, LLaVA, {rows} questions on {charts} charts, against one by one"
    out.add(Row(work, times[OURS_WITH_LOSS], rows, times[WITH_LOSS], peers))
    theirs, own = sides.losses[WITH_LOSS], sides.losses[OURS_WITH_LOSS]
    if not math.isclose(theirs, own, rel_tol=LOSSES_EQUAL):
        raise RuntimeError(f"the losses differ: {theirs!r} one by one, {own!r} ours")
    out.note(
        f"loss {theirs:.7g} one by one, {own:.7g} ours; {sides.different(WITH_LOSS, OURS_WITH_LOSS)} of {rows} "
        "answers differ"
    )


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

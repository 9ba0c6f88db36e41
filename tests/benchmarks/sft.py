"""P4: a training step of a LLaVA, LoRA and full, in time and in memory, against TRL's `SFTTrainer`.

    python -m tests.benchmarks.sft [--quick] [--modes lora full] [--batch 8 5] [--recompute] [--clock cpu]

The model is LLaVA-1.5's shape, narrowed: a CLIP tower of 24 blocks, 576 image tokens (336 px, patches of 14), a Llama
with a vocabulary of 32,000, random weights, float32. Both sides take the same weights and the same rows (real charts
and questions), loss on the answers alone, forward, backward, gradients clipped at 1 and a step of AdamW. Preparing the
batch is timed apart. Before anything is timed, the tokens, losses and gradients of both are compared.

Neither side recomputes activations, unless `--recompute` says that both do: TRL's default, where ours is off.
"""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
import transformers as tf
from torch import nn

from chartqa_ft import ChartQATrainer, ChartQATrainingArguments, default_lora_config
from chartqa_ft.adapters import adapter_for, base_model

from ..support.families import build, set_generation, token_ids
from .measure import GIB, Report, Row, Sample, alternate, apart, arguments, ratio, resident
from .unichart_base import real_records, use_all_cores, with_rows

MODES = {"lora": "LoRA", "full": "full"}
BATCH = (8, 5)
"""Rows and charts of a step: 1.6 questions a chart; the real test split has 1.63."""
SPEED_GOAL, MEMORY_GOAL = ">= 1.3x", "<= 0.6x"
VOCABULARY, PATCH = 32_000, 14
PROMPT = "{question}"
BASE_SHAPE = {
    "image_size": 336,
    "vision": {"hidden_size": 256, "intermediate_size": 1024, "num_attention_heads": 4},
    "vision_layers": 24,
    "text": {"hidden_size": 1024, "intermediate_size": 2752, "num_attention_heads": 8, "num_key_value_heads": 8},
    "text_layers": 4,
}
QUICK_SHAPE = {
    "image_size": 56,
    "vision": {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2},
    "vision_layers": 4,
    "text": {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 2, "num_key_value_heads": 2},
    "text_layers": 2,
}


def llava(
    records: Sequence[Mapping[str, Any]],
    *,
    quick: bool = False,
    shape: Mapping[str, Any] | None = None,
    device: str = "cpu",
) -> tuple[nn.Module, Any]:
    """A LLaVA with random weights, always the same ones, and its processor, whose tokenizer learnt from `records`.

    Weights that are drawn on a GPU are others than those drawn on a CPU, and a billion of them are there at once.
    """
    shape = shape or (QUICK_SHAPE if quick else BASE_SHAPE)
    size = shape["image_size"]
    processor = build("llava")[1]
    texts = [f"USER: {row['question']} ASSISTANT: {row['answer']}" for row in records]
    tokenizer = processor.tokenizer.train_new_from_iterator(texts, vocab_size=2000, show_progress=False)
    square = {"height": size, "width": size}
    processor = tf.LlavaProcessor(
        tf.CLIPImageProcessorPil(size={"shortest_edge": size}, crop_size=square),
        tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=processor.chat_template,
    )
    config = tf.LlavaConfig(
        vision_config=tf.CLIPVisionConfig(
            **shape["vision"], num_hidden_layers=shape["vision_layers"], image_size=size, patch_size=PATCH
        ),
        text_config=tf.LlamaConfig(
            **shape["text"],
            num_hidden_layers=shape["text_layers"],
            vocab_size=VOCABULARY,
            max_position_embeddings=2048,
            **token_ids(tokenizer),
        ),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )
    with torch.random.fork_rng(devices=[]), torch.device(device):
        torch.manual_seed(0)
        model = tf.LlavaForConditionalGeneration(config)
    set_generation(model, tokenizer)
    return model, processor


class Side:
    """One way to take a step: its own copy of the model, its trainer, a batch and an optimizer.

    Args:
        records: the rows of the batch.
        all_records: those that the tokenizer learns from.
        mode: a key of `MODES`.
        recompute: activations are computed again in the backward pass instead of kept.
        cuda: the step is taken on a GPU, in bfloat16 autocast.
        shape: of the model, in place of `BASE_SHAPE`.
    """

    name = ""

    def __init__(
        self,
        records: Sequence[Mapping[str, Any]],
        all_records: Sequence[Mapping[str, Any]],
        mode: str,
        *,
        quick: bool = False,
        recompute: bool = False,
        cuda: bool = False,
        shape: Mapping[str, Any] | None = None,
    ):
        model, self.processor = llava(all_records, quick=quick, shape=shape, device="cuda" if cuda else "cpu")
        self.cuda = cuda
        # As for a checkpoint on disk: neither side shall see what the other does to a processor or a configuration.
        self.adapter = adapter_for(model, copy.deepcopy(self.processor), prompt=PROMPT)
        self.records = [dict(row) for row in records]
        self.folder = tempfile.TemporaryDirectory()
        self.options = {
            "output_dir": self.folder.name,
            "per_device_train_batch_size": len(records),
            "max_steps": 1,
            "report_to": [],
            "disable_tqdm": True,
            "use_cpu": not cuda,
        }
        self.recompute = recompute
        self.trainer = self.make_trainer(model, default_lora_config(model) if mode == "lora" else None)
        self.model = self.trainer.model
        if recompute:
            self.model.gradient_checkpointing_enable({"use_reentrant": False})
        self.model.train()
        trained = [weight for weight in self.model.parameters() if weight.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=1e-5, weight_decay=0.0, fused=True)

    def make_trainer(self, model: nn.Module, peft_config: Any) -> Any:
        raise NotImplementedError

    def collate(self) -> dict[str, Any]:
        """The batch, from the files of the charts."""
        raise NotImplementedError

    @cached_property
    def batch(self) -> dict[str, Any]:
        device = self.model.device
        return {
            key: value.to(device) if torch.is_tensor(value) else value for key, value in dict(self.collate()).items()
        }

    @cached_property
    def tokens(self) -> int:
        return int((self.batch["labels"] != -100).sum())

    def loss(self) -> torch.Tensor:
        with torch.autocast("cuda", torch.bfloat16, enabled=self.cuda):
            return self.trainer.compute_loss(self.model, dict(self.batch), num_items_in_batch=self.tokens)

    def step(self) -> None:
        self.optimizer.zero_grad()
        self.loss().backward()
        self.update()

    def update(self) -> None:
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()


class Ours(Side):
    name = "ours"

    def make_trainer(self, model: nn.Module, peft_config: Any) -> Any:
        args = ChartQATrainingArguments(**self.options, activation_checkpointing=self.recompute)
        return ChartQATrainer(model, args, train_dataset=self.records, adapter=self.adapter, peft_config=peft_config)

    def collate(self) -> dict[str, Any]:
        return self.trainer.data_collator([dict(row) for row in self.records])


class Trl(Side):
    name = "TRL"

    def make_trainer(self, model: nn.Module, peft_config: Any) -> Any:
        from datasets import Dataset, Features, Image, Value
        from trl import SFTConfig, SFTTrainer

        start, end = self.processor.tokenizer.bos_token, self.processor.tokenizer.eos_token
        rows = [
            {
                "image": row["image"],
                "prompt": start + self.adapter.prompt_text(row["question"]),
                "completion": self.adapter.lead + self.adapter.answer_text(row) + end,
            }
            for row in self.records
        ]
        features = Features({"image": Image(), "prompt": Value("string"), "completion": Value("string")})
        args = SFTConfig(**self.options, bf16=self.cuda, max_length=None, gradient_checkpointing=self.recompute)
        return SFTTrainer(
            model,
            args,
            train_dataset=Dataset.from_list(rows, features=features),
            processing_class=self.processor,
            peft_config=peft_config,
        )

    def collate(self) -> dict[str, Any]:
        return self.trainer.data_collator([self.trainer.train_dataset[row] for row in range(len(self.records))])


SIDES: tuple[type[Side], ...] = (Trl, Ours)


def both_sides(
    rows: int,
    charts: int,
    mode: str,
    *,
    records: Sequence[Mapping[str, Any]] | None = None,
    sides: tuple[type[Side], ...] = SIDES,
    **kwargs: Any,
) -> tuple[Side, Side]:
    records = real_records(60) if records is None else records
    peer, ours = (side(with_rows(records, rows, charts), records, mode, **kwargs) for side in sides)
    with torch.no_grad():
        weights = dict(peer.model.named_parameters())
        for name, weight in ours.model.named_parameters():
            if "lora_B" in name:  # zero at first: an adapter that one side ignores would not show
                weight.normal_(std=0.02)
            weights.pop(name).copy_(weight)
    if weights:
        raise RuntimeError(f"the peer has weights that ours has not: {sorted(weights)[:3]}")
    return peer, ours


def differences(peer: Side, ours: Side) -> tuple[float, float]:
    """Relative differences of the losses and of the gradients (L2), dropout off.

    Raises:
        RuntimeError: the two do not read the same tokens.
    """
    rows = ours.adapter.encode(ours.records)  # before the questions of a chart are put into one sequence
    for key in ("input_ids", "labels", "attention_mask"):
        if not torch.equal(peer.batch[key], rows[key]):
            raise RuntimeError(f"{key} differs: {peer.batch[key].tolist()} and {rows[key].tolist()}")
    losses, gradients = [], []
    for side in (peer, ours):
        side.model.eval()
        loss = side.loss()
        loss.backward()
        losses.append(loss.item())
        gradients.append({name: p.grad for name, p in side.model.named_parameters() if p.grad is not None})
        side.model.train()
    if gradients[0].keys() != gradients[1].keys():
        raise RuntimeError(f"one side trains what the other does not: {gradients[0].keys() ^ gradients[1].keys()}")
    distance = sum((gradients[0][name] - g).double().square().sum() for name, g in gradients[1].items()).sqrt()
    norm = sum(g.double().square().sum() for g in gradients[0].values()).sqrt()
    for side in (peer, ours):
        side.optimizer.zero_grad()
    return abs(losses[1] / losses[0] - 1), float(distance / norm)


def where_time_goes(side: Side, clock: Callable[[], float]) -> dict[str, float]:
    """Seconds of one step by part. The backward pass of a part ends where that of the part before it begins."""
    model = base_model(side.model)
    order = ("head", "language model", "vision tower")
    parts = (model.get_output_embeddings(), model.model.language_model, model.get_encoder(modality="image"))
    times: dict[tuple[str, str], float] = {}
    handles = []

    def watch(name: str, part: nn.Module) -> None:
        def mark(event: str) -> None:
            times[name, event] = clock()

        def ended(module: nn.Module, args: tuple, output: Any) -> None:
            mark("ends")
            states = output if torch.is_tensor(output) else output[0]
            if name == "vision tower":  # LLaVA reads the tower before its last block
                states = output.hidden_states[model.config.vision_feature_layer]
            if states.requires_grad:
                # The gradient of a part's output is there when its own backward pass begins.
                states.register_hook(lambda gradient: mark("backward"))

        handles.append(part.register_forward_pre_hook(lambda *_: mark("begins")))
        handles.append(part.register_forward_hook(ended))

    for name, part in zip(order, parts, strict=True):
        watch(name, part)
    started = clock()
    side.collate()
    seconds = {"data (no workers)": clock() - started}
    side.optimizer.zero_grad()
    started = clock()
    loss = side.loss()
    begins = clock()
    loss.backward()
    finished = clock()
    side.update()
    seconds["clip and optimizer"] = clock() - finished
    for handle in handles:
        handle.remove()
    starts = {name: times[name, "backward"] for name in order if (name, "backward") in times}
    # TRL reads the weights of its head without calling it: its passes then count as the rest.
    if ("head", "begins") not in times:
        order = order[1:]
    else:
        starts["head"] = begins
    backward = {name: starts.get(name, finished) for name in order}
    ends = [*list(backward.values())[1:], finished]
    for name, end in zip(order, ends, strict=True):
        seconds[f"{name}, forward"] = times[name, "ends"] - times[name, "begins"]
        if name in starts:
            seconds[f"{name}, backward"] = end - backward[name]
    step = finished - started + seconds["clip and optimizer"]
    seconds["rest of the step"] = step - sum(v for key, v in seconds.items() if not key.startswith("data"))
    return seconds


def two_steps(side: str, rows: int, charts: int, mode: str, quick: bool, recompute: bool) -> int:
    """Returns the bytes that were resident before the first step: modules, weights and data."""
    use_all_cores()
    records = real_records(60)
    kind = next(kind for kind in SIDES if kind.name == side)
    made = kind(with_rows(records, rows, charts), records, mode, quick=quick, recompute=recompute)
    made.tokens  # noqa: B018 - the batch is made
    before = resident()
    for _ in range(2):
        made.step()
    return before


def measure_time(out: Report, rows: int, charts: int, mode: str, args: Any) -> None:
    clock = time.process_time if args.clock == "cpu" else time.perf_counter
    peer, ours = both_sides(rows, charts, mode, quick=out.quick, recompute=args.recompute)
    loss, gradient = differences(peer, ours)
    total, trained = (sum(p.numel() for p in ours.model.parameters() if p.requires_grad or not t) for t in (0, 1))
    out.note(
        f"{total / 1e6:.0f} M parameters, {trained / 1e6:.1f} M trained; {rows} rows on {charts} charts, "
        f"{ours.tokens} answer tokens; sequences and positions: {peer.name} {tuple(peer.batch['input_ids'].shape)}, "
        f"{ours.name} {tuple(ours.batch['input_ids'].shape)}"
    )
    out.note(f"losses differ by {loss:.1e}, gradients by {gradient:.1e} (relative)")
    if loss > 1e-5:
        raise RuntimeError(f"the losses of the two sides differ by {loss:.1e}: not the same work")
    times = alternate({"TRL": peer.step, "ours": ours.step}, runs=args.runs, clock=clock)
    peers = ratio(times["TRL"], times["ours"])
    out.add(Row(f"step, {work(rows, charts, mode, args)}", times["ours"], rows, times["TRL"], peers, SPEED_GOAL))
    for side in (ours, peer):
        seconds = where_time_goes(side, clock)
        whole = sum(seconds.values())
        for name, value in sorted(seconds.items(), key=lambda item: -item[1]):
            out.note(f"{side.name:<5} {name:<24} {value:8.3f} s  {value / whole:6.1%}")


def measure_memory(out: Report, rows: int, charts: int, mode: str, args: Any) -> None:
    spent = {kind.name: apart(two_steps, kind.name, rows, charts, mode, out.quick, args.recompute) for kind in SIDES}
    peaks = {side: Sample((float(one.resident) / GIB,), "GiB") for side, one in spent.items()}
    before = ", ".join(f"{side} {one.result / GIB:.2f} GiB" for side, one in spent.items())
    name = f"memory of a step, {work(rows, charts, mode, args)}"
    part = ratio(peaks["ours"], peaks["TRL"])
    out.add(Row(name, peaks["ours"], rows, peaks["TRL"], part, MEMORY_GOAL, f"before the first step: {before}"))


def work(rows: int, charts: int, mode: str, args: Any) -> str:
    extra = (", recomputing" if args.recompute else "") + (", CPU seconds" if args.clock == "cpu" else "")
    return f"LLaVA, {MODES[mode]}, {rows} rows on {charts} charts{extra}"


def main(argv: list[str] | None = None) -> None:
    parser = arguments(__doc__)
    parser.add_argument("--modes", nargs="*", choices=tuple(MODES), default=tuple(MODES))
    parser.add_argument("--batch", type=int, nargs=2, default=BATCH, help="rows and charts of a step")
    parser.add_argument("--recompute", action="store_true", help="both sides recompute activations")
    parser.add_argument("--parts", nargs="*", choices=("time", "memory"), default=("time", "memory"))
    parser.add_argument("--threads", type=int, help="of torch; all cores unless given")
    parser.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall", help="cpu: processor seconds, where others use the machine"
    )
    args = parser.parse_args(argv)
    use_all_cores()
    if args.threads:
        torch.set_num_threads(args.threads)
    out = Report("P4", args.out, args.quick)
    rows, charts = args.batch
    for mode in args.modes:
        if "time" in args.parts:
            measure_time(out, rows, charts, mode, args)
        if "memory" in args.parts:
            measure_memory(out, rows, charts, mode, args)


if __name__ == "__main__":
    main()

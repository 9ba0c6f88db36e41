"""Beam search that scores its hypotheses as transformers 4.28.1 did.

Version 4.28.1 divides the sum of a hypothesis' log-probabilities by ``(prompt + generated) ** length_penalty``, EOS
not counted. Version 5.x divides by ``(generated + EOS) ** length_penalty``. With a question in the prompt, the former
hardly normalizes by length at all: on a UniChart-shaped model 24 of 120 answers change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from transformers.generation.utils import GenerateBeamEncoderDecoderOutput

from ..cache_name import CACHE
from ..lockstep import any_rank

if TYPE_CHECKING:
    from transformers import GenerationConfig, LogitsProcessorList, PreTrainedModel, StoppingCriteriaList

NOT_STARTED = -1e9  # score of the beams that are still copies of the first one


def legacy_beam_search(
    model: PreTrainedModel,
    input_ids: torch.Tensor,
    *,
    logits_processor: LogitsProcessorList,
    stopping_criteria: StoppingCriteriaList,
    generation_config: GenerationConfig,
    synced_gpus: bool = False,
    **model_kwargs: Any,
) -> GenerateBeamEncoderDecoderOutput | torch.Tensor:
    """Run the beam search of transformers 4.28.1, which gives the same scores and the same answers.

    Pass it as ``custom_generate`` to ``generate`` of an encoder-decoder model, which prepares its arguments.

    It supports ``num_beams``, ``num_return_sequences``, ``length_penalty``, ``early_stopping`` (True, False, "never"),
    the length limits, EOS ids, ``use_cache``, and all logits processors (forbidden words, forced EOS, n-grams, ...). A
    custom stopping criterion ends a row when it holds for all running beams of that row. Rows are independent of each
    other: each row of a batch gets the answer that 4.28.1 gives for it alone. In 4.28.1 itself rows of a batch
    depended on each other with ``early_stopping=False``.

    Args:
        model: encoder-decoder model.
        input_ids: int64 of shape (rows * num_beams, prompt_length), the prompts, each repeated for its beams. All
            prompts have the same length.
        logits_processor: applied to the log-probabilities, float32 of shape (rows * num_beams, vocabulary).
        stopping_criteria: applied to the running beams after each step.
        generation_config: settings of the search.
        synced_gpus: run the model until the search is done on every rank, each of which must call this function. A
            model whose weights are sharded needs it.
        model_kwargs: encoder outputs and cache, as ``generate`` prepares them.

    Returns:
        The sequences, int64 of shape (rows * num_return_sequences, length): prompt, answer, EOS where it fits, then
        padding; the best first within a row. With ``return_dict_in_generate`` an output that also has
        ``sequences_scores``, float32 of shape (rows * num_return_sequences,), and, with ``output_scores``, the
        processed log-probabilities of each step in ``scores``. Attentions, hidden states, raw logits and beam indices
        are not recorded.

    Raises:
        ValueError: there are fewer than two beams, the call samples, prompts differ in length, or an output is
            requested that is not recorded.

    Example:
        >>> import torch
        >>> from chartqa_ft.models.tiny import tiny_unichart
        >>> model, _ = tiny_unichart()
        >>> height, width = model.config.encoder.image_size
        >>> model.generate(
        ...     torch.zeros(1, 3, height, width), num_beams=2, max_new_tokens=3, custom_generate=legacy_beam_search
        ... ).shape
        torch.Size([1, 4])
    """
    _check(generation_config, model_kwargs)
    beams = generation_config.num_beams
    rows = input_ids.shape[0] // beams
    finished = [_Finished(generation_config) for _ in range(rows)]
    ends = max(1, len(finished[0].eos))
    first_beam = torch.arange(0, rows * beams, beams, device=input_ids.device)[:, None]
    scores = torch.full((rows, beams), NOT_STARTED, device=input_ids.device)
    scores[:, 0] = 0.0
    recorded: tuple[torch.Tensor, ...] = ()

    while True:
        if synced_gpus:
            any_rank(True, input_ids.device)
        logits = _next_logits(model, input_ids, model_kwargs)
        log_probs = logits_processor(input_ids, torch.log_softmax(logits.float(), dim=-1))
        if generation_config.output_scores:
            recorded += (log_probs,)
        vocabulary = log_probs.shape[-1]
        totals = (log_probs.view(rows, beams, vocabulary) + scores[:, :, None]).view(rows, -1)
        # At most `ends` candidates of a beam end there, so this many always leave enough that go on.
        best, index = totals.topk(min(beams * (1 + ends), totals.shape[1]), dim=1)
        running = [
            row.advance(input_ids[i * beams : (i + 1) * beams], row_totals, indices, vocabulary)
            for i, (row, row_totals, indices) in enumerate(zip(finished, best.tolist(), index.tolist(), strict=True))
        ]
        scores, tokens, origins = (
            torch.tensor([[beam[k] for beam in row] for row in running], device=input_ids.device) for k in range(3)
        )
        origins = (origins + first_beam).view(-1)
        input_ids = torch.cat([input_ids[origins], tokens.view(-1, 1)], dim=1)
        if (cache := model_kwargs.get(CACHE)) is not None:
            # The beams of a row attend to the same chart, so the large cache of cross-attention stays as it is.
            getattr(cache, "self_attention_cache", cache).reorder_cache(origins)

        stopped = stopping_criteria(input_ids, recorded or None).view(rows, beams).all(dim=1).tolist()
        for i, row in enumerate(finished):
            if stopped[i] and not row.done:  # no matter how long others go on
                row.finish(input_ids[i * beams : (i + 1) * beams], scores[i].tolist())
        if all(row.done for row in finished):
            break
    while synced_gpus and any_rank(False, input_ids.device):
        model(decoder_input_ids=input_ids[:, -1:], **{**model_kwargs, CACHE: None, "use_cache": False})

    best_first = [hypothesis for row in finished for hypothesis in row.best()]
    sequences = _join([tokens for _, tokens in best_first], finished[0])
    if not generation_config.return_dict_in_generate:
        return sequences
    return GenerateBeamEncoderDecoderOutput(
        sequences=sequences,
        sequences_scores=torch.tensor([score for score, _ in best_first], device=sequences.device),
        scores=recorded or None,
    )


class _Finished:
    """The best finished hypotheses of one row, and whether the search is done for this row."""

    def __init__(self, config: GenerationConfig) -> None:
        self.size, self.kept, self.penalty = config.num_beams, config.num_return_sequences, config.length_penalty
        self.early_stopping, self.max_length = config.early_stopping, config.max_length
        self.eos = _as_list(config.eos_token_id)
        self.pad = config.pad_token_id if config.pad_token_id is not None else [*self.eos, 0][0]
        self.hypotheses: list[tuple[float, torch.Tensor]] = []
        self.done = False

    def add(self, tokens: torch.Tensor, total: float) -> None:
        """Keep ``tokens`` (prompt and answer without EOS) if they are among the best."""
        score = total / len(tokens) ** self.penalty
        if len(self.hypotheses) < self.size:
            self.hypotheses.append((score, tokens))
        elif score > self.worst():
            worst = min(range(self.size), key=lambda i: self.hypotheses[i][0])
            del self.hypotheses[worst]
            self.hypotheses.append((score, tokens))

    def finish(self, running: torch.Tensor, totals: list[float]) -> None:
        """End the search of this row with its running beams among the finished ones."""
        for hypothesis, total in zip(running, totals, strict=True):
            self.add(hypothesis, total)
        self.done = True

    def worst(self) -> float:
        return min(score for score, _ in self.hypotheses)

    def best(self) -> list[tuple[float, torch.Tensor]]:
        """Return the best hypotheses, best first. Of equal scores the later one comes first, as in 4.28.1."""
        return sorted(self.hypotheses, key=lambda hypothesis: hypothesis[0])[::-1][: self.kept]

    def advance(
        self, running: torch.Tensor, totals: list[float], indices: list[int], vocabulary: int
    ) -> list[tuple[float, int, int]]:
        """Store the candidates that end and return those that go on, as (total, token, beam), best first.

        Args:
            running: int64 of shape (beams, length), the sequences of this row's beams.
            totals: sum of log-probabilities of each candidate, best first.
            indices: ``beam * vocabulary + token`` of each candidate.
        """
        if self.done:
            return [(0.0, self.pad, beam) for beam in range(self.size)]
        going_on: list[tuple[float, int, int]] = []
        for rank, (total, index) in enumerate(zip(totals, indices, strict=True)):
            beam, token = divmod(index, vocabulary)
            if token not in self.eos:
                going_on.append((total, token, beam))
            elif rank < self.size:  # an end that is not among the best `size` candidates does not count
                self.add(running[beam], total)
            if len(going_on) == self.size:
                break
        self.done = self.cannot_improve(totals[0], running.shape[1] + 1)
        return going_on

    def cannot_improve(self, best_total: float, length: int) -> bool:
        if len(self.hypotheses) < self.size:
            return False
        if self.early_stopping is True:
            return True
        if self.early_stopping == "never" and self.penalty > 0.0:
            length = self.max_length
        return self.worst() >= best_total / length**self.penalty


def _check(config: GenerationConfig, model_kwargs: dict[str, Any]) -> None:
    if config.num_beams < 2 or config.do_sample:
        raise ValueError(
            f"legacy_beam_search got num_beams={config.num_beams}, do_sample={config.do_sample}: it needs two or more "
            "beams and does not sample. Otherwise leave custom_generate out: greedy answers are the same in 5.x."
        )
    outputs = ("output_attentions", "output_hidden_states", "output_logits")
    if refused := [name for name in outputs if getattr(config, name, None)]:
        raise ValueError(f"legacy_beam_search does not record {' and '.join(refused)}: leave them out")
    # Prompts of equal length need no mask, and one would have to grow with the answer.
    mask = model_kwargs.pop("decoder_attention_mask", None)
    if mask is not None and not bool(mask.all()):
        raise ValueError(
            "legacy_beam_search got prompts of unequal length (zeros in decoder_attention_mask), and a score is "
            "divided by the prompt's length too: put rows of equal prompt length in one call"
        )


def _next_logits(model: PreTrainedModel, input_ids: torch.Tensor, model_kwargs: dict[str, Any]) -> torch.Tensor:
    """Return the next token's logits, shape (rows * beams, vocabulary), and update the cache in ``model_kwargs``."""
    cache = model_kwargs.get(CACHE)
    unseen = input_ids if cache is None else input_ids[:, cache.get_seq_length() :]
    output = model(decoder_input_ids=unseen, **model_kwargs, return_dict=True)
    if model_kwargs.get("use_cache"):
        model_kwargs[CACHE] = output.get(CACHE)
    return output.logits[:, -1, :]


def _join(hypotheses: list[torch.Tensor], row: _Finished) -> torch.Tensor:
    length = min(max(map(len, hypotheses)) + 1, row.max_length)
    sequences = hypotheses[0].new_full((len(hypotheses), length), row.pad)
    for sequence, tokens in zip(sequences, hypotheses, strict=True):
        sequence[: len(tokens)] = tokens
        if len(tokens) < length and row.eos:
            sequence[len(tokens)] = row.eos[0]
    return sequences


def _as_list(token_ids: int | list[int] | None) -> list[int]:
    return [] if token_ids is None else token_ids if isinstance(token_ids, list) else [token_ids]

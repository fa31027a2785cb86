"""BLEU-1 to 4, METEOR, ROUGE-L and CIDEr by pycocoevalcap 1.2, as fractions (CIDEr: 0 to 10).

Its scorers are called one by one: its all-in-one evaluator always builds SPICE, which downloads. BLEU and METEOR are
no means of their items, and an item's CIDEr depends on all references of the set, so that one item alone scores 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tasks.answer_cleaning import clean_answer
from tasks.bleu import bleu_metrics
from tasks.caption_tokens import caption_problem, one_line, require_caption_tools, tokenize
from tasks.exact_match import score_exact_match
from tasks.meteor import meteor_metric
from tasks.task_scores import Metric, ScoringError, TaskScores, check_lengths

CAPTION_METRICS = ("Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "METEOR", "ROUGE_L", "CIDEr")


def score_captions(
    replies: Sequence[str | None], references: Sequence[Sequence[str]], *, allow_missing_metrics: bool = False
) -> TaskScores:
    """Caption scores of the replies against their references, one or more each; line separators become spaces.

    Without pycocoevalcap or Java: ScoringError, or, where allowed, no metrics but ``absent_metrics``. Raises
    ScoringError too where the lengths differ, an item has no reference, or a tool fails.
    """
    num_items = check_lengths(replies=replies, references=references)
    for position, of_item in enumerate(references):
        if not of_item:
            raise ScoringError(f"item {position} has no reference; give every item at least one")
    num_missing = list(replies).count(None)
    problem = caption_problem() if allow_missing_metrics else None
    if problem is not None:
        absent = dict.fromkeys(CAPTION_METRICS, problem)
        return TaskScores(official={}, num_items=num_items, num_missing=num_missing, absent_metrics=absent)
    require_caption_tools()
    answered = [position for position, reply in enumerate(replies) if reply is not None]
    tokens = iter(
        tokenize([text for position in answered for text in (replies[position] or "", *references[position])])
    )
    reply_tokens, reference_tokens = [], []
    for position in answered:
        reply_tokens.append(next(tokens))
        reference_tokens.append([next(tokens) for _ in references[position]])
    metrics = token_metrics(reply_tokens, reference_tokens)
    return TaskScores(
        official={name: _among(metric, answered, num_items) for name, metric in metrics.items()},
        num_items=num_items,
        num_missing=num_missing,
    )


def score_scanqa(
    replies: Sequence[str | None], answers: Sequence[Sequence[str]], *, allow_missing_metrics: bool = False
) -> TaskScores:
    """EM@1 and refined EM of ScanQA, and caption scores of the cleaned texts. Raises as ``score_captions``."""
    exact = score_exact_match(replies, answers)
    captions = score_captions(
        exact.readings or (),
        [[one_line(clean_answer(answer)).strip() for answer in of_item] for of_item in answers],
        allow_missing_metrics=allow_missing_metrics,
    )
    return TaskScores(
        official={**exact.official, **captions.official},
        corrected=exact.corrected,
        num_items=exact.num_items,
        num_missing=exact.num_missing,
        readings=exact.readings,
        absent_metrics=captions.absent_metrics,
    )


def token_metrics(
    replies: Sequence[str], references: Sequence[Sequence[str]], names: Sequence[str] = CAPTION_METRICS
) -> dict[str, Metric]:
    """The named metrics of texts that are tokenized already; only METEOR needs Java.

    Raises ScoringError where METEOR fails.
    """
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    check_lengths(replies=replies, references=references)
    if not replies:
        return {name: Metric(None, ()) for name in names}
    metrics = bleu_metrics(replies, references)
    if "METEOR" in names:
        metrics["METEOR"] = meteor_metric(replies, references)
    hypotheses = {position: [reply] for position, reply in enumerate(replies)}
    truths = {position: list(of_item) for position, of_item in enumerate(references)}
    for name, scorer in (("ROUGE_L", Rouge()), ("CIDEr", Cider())):
        if name == "CIDEr" and not any(text.split() for of_item in references for text in of_item):
            metrics[name] = Metric(0.0, (0.0,) * len(replies))  # without n-grams the package fails
            continue
        value, items = scorer.compute_score(truths, hypotheses)
        metrics[name] = Metric(float(value), tuple(map(float, items)))
    return {name: metrics[name] for name in names}


def _among(metric: Metric, positions: Sequence[int], num_items: int) -> Metric:
    """The metric of some items as one of all, None for the others."""
    by_position = dict(zip(positions, metric.items, strict=True))
    return replace(metric, items=tuple(by_position.get(position) for position in range(num_items)))

"""Answers that keep to a JSON schema: which tokens may come next, by llguidance.

It walks the vocabulary as a trie beside an Earley parser of the schema's grammar, so that a step's tokens are found
without anything computed for the schema beforehand: on SmolLM2's 49,152 tokens 0.04 to 0.12 ms a token, and a schema is
ready in 30 ms. xgrammar brings PyTorch and Triton along; outlines-core computes an automaton of the whole schema first.
What a schema may cost is limited by the library (its default limits), its size and depth by the server.

A tokenizer's trie takes a second or more, once: the scheduler has that and the schemas made aside, while others decode.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from llguidance import LLMatcher, LLTokenizer
from llguidance.hf import from_tokenizer
from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask

from mlx_engine.models.load import LoadedModel
from mlx_engine.process import one_line
from mlx_engine.protocol import EngineError

FIELD = "response_format.json_schema.schema"
# Between the parts of a value. Without a limit a model that likes spaces never gets to the next part.
_WHITESPACE = r"[ \n]{1,16}"


class Constraint:
    """Of one answer. EngineError('invalid_parameters') when the library's limits are reached."""

    def __init__(self, matcher: LLMatcher, vocabulary: int, ends: set[int]) -> None:
        """`ends`: tokens that may come where the value may end."""
        self._matcher = matcher
        self._mask = allocate_token_bitmask(1, vocabulary)
        self._ends = ends

    def allowed(self, count: int) -> np.ndarray:
        """(count,) bool: of the model's tokens, of which the tokenizer may have fewer, those that may come next."""
        fill_next_token_bitmask(self._matcher, self._mask)
        bits = np.unpackbits(
            self._mask[0].view(np.uint8), count=min(count, 32 * self._mask.shape[1]), bitorder="little"
        )
        allowed = np.pad(bits, (0, count - bits.size)).view(bool)
        if self._matcher.is_accepting():
            allowed[[end for end in self._ends if end < count]] = True
        if self._matcher.is_error() or not allowed.any():
            raise _refused(self._matcher.get_error() or "no token of the model can continue the answer")
        return allowed

    def take(self, token: int) -> None:
        if not self._matcher.consume_token(token):
            raise _refused(self._matcher.get_error())

    @property
    def complete(self) -> bool:
        """Nothing but the end may follow."""
        return self._matcher.is_stopped()

    def copy(self) -> Constraint:
        return Constraint(self._matcher.deep_copy(), 32 * self._mask.shape[1], self._ends)


class Grammars:
    """For one thread."""

    def __init__(self) -> None:
        self._tokenizers: WeakKeyDictionary[Any, LLTokenizer] = WeakKeyDictionary()

    def constraint(self, loaded: LoadedModel, ends: set[int], schema: dict[str, Any]) -> Constraint:
        """EngineError('invalid_parameters') for a schema that is wrong, too large, or has what the library doesn't
        know."""
        tokenizer = self._tokenizer(loaded)
        try:
            grammar = LLMatcher.grammar_from_json_schema(
                json.dumps(schema), overrides={"whitespace_pattern": _WHITESPACE}
            )
        except ValueError as error:
            raise _refused(str(error)) from error
        matcher = LLMatcher(tokenizer, grammar, log_level=0)
        if matcher.is_error():
            raise _refused(matcher.get_error())
        return Constraint(matcher, tokenizer.vocab_size, ends)

    def _tokenizer(self, loaded: LoadedModel) -> LLTokenizer:
        key = loaded.tokenizer
        if key not in self._tokenizers:
            try:
                self._tokenizers[key] = from_tokenizer(key._tokenizer)
            except (ValueError, TypeError) as error:
                message = f"response_format: this model's tokenizer can't be constrained ({one_line(error)})"
                raise EngineError("invalid_parameters", message) from error
        return self._tokenizers[key]


def copies(constraint: Constraint | None, count: int) -> Sequence[Constraint | None]:
    return [constraint, *(constraint and constraint.copy() for _ in range(count - 1))]


# The library's words for what is common, which are for programmers of it.
_PLAIN = (
    ("oneOf constraints are not supported", "oneOf is taken only where its alternatives exclude each other: use anyOf"),
    ("anyOf is empty", "it allows no value: an empty enum, anyOf or oneOf"),
    ("Unsatisfiable schema: ", "it allows no value: "),
    ("Default retriever", "a $ref or $schema can only name what is in the schema itself, or a JSON Schema draft"),
    ("Unimplemented keys: ", "has keywords that are not supported: "),
    ("NoExtensionBias", "no token of the model can continue the answer"),
)


def _refused(reason: str) -> EngineError:
    words = one_line(reason.split("<state>")[0], 300)
    for known, plain in _PLAIN:
        if known in words:
            words = plain + words.partition(known)[2] if known.endswith(": ") else plain
            break
    return EngineError("invalid_parameters", f"{FIELD}: {words}")

"""Writes the tokenizer of a GGUF file as tokenizer.json and tokenizer_config.json, from its own tables alone.

Keys: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md#ggml. What `tokenizer.ggml.pre` names stand for is
in llama.cpp's llama-vocab.cpp; the splits below are those of the models' own tokenizer.json files.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from mlx_engine.models.folder import invalid
from mlx_engine.models.gguf_file import GGUFFile

_CONTROL, _USER_DEFINED = 3, 4  # tokenizer.ggml.token_type

_CASELESS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_PUNCTUATION = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA3 = _CASELESS + r"\p{N}{1,3}" + _PUNCTUATION
_QWEN2 = _CASELESS + r"\p{N}" + _PUNCTUATION
_TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|"
    r"\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_FAMILIES = {
    "gpt2": ("gpt-2", "gpt2", "mpt", "olmo", "jais"),
    "digits": ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"),
    "llama3": ("llama3", "llama-v3", "llama-bpe", "falcon3", "dbrx", "smaug-bpe"),
    "qwen2": ("qwen2", "deepseek-r1-qwen", "megrez", "stablelm2"),
    "tekken": ("tekken",),
    "default": ("default",),
}
_FAMILY_OF = {name: family for family, names in _FAMILIES.items() for name in names}
_ADD_BOS_BY_DEFAULT = ("llama3", "tekken")
_WHOLE_WORDS_FIRST = ("llama3", "tekken")  # a word that is a token is one, whatever the merges say
# Ends of turn beside eos: instruction-tuned files often name the pre-training end there.
_ENDS_OF_TURN = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>", "<|endofturn|>", "<|eom_id|>", "</s>")


def write(gguf: GGUFFile, folder: Path) -> dict[str, Any]:
    """Returns the token ids for config.json and generation_config.json: eos_token_id (a list), bos_token_id …"""
    tokens = gguf.require("tokenizer.ggml.tokens", list)
    if not tokens or not all(isinstance(token, str) for token in tokens) or len(set(tokens)) != len(tokens):
        raise invalid(gguf.path, "tokenizer.ggml.tokens: texts, each once, are needed")
    types = gguf.metadata.get("tokenizer.ggml.token_type") or [1] * len(tokens)
    if len(types) != len(tokens):
        raise invalid(gguf.path, f"{len(types)} token types for {len(tokens)} tokens")
    special = {name: _special(gguf, tokens, key) for name, key in _SPECIAL_KEYS.items()}
    tokenizer, add_bos = _model(gguf, tokens, special)
    tokenizer.add_tokens(
        [
            AddedToken(token, special=kind == _CONTROL, normalized=False)
            for token, kind in zip(tokens, types, strict=True)
            if kind in (_CONTROL, _USER_DEFINED) and token
        ]
    )
    add_bos = gguf.metadata.get("tokenizer.ggml.add_bos_token", add_bos) and special["bos"] is not None
    if add_bos:
        tokenizer.post_processor = _bos_first(tokens[special["bos"]], special["bos"])
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    template = gguf.metadata.get("tokenizer.chat_template")
    config = {f"{name}_token": tokens[token] for name, token in special.items() if token is not None and name != "eot"}
    config |= {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    config |= {"add_bos_token": bool(add_bos), "model_max_length": gguf.metadata.get(_context_key(gguf), 1 << 20)}
    if isinstance(template, str):
        config["chat_template"] = template
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1, ensure_ascii=False), "utf-8")
    return _ids(tokens, types, special, template if isinstance(template, str) else "")


_SPECIAL_KEYS = {
    "bos": "tokenizer.ggml.bos_token_id",
    "eos": "tokenizer.ggml.eos_token_id",
    "unk": "tokenizer.ggml.unknown_token_id",
    "pad": "tokenizer.ggml.padding_token_id",
    "eot": "tokenizer.ggml.eot_token_id",
}


def _context_key(gguf: GGUFFile) -> str:
    return f"{gguf.metadata.get('general.architecture')}.context_length"


def _special(gguf: GGUFFile, tokens: list[str], key: str) -> int | None:
    value = gguf.metadata.get(key)
    if value is not None and not (isinstance(value, int) and 0 <= value < len(tokens)):
        raise invalid(gguf.path, f"{key} is {value!r}, not the number of a token")
    return value


def _ids(tokens: list[str], types: list[int], special: dict[str, int | None], template: str) -> dict[str, Any]:
    ends = [special["eos"], special["eot"]]
    ends += [
        i for i, token in enumerate(tokens) if types[i] == _CONTROL and token in _ENDS_OF_TURN and token in template
    ]
    ids: dict[str, Any] = {"eos_token_id": sorted({end for end in ends if end is not None})}
    return ids | {f"{name}_token_id": special[name] for name in ("bos", "pad") if special[name] is not None}


def _bos_first(token: str, number: int) -> processors.TemplateProcessing:
    name = token.replace(":", "::")  # the template language's own separator
    return processors.TemplateProcessing(single=f"{name} $A", pair=f"{name} $A $B:1", special_tokens=[(token, number)])


def _model(gguf: GGUFFile, tokens: list[str], special: dict[str, int | None]) -> tuple[Tokenizer, bool]:
    """The tokenizer without its added tokens, and whether such models start with BOS unless the file says otherwise."""
    match gguf.require("tokenizer.ggml.model", str):
        case "gpt2":
            return _byte_level(gguf, tokens)
        case "llama":
            return _sentencepiece(gguf, tokens, special["unk"]), True
        case other:
            raise invalid(
                gguf.path, f"tokenizer model {other!r}; gpt2 (byte-level BPE) and llama (SentencePiece) are read"
            )


# ---- byte-level BPE ----


def _byte_level(gguf: GGUFFile, tokens: list[str]) -> tuple[Tokenizer, bool]:
    pre = gguf.metadata.get("tokenizer.ggml.pre", "default")
    if (family := _FAMILY_OF.get(pre)) is None:
        raise invalid(gguf.path, f"tokenizer.ggml.pre {pre!r} is not known; {', '.join(sorted(_FAMILY_OF))} are")
    vocabulary = {token: number for number, token in enumerate(tokens)}
    merges = [_pair(gguf, merge, vocabulary) for merge in gguf.require("tokenizer.ggml.merges", list)]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=family in _WHOLE_WORDS_FIRST))
    tokenizer.pre_tokenizer = _pre_tokenizer(family)
    tokenizer.decoder = decoders.ByteLevel()
    if family == "qwen2" and pre != "stablelm2":
        tokenizer.normalizer = normalizers.NFC()
    return tokenizer, family in _ADD_BOS_BY_DEFAULT


def _pair(gguf: GGUFFile, merge: object, vocabulary: dict[str, int]) -> tuple[str, str]:
    left, _, right = str(merge).partition(" ")
    if left not in vocabulary or right not in vocabulary or left + right not in vocabulary:
        raise invalid(gguf.path, f"tokenizer.ggml.merges: {merge!r} is not a pair of tokens that make a token")
    return left, right


def _pre_tokenizer(family: str) -> pre_tokenizers.PreTokenizer:
    gpt2 = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    match family:
        case "gpt2":
            return gpt2
        case "digits":
            return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), gpt2])
        case "default":
            marks, numbers = (_split(p) for p in (r"[\p{P}\$\+<=>\^~\|]+", r"\p{N}+"))
            threes = _split("[0-9][0-9][0-9]")
            words = _split(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)")
            return pre_tokenizers.Sequence([marks, words, numbers, threes, _bytes()])
    return pre_tokenizers.Sequence([_split({"llama3": _LLAMA3, "qwen2": _QWEN2, "tekken": _TEKKEN}[family]), _bytes()])


def _split(pattern: str) -> pre_tokenizers.Split:
    return pre_tokenizers.Split(Regex(pattern), behavior="isolated")


def _bytes() -> pre_tokenizers.ByteLevel:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


# ---- SentencePiece ----


def _sentencepiece(gguf: GGUFFile, tokens: list[str], unknown: int | None) -> Tokenizer:
    """The scores rank the pieces; a merge for every way to put a piece together makes the same choices as they do."""
    scores = gguf.require("tokenizer.ggml.scores", list)
    if len(scores) != len(tokens):
        raise invalid(gguf.path, f"{len(scores)} token scores for {len(tokens)} tokens")
    vocabulary = {token: number for number, token in enumerate(tokens)}
    ranked = sorted(range(len(tokens)), key=lambda number: (-scores[number], number))
    pieces = [tokens[number] for number in ranked if len(tokens[number]) <= 64]
    merges = [
        (piece[:cut], piece[cut:])
        for piece in pieces
        for cut in range(1, len(piece))
        if piece[:cut] in vocabulary and piece[cut:] in vocabulary
    ]
    unknown_token = None if unknown is None else tokens[unknown]
    tokenizer = Tokenizer(
        models.BPE(vocabulary, merges, unk_token=unknown_token, fuse_unk=True, byte_fallback="<0x00>" in vocabulary)
    )
    spaces, plain = normalizers.Replace(" ", "▁"), decoders.Replace("▁", " ")
    prefix = gguf.metadata.get("tokenizer.ggml.add_space_prefix", True)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), spaces]) if prefix else spaces
    strip = [decoders.Strip(" ", 1, 0)] if prefix else []
    tokenizer.decoder = decoders.Sequence([plain, decoders.ByteFallback(), decoders.Fuse(), *strip])
    return tokenizer
